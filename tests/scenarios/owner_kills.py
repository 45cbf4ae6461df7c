"""What befalls an owner and its standby under load, at random points; and what has to hold afterwards."""

import json
import signal
import time
from contextlib import closing
from typing import NamedTuple

import numpy as np

from sentinel.model.bundle import load_bundle
from sentinel.record.entries import decision_rows
from sentinel.record.feature_state import FeatureState, activation_of
from sentinel.record.home_reader import open_log
from sentinel.record.log import Follower, Kind
from tests.scenarios.kafka_streams import (
    Consuming,
    decided_in_kafka,
    keyed,
    payment,
    read_all,
    send,
    sentinel,
    until,
)

KINDS = ("the owner is killed", "the owner stops for a while", "the standby is killed")


class Fate(NamedTuple):
    """What befell them, and how long it took until the other one was ready, in seconds; None where nothing changed."""

    what: str
    seconds: float | None


class Found(NamedTuple):
    """What an independent reader finds in the end."""

    sent: int
    lost: int
    twice: int
    letters_wrong: int
    differing: int
    values: int


def befall(pair: list[Consuming], topics: dict[str, str], kinds: list[str], rng: np.random.Generator, say) -> int:
    """Send, and have these things befall the pair, of which the first owns the log, one after the other.

    How many transactions were sent; and as many messages that nothing can be made of as there are kinds.
    """
    sent = 0
    for number, kind in enumerate(kinds):
        some = [payment(n) for n in range(sent, sent + int(rng.integers(200, 1_500)))]
        sent += len(some)
        half = len(some) // 2
        send(topics, "transactions", [*keyed(*some[:half]), ("c", b"poison %d" % number), *keyed(*some[half:])])
        time.sleep(rng.uniform(0.0, 0.4))
        say(_befallen(pair, kind))
    until(lambda: len(decided_in_kafka(topics)) >= sent, 600)
    return sent


def _befallen(pair: list[Consuming], kind: str) -> Fate:
    owner, standby = pair
    if kind == "the standby is killed":
        standby.kill()
        standby.begin()
        until(lambda: standby.health()["reason"].startswith("this process stands by"))
        return Fate(kind, None)
    begun_s = time.monotonic()
    if kind == "the owner is killed":
        owner.kill()
    else:
        owner.signal(signal.SIGSTOP)
    until(standby.is_ready)
    seconds = time.monotonic() - begun_s
    if kind == "the owner is killed":
        owner.begin()
    else:
        owner.signal(signal.SIGCONT)
    until(lambda: not owner.is_ready() and str(owner.health()["reason"]).startswith("this process stands by"))
    pair.reverse()
    return Fate(kind, seconds)


def found_in(pair: list[Consuming], topics: dict[str, str], sent: int, letters: int) -> Found:
    """Count what is there once, twice and not at all; and compute everything again from the log."""
    rows = decided_in_kafka(topics)
    names = [row.transaction_id for row in rows]
    dead = [value for _, value in read_all(topics, "dead-letters")]
    replayed = sentinel(topics, "replay", "--all", "--home", str(pair[0].home), "--json")
    differing, values = bits_that_differ(pair[0].home)
    return Found(
        sent, len({f"p{n}" for n in range(sent)} - set(names)), len(names) - len(set(names)),
        int(sorted(dead) != sorted(b"poison %d" % n for n in range(letters))),
        differing + replayed["differing"] + replayed["impossible"] + abs(replayed["decisions"] - sent), values,
    )  # fmt: skip


def bits_that_differ(home) -> tuple[int, int]:
    """Of how many feature values, each of all decisions, other bits are stored than one offline replay gives."""
    bundle = load_bundle(home / "models" / "v1")
    differing = values = 0
    with closing(open_log(home)) as log:
        begin = activation_of(log, bundle.state_id)
        state = FeatureState(bundle, begin)
        state.store = bundle.new_store()
        for record in (one for page in Follower(log, begin).rest() for one in page):
            found = state.take(record)
            if record.kind == Kind.DECIDED:
                stored = np.array([row.features for row in decision_rows(record)])
                again = np.ascontiguousarray(found.rows)
                same = (stored.view(np.int64) == again.view(np.int64)) | (np.isnan(stored) & np.isnan(again))
                differing, values = differing + int(np.count_nonzero(~same)), values + stored.size
    return differing, values


def shown(found: Found) -> str:
    return json.dumps(found._asdict())
