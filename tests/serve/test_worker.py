"""The worker with a real engine: what is one batch, who goes first, who waits for the log, what a fault costs."""

import asyncio
import socket
import threading
import time

import msgspec
import pytest
import uvloop

from sentinel.errors import NotReady, Overloaded, StorageProblem
from sentinel.events.columns import Outcome
from sentinel.model.bundle import load_bundle
from sentinel.policy.deployment import Deployment
from sentinel.policy.model_call import OVERLOADED, Limits
from sentinel.record.applied import deployment_in
from sentinel.record.ids import IdIndex
from sentinel.record.journal import Journal
from sentinel.record.snapshots import Snapshots
from sentinel.serve import opener as opener_module
from sentinel.serve import worker as worker_module
from sentinel.serve.batch import Decision, Noted
from sentinel.serve.engine import Engine
from sentinel.serve.lineup import Contender, Lineup
from sentinel.serve.queue import MAX_ROWS, Request
from sentinel.serve.worker import MOST_LOOKS, MOST_READ, Worker
from sentinel.telemetry.counters import Counters

NOW_US = 1_738_400_000_000_000  # just after the history
NEVER_NS = 2**62


class Desk:
    """A worker on a log in memory, and what was told to whom in which order."""

    def __init__(self, home, log, most_waiting=10_000):
        self.home, self.log = home, log
        home.log = log
        self.worker = Worker(log, self.open_engine, most_waiting)
        self.engines = []
        self.told = []

    def open_engine(self):
        journal = Journal(self.log, IdIndex(self.home.folder / "ids", self.log))
        snapshots = Snapshots(self.home.folder / "snapshots")
        self.engines.append(Engine(self.home.lineup, journal, snapshots, Limits(deadline_s=10.0), Counters()))
        return self.engines[-1]

    async def __aenter__(self):
        self.worker.start()
        await self.until(lambda: self.worker.engine)
        return self

    async def __aexit__(self, *_):
        self.log.heal()
        await asyncio.to_thread(self.worker.stop)

    async def until(self, what):
        end = time.monotonic() + 60
        while not what():
            assert time.monotonic() < end, "it never came true"
            await asyncio.sleep(0.005)

    async def turns(self, n=5):
        for _ in range(n):
            await asyncio.sleep(0)

    def ask(self, name, n=1, due_ns=NEVER_NS):
        """One request of so many transactions."""
        make = self.home.lineup.champion.bundle.manifest.plan.schema.wire_type
        rows = [
            make(
                transaction_id=f"{name}-{i}", event_time=NOW_US, amount=10.0, card=f"c{i % 7}", shop="s", channel="web"
            )
            for i in range(n)
        ]
        self.worker.put(self.request(name, rows, due_ns))

    def tell_outcome(self, name, *, is_fraud=True):
        """The outcome of the first transaction of that request."""
        self.worker.put_outcomes(self.request(name, [Outcome(f"{name}-0", is_fraud, NOW_US)]))

    def request(self, name, events, due_ns=NEVER_NS):
        tell = lambda answers: self.told.extend((name, answer) for answer in answers)  # noqa: E731
        now_ns = time.monotonic_ns()
        if due_ns < now_ns:  # it came two seconds ago, and could wait for one
            return Request(events, now_ns - 2 * 10**9, now_ns - 10**9, tell)
        return Request(events, now_ns, due_ns, tell)

    def of(self, name):
        return [answer for one, answer in self.told if one == name]

    @property
    def names(self):
        return [name for name, _ in self.told]

    def assert_the_state_is_that_of_a_replay(self):
        self.home.engine = self.worker.engine
        self.home.assert_states_are_those_of_a_replay()
        self.home.engine = None


@pytest.fixture(scope="module")
def lineup(shop_home):
    return Lineup(1, Contender(load_bundle(shop_home / "models" / "v1")))


@pytest.fixture
def desk(home_of, fake_log, lineup):
    return Desk(home_of(lineup), fake_log.FakeLog())


# batches


def test_what_comes_in_one_turn_is_one_batch(desk):
    async def run():
        async with desk:
            for name in "abc":
                desk.ask(name)
            await desk.until(lambda: len(desk.told) == 3)

    asyncio.run(run())
    assert {answer.batch_size for _, answer in desk.told} == {3}


