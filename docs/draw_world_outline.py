"""The outlines of the console's map: `uv run --with pyshp docs/draw_world_outline.py naturalearth_lowres OUT.svg`.

The first argument is the shapefile of Natural Earth's countries, 1:110m (public domain), without its ending; the wheel
of geopandas 0.14.4 ships it in `geopandas/datasets/naturalearth_lowres`. Written are tenths of degrees east and south.
"""

import sys
from itertools import pairwise
from pathlib import Path

import shapefile

FARTHEST_SOUTH = 600  # tenths of degrees: without Antarctica, where nobody pays
HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="-1800 -840 3600 1440"><!-- The outlines of countries: Natural '
    "Earth, 1:110m, Admin 0 (public domain), as geopandas 0.14.4 ships them (naturalearth_lowres). In tenths of "
    'degrees east and south, rounded; without Antarctica. --><path id="countries" d="'
)


def main() -> None:
    """Read, round, write."""
    source, target = sys.argv[1:]
    rings = []
    for shape in shapefile.Reader(source).shapes():
        ends = [*shape.parts[1:], len(shape.points)]
        for begin, end in zip(shape.parts, ends, strict=True):
            points = [(round(x * 10), round(-y * 10)) for x, y in shape.points[begin:end]]
            points = [one for n, one in enumerate(points) if n == 0 or one != points[n - 1]]
            if len(points) >= 4 and max(y for _, y in points) <= FARTHEST_SOUTH:
                rings.append(outline(points))
    Path(target).write_text(HEAD + "".join(rings) + '"/></svg>\n')


def outline(points: list[tuple[int, int]]) -> str:
    """A closed ring as a path of SVG, by its steps."""
    steps = (f"{x2 - x1} {y2 - y1}" for (x1, y1), (x2, y2) in pairwise(points[:-1]))
    return f"M{points[0][0]} {points[0][1]}l{' '.join(steps)}z".replace(" -", "-")


if __name__ == "__main__":
    main()
