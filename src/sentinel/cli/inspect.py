"""The command that looks into a file before anything is known of it."""

from pathlib import Path
from typing import Annotated

import typer

from sentinel.cli.options import Json, reads_history, settings_of
from sentinel.cli.terminal import print_json, tell_lines, terminal
from sentinel.errors import DataProblem
from sentinel.events.reading import Reading


@reads_history
def inspect(
    data: Annotated[Path, typer.Argument(help="A .csv, .jsonl or .parquet file, a folder of them, or a pattern.")],
    html: Annotated[
        Path | None, typer.Option("--html", help="Page to write, with plots; it needs nothing else.")
    ] = None,
    detector_out: Annotated[
        Path | None, typer.Option("--detector-out", help="Python file to write: a detector that trains as it stands.")
    ] = None,
    as_json: Json = False,
    *,
    reading: Reading,
) -> None:
    """Look into a file: columns, what would be left out, labels, time, leaks, and a detector to begin with."""
    from sentinel.commands.inspect import inspect_data, lines_of, next_commands, table_of

    if reading.tables:
        raise DataProblem(
            "--table: a file is looked into before there is a detector that declares tables; leave it out"
        )
    found = inspect_data(settings_of(None), data, reading, html=html, detector_out=detector_out)
    if as_json:
        print_json(found)
    else:
        terminal.print(table_of(found))
        tell_lines(lines_of(found))
        written = [str(one) for one in (html, detector_out if found.detector else None) if one is not None]
        tell_lines([f"written: {', '.join(written)}"] if written else [])
        tell_lines(f"  {line}" for line in next_commands(found, reading, detector_out))
    if found.detector is None and detector_out is not None:
        raise DataProblem(f"{detector_out} is not written: {found.problem}")
    if reading.strict and found.overview is not None and found.overview.left_out:
        raise typer.Exit(1)
