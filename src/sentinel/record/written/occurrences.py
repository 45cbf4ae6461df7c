"""Occurrences: of a condition that begins to hold somebody is told once, and not again within a quiet period."""

from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa

from sentinel.record.written import outbox
from sentinel.record.written.tables import occurrences

_LONGEST = 256


class Condition(NamedTuple):
    """Something that holds now and that operators have to know: a `kind` of message, `about` what, and the sentence."""

    kind: str
    about: str
    text: str


def note(writer: sa.Connection, holding: Sequence[Condition], quiet_us: int, now_us: int) -> list[Condition]:
    """Put down a message for each condition that has begun to hold; those that somebody is told of.

    `holding` is all that holds now: what is not in it has ended. One that ends and begins again within `quiet_us` of
    the last message is told to nobody.
    """
    known = {(row.kind, row.about): row for row in writer.execute(sa.select(occurrences)).all()}
    by_key = {(one.kind, one.about[:_LONGEST]): one for one in holding}
    told = []
    for key in known.keys() | by_key.keys():
        row, one = known.get(key), by_key.get(key)
        if (row is not None and row.is_on) == (one is not None):
            continue
        where = sa.and_(occurrences.c.kind == key[0], occurrences.c.about == key[1])
        if one is None:
            writer.execute(occurrences.update().where(where).values(is_on=False))
            continue
        told_us = None if row is None else row.told_us
        if told_us is None or now_us - told_us >= quiet_us:
            outbox.put(writer, one.kind, key[1], {"text": one.text}, now_us)
            told.append(one)
            told_us = now_us
        writer.execute(occurrences.delete().where(where))
        row_now = {"kind": key[0], "about": key[1], "since_us": now_us, "told_us": told_us, "is_on": True}
        writer.execute(occurrences.insert().values(row_now))
    return told
