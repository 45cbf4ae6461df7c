"""What rules cost: 200 of five conditions, and ten, a transaction in a batch of 64; the machine, and the whole step.

The whole step gathers the columns, runs the machine, decides by precedence, and makes what the log keeps.

.venv/bin/python benchmarks/rules.py
"""

import platform
import time
from datetime import date
from types import SimpleNamespace

import numpy as np
from msgspec import UNSET

from sentinel.events.columns import hash_text
from sentinel.events.reference_tables.versions import Tables
from sentinel.events.schema import Schema
from sentinel.policy.rules.book import Book, BookRule, Deed
from sentinel.policy.rules.hits import BookHits
from sentinel.policy.rules.machine import run
from sentinel.policy.rules.program import Program, compile_conditions
from sentinel.policy.rules.reading import Names, read_condition
from sentinel.serve.ruling import ruled_of

ROWS, COLUMNS, ROUNDS = 64, 30, 300
COUNTRIES = ("de", "at", "ch")


def rules(count: int, share: float, chance: np.random.Generator) -> Program:
    """So many rules, each of four comparisons of numbers that `share` of the values fulfil, and one of a text."""
    names = Names([f"f{n}" for n in range(COLUMNS)], ("country",))
    text = "country in (" + ", ".join(f'"{one}"' for one in COUNTRIES) + ")"
    trees = []
    for _ in range(count):
        numbers = [f"f{chance.integers(COLUMNS)} > {1 - share}" for _ in range(4)]
        trees.append(read_condition(" and ".join([*numbers, text]), names))
    return compile_conditions(trees, hash_text)


def microseconds(program: Program, chance: np.random.Generator) -> float:
    """The least time of many, for one row of a batch."""
    numbers = chance.random((ROWS, len(program.numbers)))
    texts = np.full((ROWS, 1), hash_text("de"), np.uint64)
    lists = np.empty((ROWS, 0), np.bool_)
    run(program, numbers, texts, lists)
    times = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        run(program, numbers, texts, lists)
        times.append(time.perf_counter() - begun)
    return min(times) / ROWS * 1e6


def whole_step(count: int, share: float, chance: np.random.Generator) -> float:
    """The same of all that is done in a turn with such rules, which review where they hold."""
    features = [f"f{n}" for n in range(COLUMNS)]
    text = "country in (" + ", ".join(f'"{one}"' for one in COUNTRIES) + ")"
    made = [
        " and ".join([*(f"f{chance.integers(COLUMNS)} > {1 - share}" for _ in range(4)), text]) for _ in range(count)
    ]
    book = Book(tuple(BookRule(name=f"r{n}", when=one, do=Deed.REVIEW, reason="x") for n, one in enumerate(made)))
    hits, tables = BookHits(book, Schema(keys=("card",), categories=("country",)), features), Tables()
    batch = [SimpleNamespace(amount=5.0, card="c", country="de", hashed_before=UNSET) for _ in range(ROWS)]
    values, scores, moments = chance.random((ROWS, COLUMNS)), np.zeros(ROWS), np.zeros(ROWS, np.int64)
    own, places, times = np.zeros(ROWS, np.uint8), list(range(ROWS)), []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        found = hits.of(batch, values, scores, tables, moments)
        if found.any():
            hits.precedence.levels(found, own)
            ruled_of(hits, found, own, places)
        times.append(time.perf_counter() - begun)
    return min(times) / ROWS * 1e6


if __name__ == "__main__":
    print(f"{date.today()}, {platform.machine()}, Python {platform.python_version()}; us a transaction, one core")
    for count, share in ((200, 0.5), (200, 0.95), (10, 0.5)):
        chance = np.random.default_rng(1)
        print(
            f"{count:4d} rules, {share:.0%} of values fulfil: {microseconds(rules(count, share, chance), chance):.2f}, "
            f"the whole step {whole_step(count, share, chance):.2f}"
        )
