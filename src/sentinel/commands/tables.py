"""`sentinel tables`: what the log says of the tables that transactions are looked up in."""

from contextlib import closing
from typing import Any

from sentinel.commands.registry_of_home import registry_of
from sentinel.config import Settings
from sentinel.errors import InvalidDefinition, NotFound
from sentinel.events.card_numbers import quoted
from sentinel.events.reader import TransactionReader
from sentinel.events.reference_tables.rows import TableFacts, facts_of, shown_row
from sentinel.events.reference_tables.versions import Tables
from sentinel.events.schema import Schema
from sentinel.events.times import clock_us, instant_us, iso
from sentinel.model.bundle import read_manifest
from sentinel.record.applied import HomeDeployment
from sentinel.record.home_reader import open_log
from sentinel.record.snapshots import Snapshots
from sentinel.record.table_state import TableState


def tables_of(settings: Settings) -> list[TableFacts]:
    """The tables of the champion's detector, and how much is in each. Raises SentinelError."""
    schema, tables = schema_of(settings, None), tables_in(settings)
    return [facts_of(name, table, tables) for name, table in schema.tables.items()]


def row_of(settings: Settings, name: str, text: str, as_of: str | None) -> dict[str, Any]:
    """The row in force for a text, now or at a moment. Raises NotFound, SentinelError."""
    schema, time_us = schema_of(settings, name), clock_us() if as_of is None else instant_us(as_of)
    table = schema.tables[name]
    texts = TransactionReader(schema, settings.secrets()).texts(table.by, text)
    versions = tables_in(settings).of(name, table.kind)
    found = [row for one in texts if (row := versions.find(one, time_us)) is not None]
    if not found:
        raise NotFound(f"the table {name} has no row in force for {quoted(text, 200)} at {iso(time_us)}")
    return {"table": name, "as_of": iso(time_us), **shown_row(schema, name, found[0])}


def schema_of(settings: Settings, name: str | None) -> Schema:
    """The champion's schema, which has a table of this name."""
    champion = HomeDeployment(settings.home).champion()
    schema = read_manifest(registry_of(settings).path(champion)).plan.schema
    if name is not None and name not in schema.tables:
        raise InvalidDefinition(
            f"the detector of {champion} has no table {quoted(name, 80)}; it has {', '.join(schema.tables) or 'none'}"
        )
    return schema


def tables_in(settings: Settings) -> Tables:
    """The tables as they are by the log."""
    with closing(open_log(settings.home)) as log:
        return TableState.of(log, Snapshots(settings.snapshots)).tables