@pytest.mark.parametrize(("crowd", "least", "most"), [(0, 1, 3), (3, 4, 6), (1000, MOST_LOOKS + 1, MOST_LOOKS + 3)])
def test_a_crowd_of_new_connections_is_taken_before_what_has_come_in_is_decided(desk, crowd, least, most, monkeypatch):
    """One comes in every turn of the loop; a batch waits for as many as `MOST_LOOKS`, and for none once they end."""
    monkeypatch.setattr(worker_module, "LONG_TURN_NS", 10**12)  # however slow the machine is

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
            desk.ask("a")
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

            desk.ask("a")
            turn()
            await desk.until(lambda: desk.told)
            return turns

    assert asyncio.run(run()) <= MOST_LOOKS // 2


def test_the_rows_of_a_request_are_decided_together(desk):
    async def run():
        async with desk:
            desk.ask("large", 900)
            desk.ask("small")
            await desk.until(lambda: len(desk.told) == 901)

    asyncio.run(run())
    assert {answer.batch_size for answer in desk.of("large")} == {900}
    assert desk.names == ["large"] * 900 + ["small"]


def test_more_than_a_batch_goes_by_what_is_due_first(desk):
    async def run():
        async with desk:
            for k in range(3):
                desk.ask(f"patient-{k}", MAX_ROWS // 2)
            desk.ask("urgent", due_ns=time.monotonic_ns() + 10**10)
            await desk.until(lambda: len(desk.told) == 3 * (MAX_ROWS // 2) + 1)

    asyncio.run(run())
    assert desk.told[0][0] == "urgent"
    assert all(isinstance(answer, Decision) and answer.degraded is None for _, answer in desk.told)


def test_what_has_waited_too_long_is_shed_before_all_else_and_recorded_like_it(desk):
    async def run():
        async with desk:
            desk.ask("patient", 2)
            desk.ask("late", 3, due_ns=1)
            await desk.until(lambda: len(desk.told) == 5)

    asyncio.run(run())
    assert desk.names == ["late"] * 3 + ["patient"] * 2
    assert {answer.degraded for answer in desk.of("late")} == {OVERLOADED}
    assert {answer.degraded for answer in desk.of("patient")} == {None}
    assert [row.transaction_id for row in desk.home.decisions()] == [
        "late-0", "late-1", "late-2", "patient-0", "patient-1",
    ]  # fmt: skip


def test_outcomes_are_learned_after_the_transactions_of_their_turn(desk):
    async def run():
        async with desk:
            desk.tell_outcome("a")
            desk.tell_outcome("unknown")
            desk.ask("a")
            await desk.until(lambda: len(desk.told) == 3)
            desk.assert_the_state_is_that_of_a_replay()

    asyncio.run(run())
    assert [(name, type(answer)) for name, answer in desk.told] == [
        ("a", Decision), ("a", Noted), ("unknown", Noted),
    ]  # fmt: skip


def test_after_much_was_read_some_is_decided_before_the_rest_is(desk):
    async def run():
        async with desk:
            for k in range(4):
                desk.ask(f"r{k}", MOST_READ // 4)
                told_while_reading.append(len(desk.told))
            await desk.until(lambda: len(desk.told) == MOST_READ)

    told_while_reading = []
    asyncio.run(run())
    assert told_while_reading[:3] == [0, 0, 0]
    assert told_while_reading[3] >= MAX_ROWS


def test_one_in_time_does_not_wait_while_more_of_what_is_late_is_read(desk):
    async def run():
        async with desk:
            desk.ask("in time")
            for k in range(4):
                desk.ask(f"late {k}", MOST_READ // 4, due_ns=1)
            return list(desk.names)

    told = asyncio.run(run())
    assert len(told) == MOST_READ + 1
    assert told[-1] == "in time"


def test_what_is_late_is_shed_and_not_refused_where_few_may_wait(home_of, fake_log, lineup):
    desk = Desk(home_of(lineup), fake_log.FakeLog(), most_waiting=2_000)

    async def run():
        async with desk:
            for k in range(30):
                desk.ask(f"r{k}", 200, due_ns=1)
            await desk.until(lambda: len(desk.told) == 6_000)

    asyncio.run(run())
    assert {answer.degraded for _, answer in desk.told} == {OVERLOADED}


def test_more_than_there_is_room_for_is_refused_and_no_row_of_it_is_taken(desk):
    async def run():
        async with desk:
            with pytest.raises(Overloaded):
                desk.ask("too many", 10_001)
            assert desk.worker.queue.waiting == 0
            desk.ask("one")
            await desk.until(lambda: len(desk.told) == 1)

    asyncio.run(run())


def test_after_a_long_turn_input_may_have_lain_unread_until_there_is_none(desk, monkeypatch):
    async def run():
        async with desk:
            near, far = socket.socketpair()
            near.setblocking(False)
            loop = asyncio.get_running_loop()
            real = desk.worker.engine.decide
            seen = []

            def read():
                name = near.recv(100).decode()
                seen.append((name, desk.worker.is_behind))
                desk.ask(name)

            def slow(arrivals, now_us):
                if arrivals.events[0].transaction_id == "long-0":
                    time.sleep(0.05)
                    far.send(b"meanwhile")
                return real(arrivals, now_us)

            monkeypatch.setattr(desk.worker.engine, "decide", slow)
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


# the end


def test_what_has_arrived_is_answered_at_the_end_and_nothing_goes_wrong(desk):
    faults = []

    async def run():
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context))
        async with desk:
            for k in range(6):
                desk.ask(f"r{k}", MAX_ROWS)  # several batches: a turn is still to come when the end begins
            desk.tell_outcome("r5")
            desk.worker._work()
        with pytest.raises(NotReady, match="shutting down"):
            desk.ask("too late")
        await asyncio.sleep(0.05)

    asyncio.run(run())
    assert len(desk.told) == 6 * MAX_ROWS + 1
    assert faults == []


def test_a_fault_at_the_end_leaves_no_one_without_an_answer(desk):
    async def run():
        async with desk:
            for k in range(3):
                desk.ask(f"r{k}", MAX_ROWS)
            desk.log.fence()

    asyncio.run(run())
    assert len(desk.told) == 3 * MAX_ROWS
    assert {type(answer) for _, answer in desk.told} == {NotReady}


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


# a log that makes durable what it was given, only later


def test_answers_and_repeats_wait_for_what_they_rest_on_in_their_order(desk):
    async def run():
        async with desk:
            desk.log.delayed = True
            for step in (lambda: desk.ask("a", 2), lambda: desk.ask("b"), lambda: desk.ask("a", 2),
                         lambda: desk.tell_outcome("a"), lambda: desk.tell_outcome("unknown")):  # fmt: skip
                step()
                await desk.turns()
            assert desk.names == []
            desk.log.advance()
            await desk.turns()
            assert desk.names == ["a", "a"]
            desk.log.advance()
            await desk.turns()
            assert desk.names == ["a", "a", "b", "a", "a"]
            assert [answer.replayed for answer in desk.of("a")] == [False, False, True, True]
            desk.log.advance()
            await desk.turns()
            assert (desk.names[-1], type(desk.told[-1][1])) == ("a", Noted)
            desk.log.advance()
            await desk.turns()
            assert (desk.names[-1], desk.told[-1][1].known) == ("unknown", False)
            desk.assert_the_state_is_that_of_a_replay()

    asyncio.run(run())


def test_the_end_waits_for_what_is_not_durable_yet(desk):
    async def run():
        async with desk:
            desk.log.delayed = True
            desk.ask("a")
            await desk.turns()
            asyncio.get_running_loop().call_later(0.05, desk.log.advance)
        assert [type(answer) for _, answer in desk.told] == [Decision]

    asyncio.run(run())


def test_who_waits_for_what_does_not_become_durable_is_told_so_at_the_end(desk, monkeypatch):
    monkeypatch.setattr(worker_module, "_PATIENCE_S", 0.05)

    async def run():
        async with desk:
            desk.log.delayed = True
            desk.ask("a")
            await desk.turns()
        (answer,) = desk.of("a")
        assert isinstance(answer, NotReady)
        assert "it is not known whether this was stored" in str(answer)

    asyncio.run(run())


def test_what_becomes_durable_from_another_thread_is_told_in_the_loop(desk):
    replied_in = []

    async def run():
        async with desk:
            desk.log.delayed = True
            request = desk.request("a", [desk.home.payment(1)])
            reply = request.reply
            request.reply = lambda answers: (replied_in.append(threading.current_thread()), reply(answers))
            desk.worker.put(request)
            await desk.turns()
            await asyncio.to_thread(desk.log.advance)
            await desk.until(lambda: desk.told)

    asyncio.run(run())
    assert replied_in == [threading.main_thread()]


def test_much_may_be_on_its_way_at_once(desk):
    async def run():
        async with desk:
            desk.log.delayed = True
            for k in range(50):
                desk.ask(f"r{k}", 3)
                await desk.turns(2)
            assert desk.told == []
            desk.log.advance(20)
            await desk.turns()
            assert desk.names == [f"r{k}" for k in range(20) for _ in range(3)]
            desk.log.advance(30)
            await desk.turns()
            desk.assert_the_state_is_that_of_a_replay()

    asyncio.run(run())
    assert desk.names == [f"r{k}" for k in range(50) for _ in range(3)]


# a log that cannot be written


def test_who_waits_for_a_log_that_breaks_off_hears_of_it_though_nothing_more_is_written(desk):
    async def run():
        async with desk:
            desk.log.delayed = True
            desk.ask("a", 2)
            await desk.turns()
            assert desk.told == []
            desk.log.delayed = False  # or the next engine could not begin
            await asyncio.to_thread(desk.log.break_off)
            await desk.until(lambda: len(desk.told) == 2)
            await desk.until(lambda: desk.worker.engine)
            desk.ask("a", 2)
            await desk.until(lambda: len(desk.told) == 4)

    asyncio.run(run())
    assert [isinstance(answer, NotReady) for _, answer in desk.told] == [True, True, False, False]
    assert "nothing of this was stored" in str(desk.told[0][1])


@pytest.fixture
def gate(desk, monkeypatch):
    """Recovery begins, sets `gate.begun`, and waits for `gate.open`."""

    class Gate:
        begun, open = threading.Event(), threading.Event()

    recover = desk.log.recover

    def waiting():
        Gate.begun.set()
        assert Gate.open.wait(20)
        recover()

    monkeypatch.setattr(desk.log, "recover", waiting)
    yield Gate
    Gate.open.set()


def test_after_a_fault_nothing_is_told_before_the_log_has_recovered(desk, gate):
    """Neither to whom the fault met, nor to who was waiting for what was written before."""

    async def run():
        async with desk:
            desk.ask("before")
            await desk.turns()
            first = desk.worker.engine
            desk.log.delayed = True
            desk.ask("written", 2)
            await desk.turns()
            desk.log.fence()
            desk.ask("refused")
            await asyncio.to_thread(gate.begun.wait, 20)
            await desk.turns()
            assert desk.names == ["before"]
            with pytest.raises(NotReady, match="No model can answer: the log cannot be written"):
                desk.ask("meanwhile")
            gate.open.set()
            await desk.until(lambda: len(desk.told) == 4)
            for answer in desk.of("written") + desk.of("refused"):
                assert isinstance(answer, NotReady)
                assert "nothing of this was stored: send it again with the same id" in str(answer)
            desk.log.delayed = False
            await desk.until(lambda: desk.worker.engine)
            assert desk.worker.engine is not first
            assert [row.transaction_id for row in desk.home.decisions()] == ["before-0"]
            desk.assert_the_state_is_that_of_a_replay()
            for name in ("before", "written", "refused"):
                desk.ask(name)
            await desk.until(lambda: len(desk.told) == 7)
            desk.assert_the_state_is_that_of_a_replay()
            desk.log.delayed = True
            desk.ask("later")
            await desk.turns()
            desk.log.advance()
            await desk.turns()

    asyncio.run(run())
    assert desk.names[4:] == ["before", "written", "refused", "later"]
    assert [answer.replayed for _, answer in desk.told[4:]] == [True, False, False, False]


def test_who_waits_in_the_queue_when_the_log_fails_was_not_stored_and_is_told_so_at_once(desk, gate):
    async def run():
        async with desk:
            desk.log.fence()
            for k in range(3):
                desk.ask(f"r{k}", MAX_ROWS)
            desk.tell_outcome("r0")
            await asyncio.to_thread(gate.begun.wait, 20)
            assert desk.names == ["r1"] * MAX_ROWS + ["r2"] * MAX_ROWS + ["r0"]
            assert {str(answer) for _, answer in desk.told} == {
                "No model can answer: the log cannot be written: the test says so; nothing was stored"
            }
            gate.open.set()
            await desk.until(lambda: len(desk.of("r0")) == MAX_ROWS + 1)

    asyncio.run(run())


def test_when_the_shed_part_of_a_turn_fails_the_rest_of_it_is_not_decided(desk):
    async def run():
        async with desk:
            desk.log.fence()
            desk.ask("late", due_ns=1)
            desk.ask("in time")
            await desk.until(lambda: len(desk.told) == 2)
            await desk.until(lambda: desk.worker.engine)

    asyncio.run(run())
    assert {type(answer) for _, answer in desk.told} == {NotReady}
    assert desk.home.decisions() == []


def test_what_was_durable_when_the_fault_came_is_told_as_decided(desk):
    async def run():
        async with desk:
            desk.log.delayed = True
            desk.ask("durable")
            await desk.turns()
            desk.ask("refused")
            desk.log.fence()
            desk.log.advance()  # whose news comes after the fault
            desk.log.delayed = False
            await desk.until(lambda: len(desk.told) == 2)

    asyncio.run(run())
    assert [(name, type(answer)) for name, answer in desk.told] == [("durable", Decision), ("refused", NotReady)]


def test_a_fault_while_an_engine_is_opened_is_looked_after_before_that_decides(desk, monkeypatch):
    """Else the log would be recovered under it, and what it has written and is not durable be void."""
    monkeypatch.setattr(opener_module, "_RETRY_S", 0.01)
    opened = desk.open_engine

    def open_with_a_fault():
        engine = opened()
        if len(desk.engines) == 2:
            desk.worker._in_loop(lambda: desk.worker._fail(StorageProblem("once more"), [])).result()
        return engine

    monkeypatch.setattr(desk.worker._opener, "_open_engine", open_with_a_fault)

    async def run():
        async with desk:
            desk.worker._fail(StorageProblem("of a test"), [])
            await desk.until(lambda: desk.worker.engine)
            assert desk.worker.engine is desk.engines[2]
            assert not desk.worker._opener.has_faults

    asyncio.run(run())


def test_a_log_that_cannot_recover_leaves_it_open_and_comes_back_by_itself(desk, monkeypatch):
    monkeypatch.setattr(opener_module, "_RETRY_S", 0.01)

    async def run():
        async with desk:
            desk.ask("before")
            await desk.turns()
            desk.log.fail()
            desk.ask("unknown")
            desk.tell_outcome("before")
            await desk.until(lambda: len(desk.told) == 3)
            assert "it is not known whether this was stored" in str(desk.of("unknown")[0])
            assert desk.worker.engine is None
            with pytest.raises(NotReady, match="the test says so"):
                desk.tell_outcome("before")
            desk.log.heal()
            await desk.until(lambda: desk.worker.engine)
            desk.assert_the_state_is_that_of_a_replay()
            desk.ask("unknown")
            await desk.until(lambda: len(desk.of("unknown")) == 2)

    asyncio.run(run())
    assert not desk.of("unknown")[1].replayed


def test_a_log_that_cannot_be_written_at_the_start_is_tried_until_it_can(desk, monkeypatch):
    monkeypatch.setattr(opener_module, "_RETRY_S", 0.01)
    desk.log.fail()

    async def run():
        desk.worker.start()
        await desk.until(lambda: len(desk.engines) == 1 and "the test says so" in desk.worker.reason)
        assert not desk.worker.was_ready
        desk.log.heal()
        await desk.until(lambda: desk.worker.engine)
        desk.ask("a")
        await desk.until(lambda: desk.told)
        await asyncio.to_thread(desk.worker.stop)

    asyncio.run(run())
    assert isinstance(desk.told[0][1], Decision)


def test_a_batch_that_fails_inside_costs_the_engine_and_no_one_an_answer(desk, monkeypatch, caplog):
    def fail(*_):
        raise ZeroDivisionError

    async def run():
        async with desk:
            first = desk.worker.engine
            desk.ask("before")
            await desk.turns()
            monkeypatch.setattr(first.models, "ask", fail)
            desk.ask("a", 3)
            await desk.until(lambda: len(desk.told) == 4)
            await desk.until(lambda: desk.worker.engine)
            desk.ask("a", 3)
            await desk.until(lambda: len(desk.told) == 7)
            desk.assert_the_state_is_that_of_a_replay()

    asyncio.run(run())
    assert "a batch of 3 was not decided" in caplog.text
    assert [type(answer) for answer in desk.of("a")] == [NotReady] * 3 + [Decision] * 3
    assert "ZeroDivisionError" in str(desk.of("a")[0])


# what is in force


def test_a_change_is_an_entry_and_needs_no_engine(desk):
    async def run():
        assert desk.worker.apply(lambda deployment: deployment.with_champion("v1")).revision == 1

    asyncio.run(run())
    assert deployment_in(desk.log) == Deployment(revision=1).with_champion("v1")


def test_a_change_that_cannot_be_written_changes_nothing_and_another_engine_is_opened(desk):
    async def run():
        async with desk:
            first = desk.worker.engine
            desk.log.fence()
            with pytest.raises(StorageProblem):
                desk.worker.apply(lambda deployment: msgspec.structs.replace(deployment, fallback_only=True))
            assert desk.worker.engine is None
            await desk.until(lambda: desk.worker.engine)
            assert desk.worker.engine is not first
            assert deployment_in(desk.log) == Deployment()
            assert desk.worker.apply(lambda deployment: deployment.with_champion("v1")).revision == 1

    asyncio.run(run())
