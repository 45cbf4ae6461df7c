"""What befalls an owner and its standby under load, at random points; and what has to hold afterwards."""

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


def befall(
    pair: list[Consuming], topics: dict[str, str], kinds: list[str], rng: np.random.Generator, say, first=0
) -> int:
    """Send, and have these things befall the pair, of which the first owns the log, one after the other.

    The number behind the last transaction that was sent, from `first` on; and as many messages that nothing can be made
    of were sent as there are kinds.
    """
    sent = first
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


def found_in(pair: list[Consuming], topics: dict[str, str], sent: int, letters: list[bytes]) -> Found:
    """Count what is there once, twice and not at all; and compute everything again from the log."""
    rows = decided_in_kafka(topics)
    names = [row.transaction_id for row in rows]
    dead = [value for _, value in read_all(topics, "dead-letters")]
    differing, values = bits_that_differ(pair[0].home)
    return Found(
        sent, len({f"p{n}" for n in range(sent)} - set(names)), len(names) - len(set(names)),
        int(sorted(dead) != sorted(letters)),
        differing, values,
    )  # fmt: skip


def bits_that_differ(home) -> tuple[int, int]:
    """Of how many features and scores other bits are stored than one offline replay of the log gives; and of how many.

    A decision without the model has no score to compare: it counts as a difference, and none was called for.
    """
    bundle = load_bundle(home / "models" / "v1")
    differing = values = 0
    with closing(open_log(home)) as log:
        begin = activation_of(log, bundle.state_id)
        state = FeatureState(bundle, begin)
        state.store = bundle.new_store()
        for record in (one for page in Follower(log, begin).rest() for one in page):
            found = state.take(record)
            if record.kind == Kind.DECIDED:
                stored = np.array([row.exact_features for row in decision_rows(record)])
                again = np.ascontiguousarray(found.rows)
                same = (stored.view(np.int64) == again.view(np.int64)) | (np.isnan(stored) & np.isnan(again))
                scores = bundle.scorer.score(again).astype(float)
                told = np.array([(row.exact or row).fraud_probability for row in decision_rows(record)], float)
                differing += int(np.count_nonzero(~same)) + int(np.count_nonzero(scores != told))
                values += stored.size + told.size
    return differing, values
