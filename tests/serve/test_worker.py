"""The worker with a real engine: what is one batch, who goes first, what a broken disk costs, how it ends."""

import asyncio
import shutil
import socket
import time

import pytest
import uvloop

from sentinel.errors import NotReady, Overloaded
from sentinel.model.registry import Registry
from sentinel.policy.deployment import DeploymentRecord
from sentinel.policy.judge import OVERLOADED, Limits
from sentinel.record.journal import Journal
from sentinel.record.snapshots import Snapshots
from sentinel.serve import worker as worker_module
from sentinel.serve.decisions import Decision
from sentinel.serve.engine import Engine
from sentinel.serve.lineup import load_lineup
from sentinel.serve.worker import MAX_ROWS, MOST_LATE, MOST_LOOKS, MOST_UNSORTED, Worker

NOW_US = 1_738_400_000_000_000  # just after the history
NEVER_NS = 2**62


class Desk:
    """A worker on a home folder, and what was told to whom in which order."""

    def __init__(self, home, max_waiting=10_000):
        self.home = home
        self.worker = Worker(self.open_engine, max_waiting)
        self.told = []
        self.postponed = []

    def open_engine(self):
        lineup = load_lineup(DeploymentRecord(self.home).read(), Registry(self.home / "models"))
        journal, snapshots = Journal(self.home / "journal.db"), Snapshots(self.home / "snapshots")
        return Engine(lineup, journal, snapshots, NOW_US, Limits(deadline_s=10.0))

    async def __aenter__(self):
        self.worker.start()
        await self.until(lambda: self.worker.engine)
        return self

    async def __aexit__(self, *_):
        await asyncio.to_thread(self.worker.stop)

    async def until(self, what):
        end = time.monotonic() + 20
        while not what():
            assert time.monotonic() < end, "it never came true"
            await asyncio.sleep(0.005)

    def ask(self, name, n, due_ns=NEVER_NS):
        """One request of so many transactions; also notes how many are postponed when it is told."""
        make, received_ns = self.worker.engine.schema.wire_type, time.monotonic_ns()
        rows = [
            make(
                transaction_id=f"{name}-{i}", event_time=NOW_US, amount=10.0, card=f"c{i % 7}", shop="s", channel="web"
            )
            for i in range(n)
        ]

        def tell(answers):
            self.told.extend((name, answer) for answer in answers)
            self.postponed.append(self.worker.postponed)

        self.worker.put(rows, received_ns, due_ns, tell)

    def of(self, name):
        return [answer for one, answer in self.told if one == name]


@pytest.fixture
def desk(shop_home, tmp_path):
    shutil.copytree(shop_home, tmp_path / "home")
    return Desk(tmp_path / "home")


def test_what_comes_in_one_turn_is_one_batch(desk):
    async def run():
        async with desk:
            for name in "abc":
                desk.ask(name, 1)
            await desk.until(lambda: len(desk.told) == 3)

    asyncio.run(run())
    assert {answer.batch_size for _, answer in desk.told} == {3}


@pytest.mark.parametrize(("crowd", "least", "most"), [(0, 1, 3), (3, 4, 6), (1000, MOST_LOOKS + 1, MOST_LOOKS + 3)])
def test_a_crowd_of_new_connections_is_taken_before_what_has_come_in_is_decided(desk, crowd, least, most, monkeypatch):
    """One comes in every turn of the loop; a batch waits for as many as `MOST_LOOKS`, and for none once they end."""
    monkeypatch.setattr(worker_module, "_SHORT_TURN_NS", 10**12)  # however slow the machine is

    async def run():
        async with desk:
            turns, left = 0, crowd

            def turn():
                nonlocal turns, left
                turns += 1
                if left:
                    desk.worker.welcome()
                    left -= 1
                if not desk.told:
                    asyncio.get_running_loop().call_soon(turn)

            turn()
            desk.ask("a", 1)
            await desk.until(lambda: desk.told)
            return turns

    assert least <= asyncio.run(run()) <= most


def test_a_crowd_holds_a_batch_up_no_longer_than_a_turn_may_take(desk):
    """What is read with the connections takes its time too: two turns of 8 ms are enough."""

    async def run():
        async with desk:
            turns = 0

            def turn():
                nonlocal turns
                turns += 1
                desk.worker.welcome()
                time.sleep(0.008)
                if not desk.told:
                    asyncio.get_running_loop().call_soon(turn)

            desk.ask("a", 1)
            turn()
            await desk.until(lambda: desk.told)
            return turns

    assert asyncio.run(run()) <= MOST_LOOKS // 2


def test_room_for_what_may_be_postponed_is_made_all_the_time(desk, monkeypatch):
    calls = []

    def make_room(pause):
        calls.append(pause())
        raise OSError("no room")

    async def run():
        async with desk:
            monkeypatch.setattr(desk.worker.engine.overflow, "make_room", make_room)
            await desk.until(lambda: len(calls) == 3)

    asyncio.run(run())
    assert calls[:3] == [False] * 3


