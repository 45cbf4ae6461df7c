"""Options that several commands have, and what is made of them."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from sentinel.config import DEFAULT_HOME, Settings, read_settings
from sentinel.errors import InvalidDefinition
from sentinel.events.labels import labels_of
from sentinel.events.reading import Dialect, Reading

DetectorName = Annotated[str, typer.Option("--detector", "-d", help="A preset, or a path to your detector's .py file.")]
DataFile = Annotated[
    Path, typer.Option("--data", help="History: a .csv, .jsonl or .parquet file, a folder of them, or a pattern.")
]
Home = Annotated[
    Path | None, typer.Option("--home", help=f"Folder of models and log [$SENTINEL_HOME, {DEFAULT_HOME}].")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]
WITHOUT = "none"
"""In the place of a file: there is none, on purpose."""

Port = Annotated[int | None, typer.Option("--port", "-p", help="Where to listen [$SENTINEL_PORT, 8000].")]


def settings_of(home: Path | None, **given: object) -> Settings:
    """The settings of the environment, but for what was given on the command line. Raises InvalidDefinition."""
    return read_settings({"home": home, **given})


def reads_history(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options that say how a file is read; it is given them as `reading`, a Reading."""
    options = inspect.signature(_reading)

    @functools.wraps(command)
    def run(**given: Any) -> None:
        command(reading=_reading(**{name: given.pop(name) for name in options.parameters}), **given)

    own = [one for name, one in inspect.signature(command).parameters.items() if name != "reading"]
    after = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in options.parameters.values()]
    first = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own]
    run.__signature__ = inspect.Signature(first + after)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in first + after}
    return run


def _reading(
    renames: Annotated[
        str | None, typer.Option("--map", help="Columns of your file by field: COLUMN=FIELD,COLUMN=FIELD.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option("--labels", help="What your label words mean, as chargeback=1,ok=0.")
    ] = None,
    timezone: Annotated[
        str | None, typer.Option("--timezone", help="Of times without an offset, as Europe/Madrid [UTC].")
    ] = None,
    time_format: Annotated[
        str | None, typer.Option("--time-format", help="Of times that are not ISO 8601, as '%m/%d/%Y %H:%M'.")
    ] = None,
    separator: Annotated[
        str | None, typer.Option("--separator", help="Of CSV columns, one character or `tab` [found in the head].")
    ] = None,
    encoding: Annotated[
        str | None, typer.Option("--encoding", help="Of text, as latin-1 or cp1252 [UTF-8, or UTF-16 with its mark].")
    ] = None,
    decimal: Annotated[str | None, typer.Option("--decimal", help="`,` where numbers are written as 1.234,50.")] = None,
    events_file: Annotated[
        Path | None,
        typer.Option("--events-file", help="A second file, with the context events of the detector; none without any."),
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option("--table", help="A table that the detector declares: NAME=FILE, or NAME=none to do without."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at rows that cannot be used instead of leaving them out.")
    ] = False,
) -> Reading:
    """How a file is read. Raises InvalidDefinition."""
    if decimal not in (None, ".", ","):
        raise InvalidDefinition(f"--decimal is {decimal!r}; write . or ,")
    return Reading(
        renames=renames_in(renames),
        dialect=Dialect(separator="\t" if separator == "tab" else separator, encoding=encoding),
        decimal=decimal,
        timezone=timezone,
        time_format=time_format,
        labels=labels_of(labels) if labels else {},
        events=None if str(events_file) == WITHOUT else events_file,
        without_events=str(events_file) == WITHOUT,
        tables=files_of(table or []),
        strict=strict,
    )


def renames_in(text: str | None) -> dict[str, str]:
    """Fields by the columns that hold them, of `--map`. Raises InvalidDefinition."""
    pairs = [pair.partition("=") for pair in (text or "").split(",") if pair]
    wrong = [pair[0] for pair in pairs if not (pair[0] and pair[2])]
    if wrong:
        raise InvalidDefinition(f"--map: {wrong[0]!r} is no pair; write COLUMN=FIELD,COLUMN=FIELD")
    return {column.strip(): field.strip() for column, _, field in pairs}


def files_of(pairs: list[str]) -> dict[str, Path | None]:
    """Files by the tables that they hold, of `--table`. Raises InvalidDefinition."""
    found: dict[str, Path | None] = {}
    for pair in pairs:
        name, _, file = pair.partition("=")
        if not (name and file) or name in found:
            raise InvalidDefinition(f"--table: {pair!r} is no pair, or comes twice; write NAME=FILE, or NAME=none")
        found[name] = None if file == "none" else Path(file)
    return found
