"""The case opener: what asks for a person is in one case, once, wherever it is stopped."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing

import msgspec
import pytest
import sqlalchemy as sa
from made_records import SCHEMA, SCHEMAS, decided, outcomes, revoked

from sentinel.errors import StorageProblem
from sentinel.events.columns import hash_texts
from sentinel.policy.deployment import RulesInForce
from sentinel.policy.rules.book import Book, BookList, BookRule
from sentinel.record.entries import Decided, Ruled, body_of
from sentinel.record.file_log import FileLog
from sentinel.record.log import Kind
from sentinel.record.projector import schemas_of
from sentinel.record.reasons import Reasons
from sentinel.record.written.tables import messages
from sentinel.record.written.written_database import WrittenDatabase
from sentinel.review.case_store import opener as module
from sentinel.review.case_store import watching
from sentinel.review.case_store.case import case_of, payments_of, signs_of
from sentinel.review.case_store.opener import CaseOpener
from sentinel.review.case_store.progress import CasesMoved, cases_position
from sentinel.review.case_store.tables import case_payments, cases
from sentinel.review.cases.deadlines import USUAL, read_deadlines

DEADLINES = read_deadlines(USUAL)
DAY = 86_400_000_000
NOW = 100 * DAY


def open_over(database, log, *, by=None, now_us=NOW):
    return CaseOpener(database, log, lambda: SCHEMAS, DEADLINES, by, now_us)


def drain(opener, now_us=NOW):
    while opener.step(now_us):
        pass


def in_cases(database):
    with database.reading() as reader:
        rows = reader.execute(sa.select(case_payments.c.transaction_id, case_payments.c.number))
        return {row.transaction_id: row.number for row in rows}


def write(log, rows, at_us=NOW):
    return log.write(Kind.DECIDED, len(rows), at_us, decided(rows))


def test_reviews_become_cases_of_their_card(database, fake_log):
    log = fake_log.FakeLog()
    write(
        log,
        [{"id": "a", "action": "review", "score": 0.7, "amount": 12.5}, {"id": "b"}, {"id": "c", "action": "block"}],
    )
    write(
        log,
        [{"id": "d", "action": "review", "card": "c2"}, {"id": "e", "action": "review", "amount": 100.0, "score": 1.0}],
    )
    write(log, [{"id": "f", "action": "review", "card": None}, {"id": "g", "action": "review", "card": None}])
    drain(open_over(database, log))
    assert in_cases(database) == {"a": 1, "d": 2, "e": 1, "f": 3, "g": 4}
    with database.reading() as reader:
        first, alone = case_of(reader, 1), case_of(reader, 3)
    assert (first.key_field, first.key_value, first.payments, first.amount, first.loss) == (
        "card",
        "c1",
        2,
        11_250,
        10_875,
    )
    assert (alone.key_field, alone.key_value) == ("transaction_id", "f")


def test_another_key_may_be_declared(database, fake_log):
    log = fake_log.FakeLog()
    write(log, [{"id": "a", "action": "review"}, {"id": "b", "action": "review", "card": "c2"}])
    drain(open_over(database, log, by="shop"))
    assert in_cases(database) == {"a": 1, "b": 1}


def test_a_decision_of_an_unknown_schema_is_a_case_by_itself(database, fake_log):
    log = fake_log.FakeLog()
    body = decided([{"id": "a", "action": "review"}, {"id": "b", "action": "review"}], "another")
    log.write(Kind.DECIDED, 2, NOW, body)
    drain(open_over(database, log))
    assert in_cases(database) == {"a": 1, "b": 2}


def test_hits_of_watch_rules_and_watch_lists_are_looked_at(database, fake_log, monkeypatch):
    book = Book(
        rules=(
            BookRule(name="watch new cards", when="amount > 1", do="tag", reason="new"),
            BookRule(name="night", when="amount > 1", do="tag", reason="night"),
            BookRule(name="watchful approval", when="amount > 1", do="approve", reason="known"),
        ),
        lists=(BookList(name="mules", kind="watch", by="card"), BookList(name="good", kind="allow", by="card")),
    )  # fmt: skip
    in_force = RulesInForce(book=book, draft=1, author="a", applied_by="b", note="", applied_at="", since_revision=1)
    monkeypatch.setattr(watching, "RulesByRevision", lambda _: type("Known", (), {"at": lambda *_: in_force})())
    log = fake_log.FakeLog()
    names = ("watch new cards", "night", "watchful approval", "list mules", "list good")
    made = msgspec.msgpack.decode(decided([{"id": name, "card": name} for name in names]), type=Decided)
    ruled = tuple(Ruled(n, 0, (name,), (), True) for n, name in enumerate(names))
    log.write(Kind.DECIDED, len(names), NOW, body_of(msgspec.structs.replace(made, ruled=ruled)))
    drain(open_over(database, log))
    assert in_cases(database) == {"watch new cards": 1, "list mules": 2}
    with database.reading() as reader:
        assert case_of(reader, 2).why == "rule list mules"
        assert "rule list mules" in signs_of(reader, 2)


def test_reasons_and_outcomes_that_follow_are_in_the_case(database, fake_log):
    log = fake_log.FakeLog()
    at = write(log, [{"id": "a", "action": "review", "score": 1.0}, {"id": "b", "action": "review", "score": 1.0}])
    why = msgspec.json.encode(
        {"reasons": [{"feature": "n", "contribution": 1.5}, {"feature": "m", "contribution": -1.0}]}
    )
    about = at.to_bytes(8, "little")
    reasons = Reasons(since=0, upto=at + 2, ids=["a"], hashes=hash_texts(["a"]).tobytes(), about=about, why=[why])
    log.write(Kind.REASONS, 1, NOW, body_of(reasons))
    opener = open_over(database, log)
    drain(opener)
    with database.reading() as reader:
        before = case_of(reader, 1)
        assert signs_of(reader, 1) == {"feature n", "amount of 1 digits"}
    log.write(Kind.OUTCOMES, 1, NOW, outcomes([{"id": "a", "is_fraud": True, "about": at, "told_by": "bank"}]))
    drain(opener)
    with database.reading() as reader:
        known = case_of(reader, 1)
        assert [(one.is_fraud, one.source) for one in payments_of(reader, 1)] == [(None, None), (True, "bank")]
    assert (before.loss, known.loss, known.version) == (1_050, 525, before.version + 1)
    log.write(Kind.REVOKED, 1, NOW, revoked([{"id": "a", "about": at}], "bank", log.durable))
    drain(opener)
    with database.reading() as reader:
        assert case_of(reader, 1).loss == 1_050


def test_what_is_older_than_every_deadline_is_left_alone_at_first(database, fake_log):
    log = fake_log.FakeLog()
    write(log, [{"id": "old", "action": "review", "card": "old"}], NOW - 4 * DAY)
    write(log, [{"id": "new", "action": "review"}], NOW - 2 * DAY)
    opener = open_over(database, log)
    assert opener.step(NOW)
    assert in_cases(database) == {"new": 1}
    assert cases_position(database) == log.durable
    with database.reading() as reader:
        assert case_of(reader, 1).opened_us == NOW - 2 * DAY


def test_a_step_that_breaks_has_done_nothing(database, fake_log, monkeypatch):
    log = fake_log.FakeLog()
    write(log, [{"id": "a", "action": "review"}])
    opener = open_over(database, log)

    def breaks(*_):
        raise StorageProblem("the test says so")

    with monkeypatch.context() as patched:
        patched.setattr(module, "tell_overdue", breaks)
        with pytest.raises(StorageProblem, match="the test says so"):
            opener.step(NOW)
    assert (in_cases(database), cases_position(database)) == ({}, None)
    drain(open_over(database, log))
    assert list(in_cases(database)) == ["a"]


def test_two_that_open_cases_of_one_home_open_each_once(database, fake_log):
    log = fake_log.FakeLog()
    one, other = open_over(database, log), open_over(database, log)
    write(log, [{"id": "a", "action": "review"}])
    drain(one)
    with pytest.raises(CasesMoved):
        other.step(NOW)
    assert in_cases(database) == {"a": 1}


def test_another_log_is_refused(database, fake_log):
    log = fake_log.FakeLog()
    write(log, [{"id": "a", "action": "review"}])
    drain(open_over(database, log))
    with pytest.raises(StorageProblem, match="cases of another log"):
        open_over(database, fake_log.FakeLog("another"))


def test_a_step_opens_or_joins_so_many_cases_and_the_next_one_goes_on_within_a_record(database, fake_log):
    """Whoever acts on a case waits for one step at most."""
    log = fake_log.FakeLog()
    write(log, [{"id": f"a{n}", "action": "review", "card": f"c{n % 7}"} for n in range(150)])
    write(log, [{"id": f"b{n}", "action": "review"} for n in range(3)])
    log.write(Kind.OUTCOMES, 1, NOW, outcomes([{"id": "a0", "is_fraud": True, "about": 1}]))
    opener = open_over(database, log)
    for n in (64, 128, 153):
        assert opener.step(NOW)
        assert len(in_cases(database)) == n
        assert (opener.lag > 0) == (n < 153)
        if n < 150:
            assert cases_position(database) is None  # it has not read the record to its end
    assert not opener.step(NOW)
    assert len(set(in_cases(database).values())) == 7


def test_stopped_within_a_record_it_goes_on_there_and_opens_nothing_twice(database, fake_log):
    log = fake_log.FakeLog()
    write(log, [{"id": f"a{n}", "action": "review", "card": f"c{n}"} for n in range(150)])
    assert open_over(database, log).step(NOW)
    half = in_cases(database)
    assert len(half) == 64
    drain(open_over(database, log))
    found = in_cases(database)
    assert (len(found), len(set(found.values()))) == (150, 150)
    assert half.items() <= found.items()
    assert cases_position(database) == log.durable


def test_a_step_that_breaks_may_be_done_again(database, fake_log, monkeypatch):
    log = fake_log.FakeLog()
    write(log, [{"id": f"a{n}", "action": "review"} for n in range(100)])
    opener = open_over(database, log)
    assert opener.step(NOW)

    def breaks(*_):
        raise StorageProblem("the test says so")

    with monkeypatch.context() as patched:
        patched.setattr(module, "tell_overdue", breaks)
        with pytest.raises(StorageProblem, match="the test says so"):
            opener.step(NOW)
    assert len(in_cases(database)) == 64
    drain(opener)
    assert len(in_cases(database)) == 100


KILLS = int(os.environ.get("SENTINEL_TEST_CASE_KILLS", "4"))


def test_killed_at_any_moment_it_opens_each_case_once(tmp_path):
    """A real process over a real log that grows; how often it is killed is SENTINEL_TEST_CASE_KILLS."""
    home, now_us = tmp_path / "home", time.time_ns() // 1000
    (home / "models" / "v1").mkdir(parents=True)
    (home / "models" / "v1" / "manifest.json").write_bytes(msgspec.json.encode({"plan": {"schema": SCHEMA}}))
    assert schemas_of(home) == SCHEMAS
    cards = [f"c{n}" for n in range(300)]
    with closing(FileLog.open(home / "log", now_us)) as log:
        command = [sys.executable, "-m", "sentinel.review.case_store.opener", "--home", str(home)]
        database = WrittenDatabase(home)
        for kill in range(KILLS):
            for at in range(kill * len(cards) // KILLS, (kill + 1) * len(cards) // KILLS):
                rows = [{"id": f"{at}-{n}", "action": "review", "card": cards[at]} for n in range(2)]
                log.write(Kind.DECIDED, 2, log.clock(now_us), decided(rows))
            before = cases_position(database) or 0
            process = subprocess.Popen(command)
            until(lambda before=before: (cases_position(database) or 0) > before)
            process.send_signal(signal.SIGKILL)
            process.wait()
        process = subprocess.Popen(command)
        until(lambda: cases_position(database) == log.durable)
        process.send_signal(signal.SIGKILL)
        process.wait()
    found = in_cases(database)
    with database.reading() as reader:
        opened = reader.scalar(sa.select(sa.func.count()).select_from(cases))
        told = reader.scalar(sa.select(sa.func.count()).where(messages.c.kind == "case.opened"))
    database.close()
    assert set(found) == {f"{at}-{n}" for at in range(len(cards)) for n in range(2)}
    assert all(found[f"{at}-0"] == found[f"{at}-1"] for at in range(len(cards)))
    assert opened == told == len(cards)


def until(holds):
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, "it has not become so"
        time.sleep(0.005)


def test_the_schema_of_these_tests_has_the_card_first():
    assert SCHEMA.keys[0] == "card"


def test_messages_that_nobody_wants_are_deleted_after_days(database, fake_log):
    log = fake_log.FakeLog()
    write(log, [{"id": "a", "action": "review"}])
    drain(open_over(database, log))
    for days, left in ((2, ["case.opened"]), (4, [])):
        opener = open_over(database, log)
        opener.step(NOW + days * DAY)
        with database.reading() as reader:
            kinds = reader.scalars(sa.select(messages.c.kind).where(messages.c.put_us <= NOW)).all()
        assert kinds == left


def test_a_transaction_with_a_sign_that_a_database_cannot_keep_is_in_a_case_too(database, fake_log):
    log = fake_log.FakeLog()
    write(log, [{"id": "a\x00b", "action": "review", "card": "c\x001"}, {"id": "c", "action": "review", "card": "c2"}])
    drain(open_over(database, log))
    assert [name.replace("\x00", "\ufffd") for name in in_cases(database)] == ["a\ufffdb", "c"]
