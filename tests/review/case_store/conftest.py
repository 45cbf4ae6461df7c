"""A database of what people write, in a file and in PostgreSQL, and decisions that ask for a person."""

import pytest
import sqlalchemy as sa

from sentinel.review.case_store.asking import Asking, open_or_join
from sentinel.review.case_store.desk import Desk
from sentinel.review.cases.deadlines import USUAL, read_deadlines
from sentinel.review.cases.moves import Analyst
from tests.written_database import database

__all__ = ["database"]

DEADLINES = read_deadlines(USUAL)
ROLES = {"viewer", "analyst"}


class Office:
    """A desk with people at it, and decisions that come in."""

    def __init__(self, database):
        self.database = database
        self.desk = Desk(database, DEADLINES)
        self.ana, self.bob = Analyst("ana", ROLES), Analyst("bob", ROLES)
        self.lee = Analyst("lee", ROLES | {"rule editor", "operator"})
        self._next = 0

    def comes(self, card="c1", *, amount=10_000, probability=0.8, now_us=1_000_000, why="review", signs=(), decimals=2):
        """The case that another decision is in."""
        self._next += 1
        one = Asking(
            self._next, f"t{self._next}", now_us, amount, decimals, probability, "review", why, frozenset(signs), "card", card,
        )  # fmt: skip
        with self.database.writing() as writer:
            return open_or_join(writer, one, DEADLINES, now_us)

    def decide(self, number, outcome, who, now_us, *, is_fraud=None):
        """Decide a case as the server does, whose outcomes are durable at once."""
        begun = self.desk.to_decide(number, self.version(number), who, now_us)
        told = {} if is_fraud is None else {one.position: is_fraud for one in begun.payments}
        return self.desk.decide(begun, outcome, told, who, now_us)

    def version(self, number):
        with self.database.reading() as reader:
            return reader.execute(sa.text("SELECT version FROM cases WHERE number = :n"), {"n": number}).scalar_one()


@pytest.fixture
def office(database):
    return Office(database)


@pytest.fixture(scope="session")
def make_office():
    """Makes a desk over any database."""
    return Office
