"""Context events in the engine and the worker: durable before they are answered, known again, and replayed as heard."""

import asyncio
import json
import time

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentinel.errors import Conflict, InvalidInput, StorageProblem
from sentinel.events.columns import Outcome
from sentinel.events.context import Context, ContextReader, event_schema
from sentinel.events.secrets import Secrets, key_of
from sentinel.events.wire import Unsealed, event_of
from sentinel.features.store import MemoryStore
from sentinel.model.bundle import load_bundle
from sentinel.policy.model_call import Limits
from sentinel.record.entries import context_rows
from sentinel.record.feature_state import FeatureState, activation_of
from sentinel.record.ids import IdIndex
from sentinel.record.journal import Journal
from sentinel.record.log import Kind
from sentinel.record.snapshots import Snapshots
from sentinel.record.subjects import SubjectKeys
from sentinel.serve.batch import Arrivals, Decision, Heard, Noted, Report
from sentinel.serve.context import new_context_in
from sentinel.serve.engine import Engine
from sentinel.serve.lineup import Contender, Lineup
from sentinel.serve.queue import MOST_EVENTS, Request
from sentinel.serve.worker import Worker
from sentinel.telemetry.counters import Counters

DAY_US = 86_400_000_000


@pytest.fixture(scope="module")
def lineup(event_shop_home):
    return Lineup(1, Contender(load_bundle(event_shop_home / "models" / "v1")))


@pytest.fixture
def home(home_of, lineup):
    home = home_of(lineup)
    home.open()
    return home


