"""The outbox: nothing is sent that was not put down, nothing is forgotten that was, and what does not arrive is kept."""

import json
import secrets
import stat
import threading

import pytest
import sqlalchemy as sa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sentinel.errors import Conflict, NotFound, StorageProblem
from sentinel.record.written import outbox
from sentinel.record.written.tables import facts, messages
from sentinel.record.written.written_database import WrittenDatabase
from tests.written_database import database

__all__ = ["database"]


def put(database, *, kind="case.overdue", about="c1", body=None, now_us=5):
    with database.writing() as writer:
        return outbox.put(writer, kind, about, body or {"n": 1}, now_us)


def deal(database, *destinations, now_us=6, since_us=0):
    with database.writing() as writer:
        return outbox.deal(writer, lambda _: destinations, now_us, 100, since_us)


def due(database, now_us=6):
    with database.reading() as reader:
        return outbox.due(reader, now_us, 100)


def test_a_message_goes_to_every_destination_that_wants_it(database):
    name = put(database, body={"b": 1, "a": [2.5, None]})
    with database.writing() as writer:
        assert outbox.deal(writer, lambda one: ("w1", "mail") if one.kind == "case.overdue" else (), 6, 100) == 1
        assert outbox.deal(writer, lambda _: ("w1",), 7, 100) == 0
    found = due(database)
    assert [(one.destination, one.state, one.attempts, one.last_error) for one in found] == [
        ("w1", "waiting", 0, None), ("mail", "waiting", 0, None),
    ]  # fmt: skip
    assert {one.message.id for one in found} == {name}
    assert found[0].message[1:3] == ("case.overdue", "c1")
    assert json.loads(found[0].message.body) == {"a": [2.5, None], "b": 1}


def test_the_same_message_of_one_moment_is_one(database):
    assert put(database) == put(database)
    assert put(database, now_us=6) != put(database)
    assert deal(database, "w1") == 2


def test_any_text_may_be_what_it_is_about(database):
    put(database, about="a\x00b" + "\u202e" * 400, body={"id": "a\x00b"})
    deal(database, "w1")
    (one,) = due(database)
    assert (one.message.about[:3], len(one.message.about)) == ("a\ufffdb", 256)
    assert json.loads(one.message.body) == {"id": "a\x00b"}


def test_what_is_rolled_back_with_its_cause_is_never_sent(database):
    def put_and_fail():
        with database.writing() as writer:
            outbox.put(writer, "case.overdue", "c1", {}, 5)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        put_and_fail()
    assert deal(database, "w1") == 0


def test_a_delivery_is_tried_until_it_arrives(database):
    put(database)
    deal(database, "w1")
    (one,) = due(database)
    with database.writing() as writer:
        outbox.failed(writer, one.number, "503 " + "x" * 9_000, 50)
    assert due(database, 49) == []
    (again,) = due(database, 50)
    assert (again.attempts, again.last_error[:5], len(again.last_error)) == (1, "503 x", 500)
    with database.writing() as writer:
        outbox.delivered(writer, one.number, 51)
        outbox.failed(writer, one.number, "too late", 60)
    assert due(database, 1_000) == []
    with database.reading() as reader:
        (done,) = outbox.newest(reader, 10)
        assert outbox.n_of_state(reader) == {"waiting": 0, "delivered": 1, "parked": 0}
        assert outbox.next_due_us(reader) is None
    assert (done.state, done.attempts, done.last_error, done.next_us) == ("delivered", 2, None, 51)


def test_what_is_parked_waits_for_somebody(database):
    put(database)
    deal(database, "w1")
    (one,) = due(database)
    with database.writing() as writer:
        with pytest.raises(Conflict, match="is waiting"):
            outbox.try_again(writer, one.number, 8)
        outbox.park(writer, one.number, "no such host", 7)
    assert due(database, 1_000) == []
    with database.writing() as writer:
        with pytest.raises(NotFound):
            outbox.try_again(writer, one.number + 1, 8)
        assert outbox.try_again(writer, one.number, 8).attempts == 0
    assert [found.last_error for found in due(database, 8)] == ["no such host"]


def test_old_messages_are_told_to_nobody_and_forgotten_once_none_waits(database):
    put(database, about="old", now_us=1)
    put(database, about="new", now_us=10)
    assert deal(database, "w1", since_us=5) == 2
    (one,) = due(database)
    assert one.message.about == "new"
    with database.writing() as writer:
        assert outbox.forget(writer, 100) == 1
        outbox.delivered(writer, one.number, 11)
        assert outbox.forget(writer, 100) == 1
        assert writer.scalar(sa.select(sa.func.count()).select_from(messages)) == 0


def test_two_that_put_and_deal_at_once_lose_nothing(database):
    faults = []

    def write(letter):
        try:
            for n in range(25):
                put(database, about=f"{letter}{n}")
                deal(database, "w1")
        except Exception as fault:  # noqa: BLE001 - raised below
            faults.append(fault)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "ab"]
    for one in threads:
        one.start()
    for one in threads:
        one.join(120)
    assert not faults
    found = due(database)
    assert sorted(one.message.about for one in found) == sorted(f"{letter}{n}" for letter in "ab" for n in range(25))


def test_the_file_is_for_its_owner_alone(tmp_path):
    WrittenDatabase(tmp_path).close()
    assert stat.S_IMODE((tmp_path / "written.db").stat().st_mode) == 0o600


def test_tables_of_another_version_are_refused(tmp_path):
    database = WrittenDatabase(tmp_path)
    with database.writing() as writer:
        writer.execute(facts.update().values(version=99))
    database.close()
    with pytest.raises(StorageProblem, match="another version"):
        WrittenDatabase(tmp_path)


class Sending(RuleBasedStateMachine):
    """Whatever is put, dealt, tried and restarted in whatever order: what is put is delivered, waits, or is parked."""

    home = None

    def __init__(self):
        super().__init__()
        self.folder = self.home / secrets.token_hex(8)
        self.database = WrittenDatabase(self.folder)
        self.now_us, self.put_ids, self.arrived = 1, set(), set()

    @rule(n=st.integers(1, 3))
    def put_down(self, n):
        for _ in range(n):
            self.now_us += 1
            self.put_ids.add(put(self.database, now_us=self.now_us))

    @rule()
    def deal_out(self):
        deal(self.database, "w1", now_us=self.now_us)

    @rule(fate=st.sampled_from(["delivered", "failed", "parked", "killed"]), wait=st.integers(0, 5))
    def try_one(self, fate, wait):
        for one in due(self.database, self.now_us)[:1]:
            if fate in {"delivered", "killed"}:
                self.arrived.add(one.message.id)
            with self.database.writing() as writer:
                if fate == "delivered":
                    outbox.delivered(writer, one.number, self.now_us)
                elif fate == "failed":
                    outbox.failed(writer, one.number, "no", self.now_us + wait)
                elif fate == "parked":
                    outbox.park(writer, one.number, "no", self.now_us)

    @rule()
    def begin_again(self):
        self.database.close()
        self.database = WrittenDatabase(self.folder)

    @invariant()
    def nothing_is_lost(self):
        deal(self.database, "w1", now_us=self.now_us)
        with self.database.reading() as reader:
            by_state = outbox.n_of_state(reader)
            done = {one.message.id for one in outbox.newest(reader, 1_000, "delivered")}
        assert sum(by_state.values()) == len(self.put_ids)
        assert done <= self.arrived

    def teardown(self):
        self.database.close()


def test_whatever_happens_nothing_that_was_put_is_lost(tmp_path):
    Sending.home = tmp_path
    case = Sending.TestCase
    case.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)
    case("runTest").runTest()
