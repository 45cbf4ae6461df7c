"""How long the console's searches take over millions of decisions, and how fast a projector stores them.

Rows are stored as the projector stores them, in the tables of a view in a new file, or of a schema of its own in the
database that SENTINEL_DATABASE_URL names. Then each search runs some times, the median and the longest are told.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np

from report import publish
from sentinel.events.columns import hash_texts
from sentinel.record.views import DecisionQuery, View
from sentinel.record.views.counted import Combination, Counted
from sentinel.record.views.postgres import Database, PostgresView
from sentinel.record.views.rows import Rows
from sentinel.record.views.sqlite import SqliteView
from sentinel.review.business import asked_of, business

AT_ONCE, DAYS, CARDS, SHOPS = 20_000, 90, 100_000, 5_000
BEGIN_US, DAY_US = 1_780_000_000_000_000, 86_400_000_000
ACTIONS, SHARES = ("approve", "challenge", "review", "block"), (0.99, 0.002, 0.005, 0.003)
COUNTED = Counted(2, ("country",), None)
COUNTRIES = ("DE", "NL", "PT", "US")


def main() -> None:
    """Fill, search."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--tries", type=int, default=5)
    given = parser.parse_args()
    url = os.environ.get("SENTINEL_DATABASE_URL")
    with tempfile.TemporaryDirectory() as folder:
        database = None if url is None else Database(url, f"sentinel$search_{token_hex(4)}")
        view: View = SqliteView(Path(folder) / "views.db") if database is None else PostgresView(database)
        try:
            with closing(view):
                begun, begun_own = time.perf_counter(), time.process_time()
                for position in range(1, given.rows, AT_ONCE):
                    rows = made(position, min(AT_ONCE, given.rows - position + 1), given.rows)
                    view.project(rows, "log", view.position.position, 1)
                stored_s, own_s = time.perf_counter() - begun, time.process_time() - begun_own
                figures = searches(view, given.rows, given.tries)
        finally:
            if database is not None:
                database.drop()
                database.engine.dispose()
    publish(
        "search",
        f"{given.rows:,} decisions in {'SQLite' if url is None else 'PostgreSQL'}, {given.tries} tries of each",
        {
            "stored_rows_a_second": round(given.rows / stored_s), "own_us_a_row": round(own_s / given.rows * 1e6, 2),
            "searches": figures,
        },
    )  # fmt: skip


def made(position: int, n: int, total: int) -> Rows:
    """Rows of some decisions, as `rows_of` makes them: 90 days, two models, rules of which one holds hardly ever."""
    chance = np.random.default_rng(position)
    positions = np.arange(position, position + n)
    received_us = (BEGIN_US + positions / total * DAYS * DAY_US).astype(np.int64).tolist()
    cards, shops = chance.integers(0, CARDS, n).tolist(), chance.integers(0, SHOPS, n).tolist()
    amounts = np.round(chance.lognormal(3, 1, n), 2).tolist()
    actions = chance.choice(ACTIONS, n, p=SHARES).tolist()
    countries = chance.choice(COUNTRIES, n).tolist()
    version = "v1" if position < total / 2 else "v2"
    degraded = np.where(chance.random(n) < 0.0005, "slow", "").tolist()
    decisions = [
        (at, f"t{at}", us, amount, action, 0.1, version, reason or None, False, None, None, 900,
         f'{{"card_id":"c-{card}","merchant_id":"m-{shop}"}}',
         f'{{"amount":{amount},"card_id":"c-{card}","country":"{country}","merchant_id":"m-{shop}"}}')
        for at, us, amount, action, reason, card, shop, country in zip(
            positions.tolist(), received_us, amounts, actions, degraded, cards, shops, countries, strict=True
        )
    ]  # fmt: skip
    hits = [
        (int(at), rule, False, "approve")
        for rule, share in (("large amount", 0.01), ("odd hour", 0.00001))
        for at in positions[chance.random(n) < share]
    ]
    keyed = [
        (hash_texts([f"{name}={letter}-{one}" for one in values]), positions)
        for name, letter, values in (("card_id", "c", cards), ("merchant_id", "m", shops))
    ]
    sums: dict[Combination, list[int]] = {}
    day = received_us[0] // DAY_US
    COUNTED.combine(day, actions, [version] * n, [None] * n, amounts, {"country": countries}, sums)
    return Rows(
        position + n, b"chain", decisions, [], [], [], hits, [], keyed,
        {version: (position, position + n - 1)}, {COUNTED: sums}, [(position, COUNTED)], 0,
    )  # fmt: skip


