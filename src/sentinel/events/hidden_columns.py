"""Columns of a history with secrets and card numbers hidden, as the server hides them in a transaction."""

from functools import partial

import polars as pl

from sentinel.errors import InvalidInput
from sentinel.events.card_numbers import SHORTEST
from sentinel.events.cells import mapped
from sentinel.events.reader import TransactionReader, taken_parts
from sentinel.events.schema import Schema
from sentinel.events.secrets import Secrets, is_hidden

REFUSED = "_refused"
_MAY_HOLD = rf"(?:\d[^\d]{{0,3}}){{{SHORTEST - 1}}}\d"


def hide_columns(frame: pl.DataFrame, schema: Schema, secrets: Secrets) -> pl.DataFrame:
    """The history, its texts under the names of the fields, with nothing secret in them.

    The further column `REFUSED` is true for rows with a card number that is to be refused. Raises InvalidDefinition
    without a key where one is needed.
    """
    reader = TransactionReader(schema, secrets)
    hidden: dict[str, pl.Series] = {}
    for name, parts in taken_parts(schema).items():
        is_done = mapped(frame[name], lambda text: "y" if is_hidden(text) else None, pl.String).is_not_null()
        for part, take, *_ in parts:
            came = frame[part] if part in frame.columns else pl.Series(part, [None] * len(frame), pl.String)
            hidden[part] = mapped(frame[name], take, pl.String).zip_with(~is_done, came).alias(part)
    hidden |= {name: mapped(frame[name], secrets.hidden, pl.String) for name in schema.hidden}
    refused = pl.Series(REFUSED, [False] * len(frame), pl.Boolean)
    for name in schema.searched:
        column = hidden.get(name, frame[name])
        if secrets.card_numbers != "allow" and column.str.contains(_MAY_HOLD).any():
            scrubbed = mapped(column, partial(_text_or_none, reader, name), pl.String)
            refused = refused | (scrubbed.is_null() & column.is_not_null())
            hidden[name] = scrubbed
    return frame.with_columns(*hidden.values(), refused)


def _text_or_none(reader: TransactionReader, name: str, text: str) -> str | None:
    try:
        return reader.text(name, text)
    except InvalidInput:
        return None
