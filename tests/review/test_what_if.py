"""What other thresholds would have done with a stored period, against counting by hand."""

import random

import pytest

from sentinel import Costs
from sentinel.errors import InvalidInput
from sentinel.policy.thresholds import ACTIONS, Thresholds
from sentinel.record.log import Kind
from sentinel.review.past_scores import past_scores
from sentinel.review.what_if import what_if

DAY_US = 86_400_000_000
COSTS = Costs(false_alarm=20.0, review=4.0, challenge=0.5, challenge_lost=0.1, challenge_stops=0.8)
WAS, NEW = Thresholds(0.6, 0.9), Thresholds(0.5, 0.8, 0.3)


def lost(action, is_fraud, amount):
    missed = amount if is_fraud else 0.0
    return {
        "approve": missed, "challenge": 0.5 + 0.2 * missed + (0.0 if is_fraud else 2.0), "review": 4.0,
        "block": 0.0 if is_fraud else 20.0,
    }[action]  # fmt: skip


@pytest.fixture
def told(fake_log, made):
    """A log of 20 days, what was decided in it, and what is known to be true by the position of the decision."""
    log, rng, rows, truth = fake_log.FakeLog(), random.Random(5), {}, {}
    for day in range(20):
        batch = []
        for n in range(8):
            score = rng.choice([0.05, 0.3, 0.4, 0.55, 0.6, 0.85, 0.95])
            version, degraded = rng.choice([("v1", None)] * 6 + [("v2", None), ("v1", "overloaded")])
            batch.append(
                {"id": f"t{day}-{n}", "score": score, "action": str(WAS.action(score)), "version": version,
                 "degraded": degraded, "amount": rng.choice([10.0, 250.0])}
            )  # fmt: skip
        position = log.write(Kind.DECIDED, len(batch), day * DAY_US + 1, made.decided(batch))
        rows |= {position + n: row | {"day": day} for n, row in enumerate(batch)}
        about = [position + n for n in range(len(batch)) if rng.random() < 0.7]
        outcomes = [
            {"id": rows[one]["id"], "is_fraud": rng.random() < 0.4, "about": one, "told_by": "bank"} for one in about
        ]
        log.write(Kind.OUTCOMES, len(about), day * DAY_US + 2, made.outcomes(outcomes))
        truth |= {one["about"]: one["is_fraud"] for one in outcomes}
    gone = sorted(truth)[5:9]
    taken_back = [{"id": rows[one]["id"], "about": one} for one in gone]
    log.write(Kind.REVOKED, len(gone), 20 * DAY_US, made.revoked(taken_back, "bank", log.durable))
    for one in gone:
        del truth[one]
    return log, rows, truth


def read(log, made, since=0, until=4_102_444_800_000_000, version="v1"):
    return past_scores(log, version, made.SCHEMA, (since, until), lambda *_: None)


def test_it_counts_what_the_model_scored_and_its_outcomes_that_stand(told, made):
    log, rows, truth = told
    since, until = 3 * DAY_US, 15 * DAY_US
    mine = {
        at: row for at, row in rows.items()
        if row["version"] == "v1" and row["degraded"] is None and 3 <= row["day"] < 15
    }  # fmt: skip
    found = what_if(read(log, made, since, until), "v1", ("then", "later"), NEW, COSTS)
    known = {at: row for at, row in mine.items() if at in truth}
    assert (found.transactions, found.judged) == (len(mine), len(known))
    assert found.frauds == sum(truth[at] for at in known)
    for said, thresholds in ((found.was, WAS), (found.would_be, NEW)):
        actions = {at: str(thresholds.action(row["score"])) for at, row in mine.items()}
        assert said.decisions == {name: list(actions.values()).count(name) for name in said.decisions}
        assert said.cost == pytest.approx(sum(lost(actions[at], truth[at], row["amount"]) for at, row in known.items()))
        alarm = [at for at in known if actions[at] != "approve"]
        assert said.caught == sum(truth[at] for at in alarm)
        assert said.false_alarms == len(alarm) - said.caught
        assert said.missed == found.frauds - said.caught
        for day in said.days:
            of_day = [actions[at] for at, row in mine.items() if f"1970-01-{row['day'] + 1:02}" == day.date]
            assert (day.challenge, day.review, day.block) == tuple(map(of_day.count, ("challenge", "review", "block")))
    assert found.moved["approve"]["challenge"] == sum(row["score"] in (0.3, 0.4) for row in mine.values())
    assert sum(sum(to.values()) for to in found.moved_frauds.values()) == found.frauds
    assert found.blocked_unknown == sum(row["action"] == "block" and at not in truth for at, row in mine.items())


def test_the_thresholds_that_were_in_force_change_nothing(told, made):
    found = what_if(read(told[0], made), "v1", ("", ""), WAS, COSTS)
    assert found.was == found.would_be


def test_silence_says_something_after_its_delay_but_not_of_what_was_blocked(told, made):
    log, rows, truth = told
    found, before = read(log, made), 10 * DAY_US + 1
    heard = found.with_silence(before)
    mine = [row | {"told": at in truth} for at, row in rows.items() if row["version"] == "v1" and not row["degraded"]]
    silent = [row for row in mine if not row["told"] and row["day"] < 10 and row["action"] != "block"]
    assert 0 < len(silent) == int(heard.judged.sum()) - int(found.judged.sum())
    assert (heard.labels == 1).tolist() == (found.labels == 1).tolist()
    assert found.with_silence(0).labels.tolist() == found.labels.tolist()


def test_the_sample_stands_for_all_of_its_time(told, made):
    past = read(told[0], made)
    sample = past.sample()
    assert len(sample.labels) < sample.transactions <= len(past.scores)
    assert sample.days == pytest.approx(19, abs=1)


def test_amounts_of_another_schema_are_not_known(told, made):
    log = told[0]
    position = log.write(Kind.DECIDED, 1, 21 * DAY_US, made.decided([{"id": "x", "version": "v9"}], "another"))
    log.write(Kind.OUTCOMES, 1, 21 * DAY_US, made.outcomes([{"id": "x", "is_fraud": True, "about": position}]))
    past = read(log, made, version="v9")
    assert (past.labels.tolist(), past.judged.tolist()) == ([1], [False])


def test_a_period_without_decisions_is_refused(told, made):
    with pytest.raises(InvalidInput, match="v3 scored nothing from 1970-01-01T00:00:00Z"):
        read(told[0], made, version="v3")
    with pytest.raises(InvalidInput, match="the log begins at 1970-01-01"):
        read(told[0], made, since=30 * DAY_US)


def test_a_stored_challenge_is_read_as_one(fake_log, made):
    log = fake_log.FakeLog()
    log.write(Kind.DECIDED, 1, 5, made.decided([{"id": "c", "action": "challenge"}]))
    assert [ACTIONS[level] for level in read(log, made).levels.tolist()] == ["challenge"]