def report(home, i, **changes):
    """The login of a card, as it is read."""
    schema = home.lineup.champion.bundle.manifest.plan.schema
    event = {"event": "login", "event_id": f"e{i}", "event_time": home.now_us // 1_000_000, "card": f"card-{i % 23}"}
    return Report(ContextReader(schema, Secrets()).decode(json.dumps(event | changes).encode()), "app")


def heard(home, *reports):
    never = [2**62] * len(reports)
    return home.engine.hear(Arrivals(reports, [time.monotonic_ns()] * len(reports), never), home.now_us).answers


def stored(home):
    return [row for one in home.records() if one.kind == Kind.CONTEXT for row in context_rows(one)]


def test_new_ones_are_entries_in_their_order(home):
    reports = [report(home, 1), report(home, 2, event="password_change")]
    assert heard(home, *reports) == [
        Heard("e1", "login", replayed=False),
        Heard("e2", "password_change", replayed=False),
    ]
    rows = stored(home)
    assert [(row.event_id, row.told_by, row.received_us) for row in rows] == [
        ("e1", "app", home.now_us),
        ("e2", "app", home.now_us),
    ]
    schema = home.engine.schema
    assert [row.content for row in rows] == [
        event_schema(schema, event_of(one.event)).encode(one.event) for one in reports
    ]
    assert home.log.durable == rows[-1].position + 1


def test_what_is_known_is_not_stored_again_in_this_life_or_the_next(home):
    one, other = report(home, 1), report(home, 1, card="another")
    heard(home, one)
    for _ in range(2):
        before = home.log.durable
        again, conflict = heard(home, one, other)
        assert again == Heard("e1", "login", replayed=True)
        assert isinstance(conflict, Conflict)
        assert home.log.durable == before
        home.reopen()
    assert len(stored(home)) == 1


def test_twice_in_a_batch_is_once(home):
    answers = heard(home, report(home, 1), report(home, 1), report(home, 1, channel="web"), report(home, 2))
    assert [type(one) for one in answers] == [Heard, Heard, Conflict, Heard]
    assert [one.event_id for one in stored(home)] == ["e1", "e2"]


def test_one_that_came_without_a_time_is_known_again_whatever_the_time(home):
    own = home.engine.schema
    schema = msgspec.structs.replace(own, optional=(*own.optional, own.time))
    schemas, read = Context(schema).schemas, ContextReader(schema, Secrets()).decode

    def told(now_us, *cards):
        reports = [Report(read(b'{"event": "login", "event_id": "e1", "card": "%b"}' % one), "app") for one in cards]
        new = new_context_in(Arrivals(reports, [0], [0]), home.engine.journal, schemas, now_us)
        return new, [type(one) for one in new.answers]

    new, answers = told(home.now_us, b"card-1", b"card-1", b"another")
    assert answers == [Heard, Heard, Conflict]
    assert [one.event_time for one in new.events] == [home.now_us]
    heard(home, report(home, 1))
    assert told(home.now_us + DAY_US, b"card-1", b"another")[1] == [Heard, Conflict]


def test_more_than_a_day_ahead_is_refused_and_the_rest_is_not(home):
    early = report(home, 1, event_time=(home.now_us + 2 * DAY_US) // 1_000_000)
    refused, taken = heard(home, early, report(home, 2))
    assert isinstance(refused, InvalidInput)
    assert refused.path == "$.event_time"
    assert taken == Heard("e2", "login", replayed=False)


def test_a_transaction_with_the_id_of_an_event_is_another_thing(home):
    heard(home, report(home, 1, event_id="t1"))
    (decision,) = home.handle([home.payment(1)])
    assert isinstance(decision, Decision)
    assert not decision.replayed
    (noted,) = home.handle([home.outcome(1)])
    assert isinstance(noted, Noted)
    assert heard(home, report(home, 1, event_id="t1")) == [Heard("t1", "login", replayed=True)]


def test_what_was_hashed_with_the_former_key_is_known(home_of, lineup):
    home = home_of(lineup)
    home.open()
    schema, number = home.engine.schema, "4111111111111111"
    before = Secrets(key_of("Zr8Qm1pX0vK5tB7nC3yL9wE2sD4fG6hJ"))
    after = Secrets(key_of("2:aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vX2z"), before=before)
    body = {
        "event": "password_change",
        "event_id": f"e-{number}",
        "event_time": home.now_us // 1_000_000,
        "card": number,
    }
    first, again, other = (
        Report(ContextReader(schema, secrets).decode(json.dumps(body | changes).encode()), "app")
        for secrets, changes in ((before, {}), (after, {}), (after, {"card": "4012888888881881"}))
    )
    assert first.event.event_id != again.event.event_id
    heard(home, first)
    known, conflict = heard(home, again, other)
    assert known == Heard(again.event.event_id, "password_change", replayed=True)
    assert isinstance(conflict, Conflict)
    assert len(stored(home)) == 1


def test_one_without_a_time_happens_now_and_told_again_it_is_the_same(home):
    schema = home.lineup.champion.bundle.manifest.plan.schema
    schema = msgspec.structs.replace(schema, optional=("event_time", *schema.optional))
    reader, home.engine._context = ContextReader(schema, Secrets()), Context(schema)
    told = [reader.decode(b'{"event":"login","event_id":"e%d","card":"c"}' % n) for n in (1, 1, 2)]
    answers = heard(home, *(Report(one, "app") for one in told))
    assert [one.replayed for one in answers] == [False, True, False]
    home.now_us += 5_000_000
    again, other = (reader.decode(b'{"event":"login","event_id":"e1","card":"%b"}' % card) for card in (b"c", b"d"))
    known, conflict = heard(home, Report(again, "app"), Report(other, "app"))
    assert known.replayed
    assert isinstance(conflict, Conflict)
    assert {msgspec.json.decode(row.content)["event_time"] for row in stored(home)} == {home.now_us - 5_000_000}


def test_when_the_log_fails_nothing_of_it_is_kept(home_of, lineup, fake_log):
    home = home_of(lineup, fake_log.FakeLog())
    home.open()
    home.engine.journal.append_context = _fails
    with pytest.raises(StorageProblem):
        heard(home, report(home, 1))
    assert home.engine.is_ahead
    home.recover()
    assert heard(home, report(home, 1)) == [Heard("e1", "login", replayed=False)]


def _fails(*_given):
    raise StorageProblem("the disk is full")


# what is replayed is what was heard

steps = st.lists(
    st.tuples(st.sampled_from(["pay", "tell", "hear", "snapshot", "reopen"]), st.integers(1, 5)),
    min_size=1,
    max_size=14,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_any_mix_of_entries_is_replayed_as_it_was_taken(home_of, lineup, fake_log, steps):
    home, paid, told = home_of(lineup, fake_log.FakeLog()), 0, 0
    home.open()
    taken = Taken(home)
    for what, n in steps:
        home.now_us += 1_000_000
        if what == "pay":
            home.handle([home.payment(i, event_time=home.now_us) for i in range(paid, paid + n)])
            paid += n
        elif what == "tell" and paid:
            home.handle([home.outcome(i % paid, is_fraud=i % 2 == 0) for i in range(n)])
        elif what == "hear":
            kinds = ("login", "password_change")
            heard(home, *(report(home, i, event=kinds[i % 2]) for i in range(told, told + n)))
            told += n - (n > 3)  # one of them is told again
        elif what == "snapshot":
            home.save()
        elif what == "reopen" and not taken.rows:
            home.reopen()
            taken = Taken(home)
    (name,) = home.engine.states
    assert len(stored(home)) == len({one.event_id for one in stored(home)})
    home.assert_states_are_those_of_a_replay()
    replay = FeatureState(home.engine.states[name].bundle, activation_of(home.log, name))
    replay.restore(home.log, Snapshots(home.folder / "none"))
    live = taken.columns()
    again = Taken(home, replay)
    replay.follow(home.log)
    replayed = again.columns()
    if live is not None:
        for one, other in zip(live, replayed, strict=True):
            assert one.tobytes() == other[len(other) - len(one) :].tobytes()


class Taken:
    """The events that a state's store is given from now on."""

    def __init__(self, home, state=None):
        state = state or next(iter(home.engine.states.values()))
        self.rows, store = [], state.store
        advance = MemoryStore.advance

        class Watched(MemoryStore):
            def advance(watched, events, former=None):  # noqa: N805
                if len(events):
                    self.rows.append(events)
                return advance(watched, events, former)

        store.__class__ = Watched

    def columns(self):
        """Every column of all of them."""
        if not self.rows:
            return None
        return [np.concatenate(column) for column in zip(*(one.columns() for one in self.rows), strict=True)]


# the worker


class Desk:
    """A worker on a log in memory, and what was told in which order."""

    def __init__(self, home, log):
        self.home, self.log, self.told = home, log, []
        self.worker = Worker(log, self._open, 10_000)

    def _open(self):
        journal = Journal(self.log, IdIndex(self.home.folder / "ids", self.log))
        snapshots = Snapshots(self.home.folder / "snapshots")
        return Engine(self.home.lineup, journal, snapshots, Limits(deadline_s=10.0), Counters())

    def request(self, name, events):
        tell = lambda answers: self.told.extend((name, answer) for answer in answers)  # noqa: E731
        return Request(events, time.monotonic_ns(), 2**62, tell)

    async def until(self, what):
        end = time.monotonic() + 60
        while not what():
            assert time.monotonic() < end, "it never came true"
            await asyncio.sleep(0.005)


@pytest.fixture
def desk(home_of, fake_log, lineup):
    return Desk(home_of(lineup), fake_log.FakeLog())


def test_the_context_of_a_turn_comes_before_its_transactions_and_those_before_outcomes(desk):
    async def run():
        desk.worker.start()
        await desk.until(lambda: desk.worker.engine)
        desk.worker.put_outcomes(desk.request("outcome", [Outcome("t1", is_fraud=True, time_us=desk.home.now_us)]))
        desk.worker.put(desk.request("payment", [desk.home.payment(1)]))
        desk.worker.put_events(desk.request("event", [report(desk.home, 1)]))
        await desk.until(lambda: len(desk.told) == 3)
        await asyncio.to_thread(desk.worker.stop)

    asyncio.run(run())
    assert [(name, type(answer)) for name, answer in desk.told] == [
        ("event", Heard), ("payment", Decision), ("outcome", Noted),
    ]  # fmt: skip
    kinds = [record.kind for record in desk.log.records if record.kind in (Kind.CONTEXT, Kind.DECIDED, Kind.OUTCOMES)]
    assert kinds == [Kind.CONTEXT, Kind.DECIDED, Kind.OUTCOMES]


def test_a_flood_of_events_is_taken_in_parts(desk):
    async def run():
        desk.worker.start()
        await desk.until(lambda: desk.worker.engine)
        for n in range(8):
            some = [report(desk.home, n * 100 + i) for i in range(100)]
            desk.worker.put_events(desk.request(f"events {n}", some))
        desk.worker.put(desk.request("payment", [desk.home.payment(1)]))
        await desk.until(lambda: len(desk.told) == 801)
        await asyncio.to_thread(desk.worker.stop)

    asyncio.run(run())
    batches = [record.rows for record in desk.log.records if record.kind == Kind.CONTEXT]
    assert sum(batches) == 800
    assert max(batches) < MOST_EVENTS + 100
    names = [name for name, _ in desk.told]
    assert names.index("payment") < 400, "transactions do not wait for all of them"


def test_what_waits_when_the_server_ends_is_answered(desk):
    async def run():
        desk.worker.start()
        await desk.until(lambda: desk.worker.engine)
        desk.worker.put_events(desk.request("event", [report(desk.home, 1)]))
        await asyncio.to_thread(desk.worker.stop)

    asyncio.run(run())
    assert desk.told == [("event", Heard("e1", "login", replayed=False))]


def test_the_shape_of_a_hash_stands_for_another_one_only_where_its_key_was_used(home):
    hashes = [f"s{n}_{'a' * 26}" for n in (1, 2, 7)]
    told, former, strange = (report(home, 1, card=card) for card in hashes)
    heard(home, told)
    home.engine._hash_keys = {"1", "2"}
    answers = heard(home, former, strange)
    assert answers[0] == Heard("e1", "login", replayed=True)
    assert isinstance(answers[1], Conflict)


def test_an_event_that_is_refused_leaves_no_key_of_what_is_personal(home, tmp_path):
    own = home.engine.schema
    schema = msgspec.structs.replace(own, personal={"channel": "card"})
    secrets, schemas = Secrets(key_of("Zr8Qm1pX0vK5tB7nC3yL9wE2sD4fG6hJ")), Context(schema).schemas
    read, subjects = ContextReader(schema, secrets, Unsealed).decode, SubjectKeys(tmp_path)
    journal = Journal(home.log, IdIndex(tmp_path / "ids", home.log), subjects)

    def told(**changes):
        event = {
            "event": "login",
            "event_id": "p1",
            "event_time": home.now_us // 1_000_000,
            "card": "c",
            "channel": "web",
        }
        reports = [Report(read(json.dumps(event | changes).encode()), "app")]
        return new_context_in(Arrivals(reports, [0], [0]), journal, schemas, home.now_us)

    for n in range(3):
        assert isinstance(told(event_time=home.now_us // 1_000_000 + 90_000, card=f"c{n}").answers[0], InvalidInput)
    assert not subjects.are_new
    new = told()
    assert subjects.are_new
    subjects.sync(0)
    card = json.loads(new.contents[0])["card"]
    assert subjects.opened(f"card={card}", "channel", json.loads(new.contents[0])["channel_sealed"]) == "web"
    journal.append_context(new.entry("s"), new.hashes, home.now_us)
    for n in range(3):
        assert isinstance(told(card=f"c{n}").answers[0], Conflict)
    assert told(channel="web").answers == [Heard("p1", "login", replayed=True)]
    assert not subjects.are_new
    journal.close()
