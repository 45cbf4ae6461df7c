"""Who tells outcomes: so many a minute for each key, and a burst of frauds that shows."""

import logging

import pytest

from sentinel.errors import NotFound, RateLimited
from sentinel.events.columns import Outcome
from sentinel.serve.batch import Noted
from sentinel.transport.http.replies import reply_to
from sentinel.transport.http.tellers import LEAST_BURST, WITHOUT_KEY, Teller, Tellers

BANK, OTHER = Teller("bank-key", "bank"), Teller("other-key", "bank")
REASON = "4111111111111111 was on the list"


def tell(tellers, now_s, frauds, *, others=0, source="bank", replayed=False):
    says = [True] * frauds + [False] * others
    outcomes = [Outcome(f"t{n}", one, 0, source, "key", REASON) for n, one in enumerate(says)]
    answers = [Noted(one.transaction_id, one.is_fraud, replayed) for one in outcomes]
    tellers.note(outcomes, answers, now_s)


def shown(tellers, now_s, name="sentinel_outcome_fraud_burst", **labels):
    return [one.value for one in tellers.gauges(now_s) if one.name == name and labels.items() <= one.labels.items()]


def test_a_key_has_so_many_outcomes_a_minute_and_the_rest_is_refused_whole():
    tellers = Tellers(10, 1_000)
    tellers.admit(BANK, 7, 100.0)
    with pytest.raises(RateLimited, match=r"Send at most 3 now and the rest in 61 s") as told:
        tellers.admit(BANK, 4, 100.0)
    assert "SENTINEL_OUTCOMES_PER_MINUTE" in str(told.value)
    tellers.admit(BANK, 3, 159.9)
    with pytest.raises(RateLimited) as told:
        tellers.admit(BANK, 1, 159.9)
    assert told.value.retry_after_s == 1
    tellers.admit(OTHER, 10, 159.9)
    tellers.admit(BANK, 10, 160.0)


def test_the_operator_without_a_key_is_not_limited():
    tellers = Tellers(1, 1_000)
    for _ in range(3):
        tellers.admit(WITHOUT_KEY, 1_000, 0.0)


def test_only_so_many_keys_are_remembered_those_that_told_last():
    tellers = Tellers(1, 1_000)
    for n in range(2_000):
        tellers.admit(Teller(f"key-{n}", "s"), 1, 0.0)
    tellers.admit(Teller("key-0", "s"), 1, 0.0)
    with pytest.raises(RateLimited):
        tellers.admit(Teller("key-1999", "s"), 1, 0.0)


def test_too_many_is_429_and_says_when_to_come_again():
    reply = reply_to(RateLimited("too many", 7))
    assert (reply.status, reply.headers) == (429, {"retry-after": "7"})


def test_what_is_new_is_counted_by_source():
    tellers = Tellers(1, 1_000)
    tell(tellers, 0.0, 3, others=2)
    tell(tellers, 0.0, 3, replayed=True)
    tell(tellers, 0.0, 1, source="analyst")
    tellers.note([Outcome("t", True, 0, "bank")], [NotFound("no")], 0.0)
    told = "sentinel_outcomes_told"
    assert shown(tellers, 0.0, told, source="bank", says="fraud") == [3]
    assert shown(tellers, 0.0, told, source="bank", says="legitimate") == [2]
    assert shown(tellers, 0.0, told, source="analyst") == [1, 0]


def test_far_more_frauds_than_usual_are_a_burst_while_the_minute_lasts(caplog):
    tellers = Tellers(1, 1_000)
    with caplog.at_level(logging.WARNING):
        for minute in range(30):
            tell(tellers, 60.0 * minute, 10)
        assert shown(tellers, 1_799.0) == [0]
        assert shown(tellers, 1_800.0, "sentinel_outcome_frauds_usual") == [10.0]
        tell(tellers, 1_800.0, 50)
        assert shown(tellers, 1_800.0) == [0]
        assert not caplog.records
        tell(tellers, 1_801.0, 30, others=5)
    assert shown(tellers, 1_859.0) == [1]
    assert shown(tellers, 1_860.0) == [0]
    (record,) = caplog.records
    assert "bank says fraud of 51 transactions this minute, 10.0 are usual" in record.getMessage()
    assert REASON not in record.getMessage()


def test_a_few_frauds_of_a_new_source_are_no_burst():
    tellers = Tellers(1, 1_000)
    tell(tellers, 0.0, LEAST_BURST)
    assert shown(tellers, 0.0) == [0]
    tell(tellers, 0.0, 1)
    assert shown(tellers, 0.0) == [1]
    assert shown(tellers, 1e9) == [0]  # a long silence is caught up at once


def test_sources_without_end_share_a_place_and_reasons_are_nowhere():
    tellers = Tellers(1, 1_000)
    for n in range(500):
        tell(tellers, 0.0, 1, source=f"s{n}")
    sources = {one.labels["source"] for one in tellers.gauges(0.0)}
    assert len(sources) == 65
    assert shown(tellers, 0.0, "sentinel_outcomes_told", source="others", says="fraud") == [500 - 64]
    assert not any(REASON in str(one) for one in tellers.gauges(0.0))
