"""The sender: at least once, with patience, and none waits for another; the announcer: each result once."""

import random
import threading
from contextlib import closing

import numpy as np
import pytest

from sentinel.events.columns import hash_texts
from sentinel.record.entries import body_of
from sentinel.record.file_log import FileLog
from sentinel.record.log import Kind
from sentinel.record.results import Results
from sentinel.record.written import outbox
from sentinel.record.written.written_database import WrittenDatabase
from sentinel.transport.messages import destinations
from sentinel.transport.messages.announcing import Announcer
from sentinel.transport.messages.destinations import Webhook
from sentinel.transport.messages.sending import MOST_TRIES, Sender, keep_sending, wait_s
from sentinel.transport.webhooks.addresses import target_of

SECOND_US = 1_000_000


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(destinations, "WITHIN_S", 1.0)


@pytest.fixture
def database(tmp_path):
    with closing(WrittenDatabase(tmp_path / "home")) as opened:
        yield opened


def hook(receiver, name="webhook 1", kinds=("*",)):
    return Webhook(name, target_of(receiver.url, private=True), kinds, "s" * 32, private=True)


def put(database, about, kind="case.overdue", now_us=1):
    with database.writing() as writer:
        outbox.put(writer, kind, about, {"n": 1}, now_us)


def counts(database):
    with database.reading() as reader:
        return outbox.n_of_state(reader)


class Clock:
    """Of the test: it goes on when it is told to."""

    now_us = 10 * SECOND_US

    def __call__(self):
        return self.now_us


def test_a_message_is_tried_until_it_arrives_and_then_no_more(database, receivers):
    receiver, clock = receivers(), Clock()
    sender = Sender(database, [hook(receiver)], random.Random(1))
    put(database, "c1")
    assert sender.deal(clock()) == 1
    receiver.how = "500"
    assert sender.send_next(hook(receiver), clock)
    assert not sender.send_next(hook(receiver), clock), "it waits"
    clock.now_us += 60 * SECOND_US
    receiver.how = "ok"
    assert sender.send_next(hook(receiver), clock)
    clock.now_us += 9_000 * SECOND_US
    assert not sender.send_next(hook(receiver), clock)
    assert [one["about"] for one in receiver.messages] == ["c1", "c1"]
    assert receiver.messages[0]["id"] == receiver.messages[1]["id"]
    assert counts(database) == {"waiting": 0, "delivered": 1, "parked": 0}


def test_what_never_arrives_is_parked_and_the_others_are_told_once(database, receivers):
    bad, good, clock = receivers(), receivers(), Clock()
    bad.how = "500"
    both = [hook(bad, "webhook 1"), hook(good, "webhook 2", ("delivery.*",))]
    sender = Sender(database, both, random.Random(1))
    put(database, "c1")
    tries = 0
    for _ in range(MOST_TRIES + 3):
        sender.deal(clock())
        tries += sender.send_next(both[0], clock)
        clock.now_us += 5_000 * SECOND_US
    assert tries == MOST_TRIES == bad.connections
    sender.deal(clock())
    assert sender.send_next(both[1], clock)
    assert not sender.send_next(both[1], clock)
    (told,) = good.messages
    assert (told["kind"], told["about"]) == ("delivery.parked", "webhook 1")
    assert "c1" in told["data"]["text"]
    assert counts(database) == {"waiting": 0, "delivered": 1, "parked": 1}
    bad.how = "ok"
    with database.writing() as writer:
        parked = outbox.newest(writer, 1, "parked")[0]
        outbox.try_again(writer, parked.number, clock())
    assert sender.send_next(both[0], clock)
    assert counts(database)["parked"] == 0


def test_waits_grow_to_an_hour_and_are_never_the_same():
    chance = random.Random(3)
    waits = [wait_s(n, chance) for n in range(1, MOST_TRIES)]
    assert 8 <= waits[0] <= 12
    assert max(waits) <= 1.2 * 3_600
    assert 3 * 3_600 < sum(waits) < 8 * 3_600
    assert len({wait_s(3, chance) for _ in range(20)}) == 20


def test_one_who_is_killed_while_it_sends_leaves_the_message_to_the_next(database, receivers):
    receiver, clock = receivers(), Clock()
    put(database, "c1")
    Sender(database, [hook(receiver)], random.Random(1)).deal(clock())
    with database.writing() as writer:
        (one,) = outbox.due(writer, clock(), 9)
        assert outbox.claim(writer, one, clock() + 60 * SECOND_US)
        assert not outbox.claim(writer, one, clock() + 70 * SECOND_US), "another one has it"
    sender = Sender(database, [hook(receiver)], random.Random(1))
    assert not sender.send_next(hook(receiver), clock)
    clock.now_us += 61 * SECOND_US
    assert sender.send_next(hook(receiver), clock)
    assert len(receiver.messages) == 1


def test_a_receiver_that_never_answers_delays_no_other(database, receivers, until):
    stuck, good, clock = receivers(), receivers(), Clock()
    stuck.how = "silent"
    both = [hook(stuck, "webhook 1"), hook(good, "webhook 2")]
    sender, ending = Sender(database, both, random.Random(1)), threading.Event()
    for n in range(5):
        put(database, f"c{n}")
    sender.deal(clock())
    threads = keep_sending(sender, both, lambda: not ending.is_set(), clock, pause_s=0.02)
    try:
        until(lambda: len(good.messages) == 5)
    finally:
        ending.set()
        for one in threads:
            one.join(60)
            assert not one.is_alive()
    assert {one["about"] for one in good.messages} == {f"c{n}" for n in range(5)}


def tell(log, n):
    name = f"t{n}"
    entry = Results(
        ids=[name], hashes=hash_texts([name]).tobytes(), about=np.array([n], "<i8").tobytes(), results=["captured"],
        states=["captured"], told_by=["psp"], reasons=[""],
    )  # fmt: skip
    log.write(Kind.RESULTS, 1, log.clock(1_000 + n), body_of(entry))


@pytest.mark.parametrize("seed", range(3))
def test_each_result_becomes_one_message_however_often_the_announcer_is_killed(tmp_path, monkeypatch, seed):
    chance = random.Random(seed)
    with closing(FileLog.open(tmp_path / "log", 1)) as log, closing(WrittenDatabase(tmp_path / "home")) as database:
        tell(log, 0)
        Announcer(database, log).step()  # what was before is told to nobody
        real, left = outbox.put, [0]

        def put(*args):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return real(*args)

        monkeypatch.setattr(outbox, "put", put)
        n = 1
        for _ in range(30):
            for _ in range(chance.randrange(3)):
                tell(log, n)
                n += 1
            left[0] = chance.randrange(3)
            try:
                Announcer(database, log).step()
            except KeyboardInterrupt:
                continue
        left[0] = 10_000
        while Announcer(database, log).step():
            pass
        seen = []
        with database.writing() as writer:
            outbox.deal(writer, lambda one: seen.append(one) or (), 5, 10_000)
    assert sorted(one.about for one in seen) == sorted(f"t{m}" for m in range(1, n))
    assert {one.kind for one in seen} == {"decision.state"}


def test_a_message_that_nobody_wanted_for_days_is_told_to_nobody(database, receivers):
    receiver, clock = receivers(), Clock()
    put(database, "old", now_us=1)
    clock.now_us += outbox.OLDEST_US + SECOND_US
    put(database, "new", now_us=clock())
    sender = Sender(database, [hook(receiver)], random.Random(1))
    sender.deal(clock())
    while sender.send_next(hook(receiver), clock):
        pass
    assert [one["about"] for one in receiver.messages] == ["new"]
