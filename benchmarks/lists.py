"""What a list of a million values takes: memory, time to start with it, and time to look a transaction up.

.venv/bin/python benchmarks/lists.py [--values 1000000]
"""

import argparse
import gc
import platform
import resource
import time
from datetime import date
from types import SimpleNamespace

import numpy as np
from msgspec import UNSET

from sentinel.events.reference_tables.versions import LIST, Tables
from sentinel.events.schema import Schema
from sentinel.policy.rules.book import Book, BookList, BookRule, Deed
from sentinel.policy.rules.hits import BookHits
from sentinel.record.listed import Listing, rows_of

ROWS, ROUNDS, AT_ONCE = 64, 300, 500
SCHEMA = Schema(keys=("card_id", "shop"), categories=("country",))


def filled(values: int) -> Tables:
    """A list of so many cards, told as imports tell them."""
    tables = Tables()
    for begin in range(0, values, AT_ONCE):
        told = [Listing(f"s1_{n:026d}", "a leak of cards", "user anna") for n in range(begin, begin + AT_ONCE)]
        versions = tables.of("deny", LIST)
        versions.put(rows_of(versions, told, begin), begin)
    return tables


def microseconds(hits: BookHits, tables: Tables, values: int) -> float:
    """The least time of many for a transaction of a batch; every second card is on the list."""
    rng = np.random.default_rng(1)
    cards = [f"s1_{n:026d}" for n in rng.integers(0, 2 * values, ROWS)]
    batch = [SimpleNamespace(amount=5.0, card_id=card, shop="s", country="de", hashed_before=UNSET) for card in cards]
    features, scores, moments = np.empty((ROWS, 0)), np.zeros(ROWS), np.full(ROWS, 2 * values)
    times = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        hits.of(batch, features, scores, tables, moments)
        times.append(time.perf_counter() - begun)
    return min(times) / ROWS * 1e6


def megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--values", type=int, default=1_000_000)
    values = parser.parse_args().values
    gc.disable()
    one = (BookList(name="deny", kind="deny", by="card_id"),)
    with_list, without = (
        BookHits(Book((), one), SCHEMA, ()),
        Book((BookRule(name="r", when="amount > 9", do=Deed.BLOCK, reason="x"),)),
    )
    empty, before = Tables(), megabytes()
    quick = [microseconds(BookHits(without, SCHEMA, ()), empty, values), microseconds(with_list, empty, values)]
    begun = time.process_time()
    tables = filled(values)
    took, used = time.process_time() - begun, megabytes() - before
    found = microseconds(with_list, tables, values)
    begun = time.process_time()
    snapshot = tables.snapshot()
    saved = time.process_time() - begun
    begun = time.process_time()
    Tables().restore(snapshot)
    restored = time.process_time() - begun
    print(f"{date.today()}, {platform.machine()}, Python {platform.python_version()}, one core of a busy machine")
    size = snapshot["tables"].nbytes / 1e6
    print(f"{values:,} values: told in {took:.1f} s, {used:,.0f} MB; a snapshot of {size:,.0f} MB")
    print(f"is saved in {saved:.1f} s and read in {restored:.1f} s")
    print(f"us a transaction, batch of {ROWS}: {quick[0]:.2f} with one rule without a list")
    print(f"{quick[1]:.2f} with a list that is empty, {found:.2f} with all of it")
