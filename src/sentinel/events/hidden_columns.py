"""Columns of a history with secrets and card numbers hidden, as the server hides them in a transaction."""

from collections.abc import Callable

import polars as pl

from sentinel.errors import InvalidInput
from sentinel.events.card_numbers import SHORTEST
from sentinel.events.reader import TransactionReader, kept_of
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
    hidden: list[pl.Series] = []
    for name, (first6, last4) in schema.kept_digits.items():
        for place, one in enumerate((first6, last4)):
            came = frame[one] if one in frame.columns else pl.Series(one, [None] * len(frame), pl.String)
            made = _mapped(frame[name], lambda text, place=place: kept_of(text)[place])  # type: ignore[misc]
            is_done = _mapped(frame[name], lambda text: "y" if is_hidden(text) else None).is_not_null()
            hidden.append(made.zip_with(~is_done, came).alias(one))
    hidden += [_mapped(frame[name], secrets.hidden) for name in schema.hidden]
    refused = pl.Series(REFUSED, [False] * len(frame), pl.Boolean)
    for name in schema.searched:
        column = frame[name]
        if secrets.card_numbers != "allow" and column.str.contains(_MAY_HOLD).any():
            scrubbed = _mapped(column, lambda text, name=name: _text_or_none(reader, name, text))  # type: ignore[misc]
            refused = refused | (scrubbed.is_null() & column.is_not_null())
            hidden.append(scrubbed)
    return frame.with_columns(*hidden, refused)


def _text_or_none(reader: TransactionReader, name: str, text: str) -> str | None:
    try:
        return reader.text(name, text)
    except InvalidInput:
        return None


def _mapped(column: pl.Series, change: Callable[[str], str | None]) -> pl.Series:
    """Each distinct text changed once; null stays."""
    distinct = column.unique().drop_nulls()
    return column.replace_strict(
        distinct, pl.Series([change(text) for text in distinct], dtype=pl.String), default=None, return_dtype=pl.String
    )
