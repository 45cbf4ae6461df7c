"""`sentinel tables`: what transactions are looked up in."""

from pathlib import Path
from typing import Annotated

import typer

from sentinel.cli.options import Home, Json, renames_in, settings_of
from sentinel.cli.terminal import tell
from sentinel.commands.terminal import as_json as shown_json
from sentinel.commands.terminal import shown
from sentinel.errors import InvalidDefinition
from sentinel.events.reading import Dialect, Reading

tables = typer.Typer(help="Load and look at the tables that transactions are looked up in.", no_args_is_help=True)


@tables.command("load")
def tables_load(
    name: Annotated[str, typer.Argument(help="A table that the champion's detector declares.")],
    file: Annotated[Path, typer.Argument(help="Its rows: .csv, .jsonl or .parquet, a folder of them, or a pattern.")],
    home: Home = None,
    valid_from: Annotated[
        str | None,
        typer.Option("--valid-from", help="Since when rows hold [the beginning, where the table is empty; else now]."),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Remove the rows that the file lacks.")] = False,
    renames: Annotated[str | None, typer.Option("--map", help="COLUMN=FIELD,COLUMN=FIELD.")] = None,
    separator: Annotated[str | None, typer.Option("--separator", help="Of CSV columns [found in the head].")] = None,
    encoding: Annotated[str | None, typer.Option("--encoding", help="Of text, as latin-1 [UTF-8].")] = None,
    decimal: Annotated[str | None, typer.Option("--decimal", help="`,` where numbers are written as 1.234,50.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at rows that cannot be used.")] = False,
    as_json: Json = False,
) -> None:
    """Load the rows of a file into a table: they are entries of the log, and count from the next transaction on.

    A server that runs is asked. A row whose columns are all empty is removed. A column `valid_from` says since when
    each row holds.
    """
    from sentinel.commands.load_table import load_table

    if decimal not in (None, ".", ","):
        raise InvalidDefinition(f"--decimal is {decimal!r}; write . or ,")
    reading = Reading(
        renames=renames_in(renames),
        dialect=Dialect(separator="\t" if separator == "tab" else separator, encoding=encoding),
        decimal=decimal,
        strict=strict,
    )
    done = load_table(settings_of(home), name, file, reading, valid_from=valid_from, replaces=replace)
    lines = [
        f"[yellow]skipped {n:,} rows:[/yellow] {shown(reason)}, first {shown(done.examples[reason])}"
        if reason in done.examples
        else f"[yellow]skipped {n:,} rows:[/yellow] {shown(reason)}"
        for reason, n in done.skipped.items()
    ]
    if done.repeated:
        lines.append(f"{done.repeated:,} rows have the key and valid_from of a later one: the last one counts")
    since = f" from {done.valid_from} on" if done.valid_from else ""
    lines.append(f"{name}: {done.rows:,} rows, {done.changed:,} changed{since}, {done.removed:,} removed")
    tell(done, lines, as_json=as_json)


@tables.command("show")
def tables_show(
    name: Annotated[str | None, typer.Argument(help="A table; all of them when left out.")] = None,
    key: Annotated[str | None, typer.Argument(help="What a transaction is looked up by, as 10.1.2.3.")] = None,
    home: Home = None,
    as_of: Annotated[str | None, typer.Option("--as-of", help="At which moment [now].")] = None,
    as_json: Json = False,
) -> None:
    """Show the tables with their sizes, or the row that a transaction with this key would find."""
    from sentinel.commands.tables import row_of, tables_of

    if name is not None and key is not None:
        row = row_of(settings_of(home), name, key, as_of)
        tell(row, [shown(shown_json(row))], as_json=as_json)
        return
    found = [one for one in tables_of(settings_of(home)) if name in (None, one.name)]
    lines = [
        f"{one.name}: by {one.by}{f' in ranges of {one.ranges}' if one.ranges else ''}, {one.rows:,} rows in "
        f"{one.versions:,} versions, {one.bytes:,} bytes, last change {one.last_change or 'never'}"
        for one in found
    ]
    tell({"tables": found}, lines or ["no such table is declared"], as_json=as_json)
