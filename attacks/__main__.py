"""`make attack`: every attack against servers of our own, what was tried, and what was held."""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from attacks import callers, contents, floods, homes, shapes, smuggling
from attacks.arena import Arena

_ATTACKS = [one for file in (smuggling, floods, contents, callers, homes, shapes) for one in file.ATTACKS]


def main() -> int:
    """Try all, or those that are named; the exit code is 1 when any was not held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"any of {', '.join(one.name for one in _ATTACKS)}; all without one")
    parser.add_argument("--scale", type=int, default=1, help="how many times as much is tried")
    parser.add_argument("--require", action="store_true", help="an attack that cannot be tried here counts as not held")
    parser.add_argument("--json", action="store_true", help="print one JSON object for machines")
    given = parser.parse_args()
    if unknown := set(given.names) - {one.name for one in _ATTACKS}:
        parser.error(f"there is no attack {', '.join(sorted(unknown))}")
    console = Console(stderr=given.json)
    results = []
    with tempfile.TemporaryDirectory(prefix="attacks-") as folder:
        arena = Arena(Path(folder), given.scale)
        with console.status("training the model of the attacked servers"):
            arena.prepare()
        for one in _ATTACKS:
            if given.names and one.name not in given.names:
                continue
            begun = time.monotonic()
            with console.status(f"{one.name}: {one.wants}"):
                tried = one.attempt(arena)
            held = not tried.broken and (tried.skipped is None or not given.require)
            results.append({"attack": one.name, "wants": one.wants, **tried._asdict(), "held": held})
            verdict = "held" if held else "NOT HELD"
            console.print(f"{one.name:12} {tried.tried:7,} tried  {verdict}  {time.monotonic() - begun:.0f} s")
            if tried.figures:
                console.print(f"    {tried.figures}", markup=False, highlight=False)
            if tried.skipped:
                console.print(f"    not tried: {tried.skipped}")
            for problem in tried.broken:
                console.print(f"    {problem}", markup=False, highlight=False)
    if given.json:
        print(json.dumps(results))
    else:
        console.print(_table(results))
    return 0 if all(one["held"] for one in results) else 1


def _table(results: list[dict[str, object]]) -> Table:
    table = Table("attack", "what the attacker wants", "tried", "held")
    for one in results:
        shown = "not tried" if one["skipped"] else "yes" if one["held"] else "NO"
        table.add_row(str(one["attack"]), str(one["wants"]), f"{one['tried']:,}", shown)
    return table


if __name__ == "__main__":
    sys.exit(main())