def queries(total: int) -> Iterator[tuple[str, DecisionQuery]]:
    """Every filter that the page offers, and pairs of them."""
    middle = BEGIN_US + DAYS // 2 * DAY_US
    day = {"from_us": middle, "to_us": middle + DAY_US}
    card, shop, rare = {"card_id": "c-17"}, {"merchant_id": "m-17"}, {"least_amount": 2_500.0}
    asked: dict[str, dict[str, Any]] = {
        "newest": {}, "card": {"keys": card}, "shop": {"keys": shop}, "card, shop": {"keys": {**card, **shop}},
        "nobody": {"keys": {"card_id": "nobody"}}, "block": {"action": "block"}, "approve": {"action": "approve"},
        "without the model": {"degraded": True}, "model v1": {"model_version": "v1"},
        "no such model": {"model_version": "v9"},
        "a day": day, "amounts, common": {"least_amount": 10.0, "most_amount": 20.0}, "amounts, rare": rare,
        "one amount": {"least_amount": 77.77, "most_amount": 77.77}, "no such amount": {"least_amount": 1e9},
        "rule, common": {"rule": "large amount"}, "rule, rare": {"rule": "odd hour"}, "no such rule": {"rule": "none"},
        "card, block": {"keys": card, "action": "block"}, "card, a day": {"keys": card, **day},
        "card, rare amounts": {"keys": card, **rare}, "shop, rare amounts": {"keys": shop, **rare},
        "shop, block": {"keys": shop, "action": "block"}, "block, rare amounts": {"action": "block", **rare},
        "approve, rare amounts": {"action": "approve", **rare}, "block, a day": {"action": "block", **day},
        "block, model v1": {"action": "block", "model_version": "v1"},
        "block, rule": {"action": "block", "rule": "large amount"},
        "rare amounts, model v1": {"model_version": "v1", **rare}, "rare amounts, a day": {**rare, **day},
        "rule, rare amounts": {"rule": "large amount", **rare}, "rule, card": {"rule": "large amount", "keys": card},
        "block, without the model": {"action": "block", "degraded": True},
        "final page of all": {"cursor": "20"},
        "final page of blocks": {"action": "block", "cursor": f"{total // 100:x}"},
        "final page of amounts": {**rare, "cursor": f"{total // 100:x}"},
    }  # fmt: skip
    yield from ((name, DecisionQuery(**one)) for name, one in asked.items())


def searches(view: View, total: int, tries: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each search, and how many rows its page has."""
    found = {name: timed(partial(found_by, view, query), tries) for name, query in queries(total)}
    now_us = BEGIN_US + DAYS * DAY_US
    asked = asked_of({"by": "field:country"}, now_us)
    found["figures of business, 30 days by country"] = timed(
        lambda: len(business(view, asked, now_us, ("30d", 30 * DAY_US)).periods), tries
    )
    return found


def found_by(view: View, query: DecisionQuery) -> int:
    """How many rows a page has."""
    return len(view.search(query).rows)


def timed(call: Callable[[], int], tries: int) -> dict[str, float]:
    """Milliseconds of some calls after the first: by the clock, and of this process' own time; and what they found.

    Own time is what a quiet machine would take, but for the time of a database's server.
    """
    rows, spent, own = call(), [], []
    for _ in range(tries):
        begun, begun_own = time.perf_counter(), time.process_time()
        call()
        spent.append((time.perf_counter() - begun) * 1000)
        own.append((time.process_time() - begun_own) * 1000)
    median, longest = round(statistics.median(spent), 1), round(max(spent), 1)
    return {"median_ms": median, "longest_ms": longest, "own_ms": round(statistics.median(own), 1), "rows": rows}


if __name__ == "__main__":
    main()
