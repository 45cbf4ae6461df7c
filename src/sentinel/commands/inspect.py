"""`sentinel inspect`: what is in a file, for people, as a page, and as a detector that can be trained."""

import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rich.table import Table

from sentinel.commands.progress import stages
from sentinel.commands.terminal import shown
from sentinel.config import Settings
from sentinel.detectors import load_detector
from sentinel.errors import DataProblem
from sentinel.events.reading import Reading
from sentinel.events.times import clock_us, iso
from sentinel.inspect.inspection import Inspection, inspect_file
from sentinel.inspect.leakage import LATE
from sentinel.inspect.page import html_of
from sentinel.inspect.roles import Role

_DAY_US = 86_400_000_000
_SOME_WORDS = 8


def inspect_data(
    settings: Settings, data: Path, reading: Reading, *, html: Path | None, detector_out: Path | None
) -> Inspection:
    """Look into a file with a bar, and write the page and the detector. Raises DataProblem."""
    with stages() as stage:
        found = inspect_file(data, reading, secrets=settings.secrets(), now_us=clock_us(), stage=stage)
    if detector_out is not None and found.detector is not None:
        if detector_out.suffix != ".py":
            raise DataProblem(f"{detector_out}: a detector is a Python file; end the name in .py")
        _check_that_it_loads(detector_out.name, found.detector)
        _write(detector_out, found.detector)
    if html is not None:
        _write(html, html_of(found, next_commands(found, reading, detector_out)))
    return found


def _check_that_it_loads(name: str, detector: str) -> None:
    """Raise InvalidDefinition for a detector file that is none, before it takes the place of another."""
    with tempfile.TemporaryDirectory(prefix="sentinel-") as folder:
        path = Path(folder) / name
        path.write_text(detector, encoding="utf-8")
        load_detector(str(path))


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataProblem(f"{path} cannot be written: {error.strerror or error}") from error


def next_commands(found: Inspection, reading: Reading, detector_out: Path | None) -> list[str]:
    """The commands that come next: make the detector a file, train it, serve it."""
    if found.detector is None or found.overview is None or found.overview.frauds == 0:
        return []
    file = detector_out or Path("my_detector.py")
    separator = reading.dialect.separator
    further = "" if separator is None else f" --separator {'tab' if separator == chr(9) else shlex.quote(separator)}"
    data = shlex.quote(found.path)
    first = [] if detector_out is not None else [f"sentinel inspect {data}{further} --detector-out {file}"]
    return [*first, f"sentinel train --detector {shlex.quote(str(file))} --data {data}{further}", "sentinel serve"]


def table_of(found: Inspection) -> Table:
    """The columns as a table for a terminal."""
    why = {one.column: one.why for one in found.left}
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("column", "values", "role", "missing", "different", "for example"):
        table.add_column(name, justify="right" if name in ("missing", "different") else "left", overflow="fold")
    for one in found.columns:
        role = "[dim]not used[/dim]" if one.name in why else f"[bold]{found.roles.get(one.name, '')}[/bold]"
        missing = f"{100 * one.missing / one.rows:.3g} %" if one.missing else ""
        about = "" if one.distinct_is_exact else "~"
        table.add_row(
            shown(one.name), one.kind, role, missing, f"{about}{one.distinct:,}", shown(", ".join(one.examples))
        )
    return table


def lines_of(found: Inspection) -> Iterator[str]:
    """What else there is to say, a line each; the worst last."""
    if found.overview is not None:
        yield from _history(found)
    yield from _words(found)
    yield from (f"not used: {shown(one.column)}: {shown(one.why)}" for one in found.left)
    yield from (f"[yellow]note:[/yellow] {shown(note)}" for note in found.notes)
    yield from (f"[red]leak?[/red] {shown(leak.column)}: {leak.tells}; {LATE}" for leak in found.suspects)
    if found.problem is not None:
        yield f"[red]no detector:[/red] {shown(found.problem)}"


def _history(found: Inspection) -> Iterator[str]:
    one = found.overview
    if one is None:
        return
    usable = f"{found.rows:,} rows, {one.transactions:,} usable"
    yield f"{usable}, {iso(one.first_us)} to {iso(one.last_us)} ({one.span_us / _DAY_US:,.1f} days)"
    share = f" ({100 * one.frauds / one.labelled:.3g} %)" if one.labelled else ""
    unknown = one.transactions - one.labelled
    yield f"{one.labelled:,} labelled, {one.frauds:,} of them fraud{share}, {unknown:,} without a label"
    for reason, n in one.left_out.items():
        example = f", first {shown(str(one.examples[reason]))}" if reason in one.examples else ""
        yield f"[yellow]left out {n:,} rows:[/yellow] {shown(reason)}{example}"
    if one.repeats is not None:
        yield one.repeats
    if one.quiet is not None:
        yield one.quiet
    yield from (gap.said for gap in one.gaps)


def _words(found: Inspection) -> Iterator[str]:
    label = found.column_of(Role.LABEL)
    if label is None or not found.label_counts:
        return
    counts = sorted(found.label_counts.items(), key=lambda one: -one[1])
    told = [f"{shown(word)} = {found.meaning(word)} ({n:,})" for word, n in counts[:_SOME_WORDS]]
    yield f"labels in {shown(label)}: {', '.join(told)}{', ...' if len(counts) > _SOME_WORDS else ''}"
