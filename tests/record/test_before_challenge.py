"""What was written before there was a challenge is read as it was meant: bytes in `before_challenge/`, of that version."""

import sqlite3
from pathlib import Path

import msgspec

from sentinel.policy.deployment import Deployment
from sentinel.policy.thresholds import Action, Thresholds
from sentinel.record.entries import decided_in, decision_rows
from sentinel.record.log import Kind, Record
from sentinel.record.views import DecisionQuery
from sentinel.record.views.rows import KeyReader, rows_of
from sentinel.record.views.sqlite import SqliteView

OLD = Path(__file__).with_name("before_challenge")
WORDS = {"a1": "approve", "r1": "review", "b1": "block", "d1": "review"}


def test_old_decisions_keep_their_actions_and_have_no_challenge():
    record = Record(0, Kind.DECIDED, 4, 1, (OLD / "decided.msgpack").read_bytes())
    rows = decision_rows(record)
    assert {row.transaction_id: row.decision for row in rows} == WORDS
    assert {row.decider.challenge for row in rows} == {None}
    assert {(row.decider.review, row.decider.block) for row in rows} == {(0.6, 0.9)}
    assert [row.decider.degraded for row in rows] == [None, None, None, "overloaded"]


def test_a_challenge_is_stored_in_a_byte_and_its_threshold_once_for_all(made):
    old = Record(0, Kind.DECIDED, 1, 1, made.decided([{"id": "x", "action": "approve"}]))
    new = Record(0, Kind.DECIDED, 1, 1, made.decided([{"id": "x", "action": "challenge"}]))
    assert len(old.body) == len(new.body)
    assert decided_in(new).levels == b"\x03"
    assert [row.decision for row in decision_rows(new)] == ["challenge"]


def test_an_old_view_goes_on_with_challenges(tmp_path, made):
    path = tmp_path / "views.db"
    with sqlite3.connect(path) as database:
        database.executescript((OLD / "views.sql").read_text())
        database.execute("PRAGMA journal_mode=WAL")
    database.close()
    view = SqliteView(path)
    assert {row.transaction_id: row.decision for row in view.search(DecisionQuery()).rows} == WORDS
    record = made.decided_record(5, [{"id": "c1", "action": "challenge"}])
    view.project(rows_of([record], lambda _: KeyReader(made.SCHEMA)), "log", view.position.position, 2)
    assert [row.transaction_id for row in view.search(DecisionQuery(action=Action.CHALLENGE)).rows] == ["c1"]
    assert view.counts().by_action == {"approve": 1, "challenge": 1, "review": 2, "block": 1}
    assert view.outcomes_about([1, 5]) == {1: True}
    view.close()


def test_an_old_deployment_has_the_thresholds_that_it_had():
    found = msgspec.json.decode((OLD / "deployment.json").read_bytes(), type=Deployment)
    assert found.thresholds == Thresholds(0.2, None, None)
    assert found.experiment is not None
    assert found.experiment.thresholds == Thresholds(0.3, 0.9, None)
    assert b"challenge" not in msgspec.json.encode(found)
