"""How files are read where they do not say so themselves; whoever gives it needs none of what reads them."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from sentinel.errors import DataProblem
from sentinel.events.card_numbers import quoted
from sentinel.events.encodings import is_encoding
from sentinel.events.schema import Schema
from sentinel.events.times import TimeForm


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """How a CSV file is written, where that is not to be found out: its separator, and its encoding (`latin-1`)."""

    separator: str | None = None
    encoding: str | None = None

    def __post_init__(self) -> None:
        if self.separator is not None and (len(self.separator) != 1 or not self.separator.isascii()):
            raise DataProblem(f"--separator {quoted(self.separator)} is no single character")
        if self.encoding is not None and not is_encoding(self.encoding):
            raise DataProblem(
                f"--encoding {quoted(self.encoding)} is no encoding of texts in files; write utf-8, utf-16 or latin-1"
            )


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """How a file is read where it does not say so itself.

    `renames` maps a column of the file to a field of the schema, on top of `schema.columns`. `timezone`, `time_format`,
    `labels`, `decimal` and the encoding come in the place of the schema's, where they are given. `events` is a second
    file with the context events; `without_events` says that there is none, and that the features count none then.
    `tables` has the files of tables by their names, None for one to do without.
    """

    renames: Mapping[str, str] = {}
    dialect: Dialect = Dialect()
    decimal: str | None = None
    timezone: str | None = None
    time_format: str | None = None
    labels: Mapping[str, int] = {}
    events: Path | None = None
    without_events: bool = False
    tables: Mapping[str, Path | None] = {}
    strict: bool = False

    def time_form(self, schema: Schema) -> TimeForm:
        """How times are written."""
        zone, form = self.timezone or schema.timezone, self.time_format or schema.time_format
        return TimeForm.of(zone, form, schema.time_from)

    def of_tables(self) -> "Reading":
        """How the files of tables are read: as this one, but for what is this file's own."""
        return Reading(
            dialect=Dialect(encoding=self.dialect.encoding),
            decimal=self.decimal,
            timezone=self.timezone,
            time_format=self.time_format,
            strict=self.strict,
        )

    def dialect_of(self, schema: Schema) -> Dialect:
        """How a CSV file is written."""
        return Dialect(separator=self.dialect.separator, encoding=self.dialect.encoding or schema.encoding)
