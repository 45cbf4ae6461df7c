"""Options that several commands have, and what is made of them."""

from pathlib import Path
from typing import Annotated

import typer

from sentinel.config import DEFAULT_HOME, Settings, read_settings
from sentinel.errors import InvalidDefinition

DetectorName = Annotated[str, typer.Option("--detector", "-d", help="A preset, or a path to your detector's .py file.")]
DataFile = Annotated[Path, typer.Option("--data", help="History: .csv, .parquet, .jsonl or .ndjson.")]
Home = Annotated[
    Path | None, typer.Option("--home", help=f"Folder of models and log [$SENTINEL_HOME, {DEFAULT_HOME}].")
]
Renames = Annotated[str | None, typer.Option("--map", help="Columns of your file by field: COLUMN=FIELD,COLUMN=FIELD.")]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at rows that cannot be used instead of skipping them.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]
Port = Annotated[int | None, typer.Option("--port", "-p", help="Where to listen [$SENTINEL_PORT, 8000].")]


def renames_in(text: str | None) -> dict[str, str]:
    """Fields by the columns that hold them, of `--map`. Raises InvalidDefinition."""
    pairs = [pair.partition("=") for pair in (text or "").split(",") if pair]
    wrong = [pair[0] for pair in pairs if not (pair[0] and pair[2])]
    if wrong:
        raise InvalidDefinition(f"--map: {wrong[0]!r} is no pair; write COLUMN=FIELD,COLUMN=FIELD")
    return {column.strip(): field.strip() for column, _, field in pairs}


def settings_of(home: Path | None, **given: object) -> Settings:
    """The settings of the environment, but for what was given on the command line. Raises InvalidDefinition."""
    return read_settings({"home": home, **given})