def test_the_rows_of_a_request_are_decided_together(desk):
    async def run():
        async with desk:
            desk.ask("large", 900)
            desk.ask("small", 1)
            await desk.until(lambda: len(desk.told) == 901)

    asyncio.run(run())
    assert {answer.batch_size for answer in desk.of("large")} == {900}
    assert [name for name, _ in desk.told] == ["large"] * 900 + ["small"]


def test_more_than_a_batch_goes_by_what_is_due_first(desk):
    async def run():
        async with desk:
            for k in range(3):
                desk.ask(f"patient-{k}", MAX_ROWS // 2)
            desk.ask("urgent", 1, due_ns=time.monotonic_ns() + 10**10)
            await desk.until(lambda: len(desk.told) == 3 * (MAX_ROWS // 2) + 1)

    asyncio.run(run())
    assert desk.told[0][0] == "urgent"
    assert all(isinstance(answer, Decision) and answer.degraded is None for _, answer in desk.told)


def test_what_has_waited_too_long_is_shed_before_all_else_and_taken_in_later(desk):
    async def run():
        async with desk:
            desk.ask("patient", 2)
            desk.ask("late", 3, due_ns=1)
            await desk.until(lambda: len(desk.told) == 5)
            await desk.until(lambda: not desk.worker.postponed)
            assert desk.worker.engine.journal.counts()["decisions"] == 5

    asyncio.run(run())
    assert [name for name, _ in desk.told] == ["late"] * 3 + ["patient"] * 2
    assert {answer.degraded for answer in desk.of("late")} == {OVERLOADED}
    assert desk.postponed == [3, 3]


def test_whose_turn_would_come_too_late_is_shed_at_once(desk):
    async def run():
        async with desk:
            desk.worker._pace_ns = 1_000_000.0  # a second for a thousand transactions
            due_ns = time.monotonic_ns() + 700_000_000
            for name in ("first", "second", "third", "fourth"):
                desk.ask(name, MAX_ROWS - 1, due_ns)
            desk.ask("patient", 1)
            asked_ns = time.monotonic_ns()
            await desk.until(lambda: desk.of("fourth"))
            assert time.monotonic_ns() < due_ns, f"only after {(time.monotonic_ns() - asked_ns) / 1e6:.0f} ms"
            await desk.until(lambda: len(desk.told) == 4 * (MAX_ROWS - 1) + 1)
            await desk.until(lambda: not desk.worker.engine.overflow)
            assert desk.worker.engine.journal.counts()["decisions"] == len(desk.told)

    asyncio.run(run())
    reasons = {name: {answer.degraded for answer in desk.of(name)} for name, _ in desk.told}
    assert reasons == {
        "first": {None}, "second": {None}, "third": {OVERLOADED}, "fourth": {OVERLOADED}, "patient": {None}
    }  # fmt: skip


def test_after_much_was_read_some_is_decided_before_the_rest_is(desk):
    async def run():
        async with desk:
            for k in range(4):
                desk.ask(f"r{k}", MOST_UNSORTED // 4)
                told_while_reading.append(len(desk.told))
            await desk.until(lambda: len(desk.told) == MOST_UNSORTED)

    told_while_reading = []
    asyncio.run(run())
    assert told_while_reading[:3] == [0, 0, 0]
    assert told_while_reading[3] >= MAX_ROWS


def test_what_is_late_already_when_it_is_read_is_shed_in_larger_portions(desk):
    portion = MOST_UNSORTED // 4

    async def run():
        async with desk:
            for k in range(MOST_LATE // portion - 1):
                desk.ask(f"r{k}", portion, due_ns=1)
            told = len(desk.told)
            desk.ask("last", portion, due_ns=1)
            return told, len(desk.told)

    assert asyncio.run(run()) == (0, MOST_LATE)
    assert {answer.degraded for _, answer in desk.told} == {OVERLOADED}
    assert {answer.batch_size for _, answer in desk.told} == {MOST_LATE}


def test_one_in_time_does_not_wait_while_more_of_what_is_late_is_read(desk):
    async def run():
        async with desk:
            desk.ask("in time", 1)
            for k in range(4):
                desk.ask(f"late {k}", MOST_UNSORTED // 4, due_ns=1)
            return [name for name, _ in desk.told]

    told = asyncio.run(run())
    assert len(told) == MOST_UNSORTED + 1
    assert told[-1] == "in time"


def test_what_is_late_is_shed_and_not_refused_where_few_may_wait(shop_home, tmp_path):
    shutil.copytree(shop_home, tmp_path / "home")
    desk = Desk(tmp_path / "home", max_waiting=2_000)

    async def run():
        async with desk:
            for k in range(30):
                desk.ask(f"r{k}", 200, due_ns=1)
            await desk.until(lambda: len(desk.told) == 6_000)

    asyncio.run(run())
    assert {answer.degraded for _, answer in desk.told} == {OVERLOADED}


def test_batches_shrink_while_turns_are_long_and_some_are_shed_and_grow_again(desk):
    async def run():
        async with desk:
            worker, sizes = desk.worker, []
            for _ in range(5):
                worker._learn(10**9, 10**6, 0, is_too_much=True)
                sizes.append(worker._most_rows)
            for _ in range(5):
                worker._learn(10**9, 10**6, 0, is_too_much=False)
                sizes.append(worker._most_rows)
            return sizes

    assert asyncio.run(run()) == [128, 64, 32, 32, 32, 64, 128, 256, 256, 256]


def test_the_pace_is_that_of_large_batches_and_no_stall_tells_more_than_twice_of_it(desk):
    async def run():
        async with desk:
            worker, paces = desk.worker, []
            before = worker._pace_ns
            worker._learn(10**9, 10**9, MAX_ROWS // 2 - 1, is_too_much=False)
            paces.append(worker._pace_ns / before)
            worker._learn(10**10, 10**10, MAX_ROWS, is_too_much=False)
            paces.append(worker._pace_ns / before)
            for _ in range(100):  # shedding that takes ten times as long as deciding counts as much again
                worker._learn(11 * MAX_ROWS * 10_000, MAX_ROWS * 10_000, MAX_ROWS, is_too_much=True)
            return [*paces, worker._pace_ns]

    small, stalled, steady = asyncio.run(run())
    assert small == 1.0
    assert stalled == pytest.approx(1.2)
    assert steady == pytest.approx(20_000, rel=0.01)


def test_after_a_long_turn_input_may_have_lain_unread_until_there_is_none(desk, monkeypatch):
    async def run():
        async with desk:
            near, far = socket.socketpair()
            near.setblocking(False)
            loop = asyncio.get_running_loop()
            real = desk.worker.engine.handle
            seen = []

            def read():
                name = near.recv(100).decode()
                seen.append((name, desk.worker.is_behind))
                desk.ask(name, 1)

            def slow(batch, now_us):
                if batch.events[0].transaction_id == "long-0":
                    time.sleep(0.05)
                    far.send(b"meanwhile")
                return real(batch, now_us)

            monkeypatch.setattr(desk.worker.engine, "handle", slow)
            loop.add_reader(near, read)
            for name in (b"long", b"later"):
                told = len(desk.told)
                far.send(name)
                await desk.until(lambda told=told: len(desk.told) > told)
                await asyncio.sleep(0.02)
            loop.remove_reader(near)
            near.close()
            far.close()
            return seen

    assert uvloop.run(run()) == [("long", False), ("meanwhile", True), ("later", False)]


def test_a_disk_that_stays_broken_does_not_burn_the_processor(desk, monkeypatch):
    calls = []

    async def run():
        async with desk:
            engine, real = desk.worker.engine, desk.worker._keep_up

            def no_space():
                raise OSError("no space left")

            def counted(*given, **more):
                calls.append(given)
                return real(*given, **more)

            monkeypatch.setattr(engine, "catch_up", no_space)
            monkeypatch.setattr(desk.worker, "_keep_up", counted)
            desk.ask("late", 1, due_ns=1)
            await asyncio.sleep(0.5)
            assert engine.overflow
            monkeypatch.undo()
            await desk.until(lambda: not engine.overflow)

    asyncio.run(run())
    assert len(calls) < 40  # every 20 ms for half a second


def test_what_has_arrived_is_answered_at_the_end_and_nothing_goes_wrong(desk):
    faults = []

    async def run():
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context))
        async with desk:
            for k in range(6):
                desk.ask(f"r{k}", MAX_ROWS)  # several batches: a turn is still to come when the end begins
            desk.worker._work()
        with pytest.raises(NotReady, match="shutting down"):
            desk.worker.put([None], 0, NEVER_NS, print)
        await asyncio.sleep(0.05)

    asyncio.run(run())
    assert len(desk.told) == 6 * MAX_ROWS
    assert faults == []


def test_an_errand_that_fails_tells_whoever_waits(desk):
    async def run():
        async with desk:
            done = desk.worker.between_batches(lambda _engine: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await asyncio.wrap_future(done)
            assert await asyncio.wrap_future(desk.worker.between_batches(lambda engine: engine.lineup.revision)) == 1
        with pytest.raises(NotReady):
            await asyncio.wrap_future(desk.worker.between_batches(lambda _engine: None))

    asyncio.run(run())


def test_more_than_there_is_room_for_is_refused_and_no_row_of_it_is_taken(desk):
    async def run():
        async with desk:
            with pytest.raises(Overloaded):
                desk.ask("too many", 10_001)
            assert desk.worker.waiting == 0
            desk.ask("one", 1)
            await desk.until(lambda: len(desk.told) == 1)

    asyncio.run(run())
