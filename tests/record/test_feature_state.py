"""A feature state is a model's history and every later entry of the log, to the last bit, however it came there."""

import shutil
from contextlib import closing

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentinel.errors import StorageProblem
from sentinel.events.columns import Outcome, columns_of_events, hash_texts, names_before
from sentinel.events.times import instant_us
from sentinel.model.bundle import Bundle, load_bundle
from sentinel.record import feature_state
from sentinel.record.entries import Activation, Decided, Decider, Outcomes, body_of
from sentinel.record.feature_state import FeatureState, activation_of, first_after_history, origin_of
from sentinel.record.file_log import FileLog
from sentinel.record.log import Kind
from sentinel.record.snapshots import Snapshots

DECIDER = Decider("v1", "state", 0, 0.5, None, "closed")
DAY_US = 86_400_000_000


@pytest.fixture(scope="module")
def bundle(shop_home):
    return load_bundle(shop_home / "models" / "v1")


@pytest.fixture
def begun_us(bundle):
    """When the model was made: what comes in later is not in its history."""
    return instant_us(bundle.manifest.created_at)


@pytest.fixture
def log(fake_log):
    return fake_log.FakeLog()


@pytest.fixture
def snapshots(tmp_path):
    return Snapshots(tmp_path / "snapshots")


class Filled:
    """A log with some entries, and what they say as events: (when they were received, the events), by position."""

    def __init__(self, log, bundle, begun_us):
        self.log, self.schema, self.us = log, bundle.manifest.plan.schema, begun_us
        self.batches: dict[int, tuple[int, list]] = {}
        self.is_rotated = False
        self._n = 0

    def decide(self, n, **changes):
        self.us += 1_000
        payments = [self._payment(self._n + i, **changes) for i in range(n)]
        self._n += n
        ids = [one.transaction_id for one in payments]
        body = Decided(
            schema_id="", revision=1, detector="shop", deciders=(DECIDER,), by=bytes(n), ids=ids,
            hashes=hash_texts(ids).tobytes(), contents=[self.schema.encode(one) for one in payments], features=(b"",),
            scores=bytes(8 * n), levels=bytes(n), late=bytes(n), latencies_us=bytes(4 * n),
        )  # fmt: skip
        self._write(Kind.DECIDED, n, body_of(body), payments)

    def _payment(self, n, **changes):
        """Every fourth is older than the one before."""
        fields = {
            "transaction_id": f"t{n}", "event_time": self.us + 60_000_000 * (n - 90 * (n % 4 == 3)),
            "amount": 1.0 + n % 9, "card": f"card-{n % 5}", "shop": f"shop-{n % 3}", "channel": "web", "risk": 0.5,
        }  # fmt: skip
        payment = self.schema.wire_type(**fields | changes)
        if self.is_rotated:
            payment.hashed_before = {"card": payment.card, "channel": payment.channel}
            payment.card, payment.channel = f"new {payment.card}", f"new {payment.channel}"
        return payment

    def rotate(self, _n):
        """From now on card and channel are hashed with another key."""
        self.is_rotated = True

    def learn(self, n):
        self.us += 1_000
        told = [Outcome(f"t{max(self._n - i, 0)}", i % 2 == 0, self.us) for i in range(n)]
        ids = [one.transaction_id for one in told]
        body = Outcomes(
            ids=ids, hashes=hash_texts(ids).tobytes(), is_fraud=bytes(one.is_fraud for one in told),
            times_us=np.array([one.time_us for one in told]).tobytes(), about=bytes(8 * n),
        )  # fmt: skip
        self._write(Kind.OUTCOMES, n, body_of(body), told)

    def beat(self, _n):
        self._write(Kind.HEARTBEAT, 1, b"", [])

    def _write(self, kind, rows, body, events):
        self.batches[self.log.write(kind, rows, self.us, body)] = (self.us, events)

    def by_hand(self, bundle, begin=1):
        """The store that took the history, and then every event from position `begin` on."""
        store, columns_of, before = bundle.new_store(), columns_of_events(self.schema), names_before(self.schema)
        for position, (received_us, events) in self.batches.items():
            if position >= begin and events:
                store.advance(columns_of(events, received_us), before(events))
        return bits_of(store)


@pytest.fixture
def filled(log, bundle, begun_us):
    return Filled(log, bundle, begun_us)


def loaded(bundle, log, snapshots, begin=1):
    state = FeatureState(bundle, begin)
    state.load(log, snapshots)
    return state


def bits(state):
    return bits_of(state.store)


def bits_of(store):
    """What is remembered of every key, wherever its row is."""
    return {by: sorted(store.export(by, store.keys_of(by))) for by in store.groups}


def test_without_entries_it_is_the_history(bundle, log, snapshots):
    state = loaded(bundle, log, snapshots)
    assert (bits(state), state.position) == (bits_of(bundle.new_store()), 1)


def test_what_was_loaded_is_the_history_and_every_entry_from_begin_on(bundle, filled, log, snapshots):
    filled.decide(30)
    begin = log.durable
    for n in (20, 3):
        filled.decide(n)
        filled.learn(4)
        filled.beat(1)
    state = loaded(bundle, log, snapshots, begin)
    assert state.position == log.durable
    assert bits(state) == filled.by_hand(bundle, begin) != filled.by_hand(bundle)


STEPS = st.lists(
    st.tuples(st.sampled_from(["decide", "decide", "learn", "beat", "snapshot", "load"]), st.integers(1, 40)),
    min_size=2,
    max_size=12,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_wherever_snapshots_and_starts_fall_it_is_the_same_to_the_last_bit(
    bundle, fake_log, begun_us, tmp_path_factory, steps
):
    log = fake_log.FakeLog()
    filled = Filled(log, bundle, begun_us)
    snapshots = Snapshots(tmp_path_factory.mktemp("snapshots"))
    state = loaded(bundle, log, snapshots)
    for step, n in steps:
        if step == "snapshot":
            state.snapshot(log, snapshots)
        elif step == "load":
            state = loaded(bundle, log, snapshots)
        else:
            getattr(filled, step)(n)
            state.follow(log)
    assert bits(state) == filled.by_hand(bundle)
    assert bits(loaded(bundle, log, snapshots)) == filled.by_hand(bundle)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, rotated=st.integers(0, 12))
def test_with_another_hash_key_the_features_are_the_same_to_the_last_bit(
    bundle, fake_log, begun_us, tmp_path_factory, steps, rotated
):
    plain, filled = (Filled(fake_log.FakeLog(), bundle, begun_us) for _ in range(2))
    snapshots = Snapshots(tmp_path_factory.mktemp("snapshots"))
    state, expected = (loaded(bundle, one.log, snapshots) for one in (filled, plain))
    for n, (step, size) in enumerate(steps):
        if n == rotated:
            filled.rotate(size)
        if step == "snapshot":
            state.snapshot(filled.log, snapshots)
        elif step == "load":
            state = loaded(bundle, filled.log, snapshots)
        else:
            getattr(filled, step)(size)
            getattr(plain, step)(size)
            for mine, other in zip(filled.log.records[-1:], plain.log.records[-1:], strict=True):
                assert features(state.take(mine)) == features(expected.take(other))
    assert bits(loaded(bundle, filled.log, snapshots)) == filled.by_hand(bundle) == bits(state)


def features(found):
    return found and found.rows.tobytes()


def test_a_start_goes_on_from_the_newest_snapshot(bundle, filled, log, snapshots):
    filled.decide(10)
    state = loaded(bundle, log, snapshots)
    state.snapshot(log, snapshots)
    filled.decide(7)
    again = loaded(bundle, log, snapshots)
    assert (again.position, again.entries_since_snapshot) == (18, 7)
    again.snapshot(log, snapshots)
    assert again.entries_since_snapshot == 0


def test_snapshots_of_another_log_or_of_another_plan_are_not_used(bundle, filled, log, fake_log, snapshots, begun_us):
    filled.decide(10)
    loaded(bundle, log, snapshots).snapshot(log, snapshots)
    other = Filled(fake_log.FakeLog("other"), bundle, begun_us)
    other.decide(12)
    state = loaded(bundle, other.log, snapshots)
    assert state.entries_since_snapshot == 12
    assert bits(state) == other.by_hand(bundle)
    manifest = msgspec.structs.replace(bundle.manifest, plan_sha256="of another plan")
    changed = Bundle(manifest, bundle.scorer, bundle.reference, bundle._state)
    changed.state_id = bundle.state_id
    assert loaded(changed, log, snapshots).entries_since_snapshot == 10


def test_a_snapshot_ahead_of_the_log_is_not_used(bundle, filled, log, fake_log, snapshots, begun_us):
    filled.decide(10)
    loaded(bundle, log, snapshots).snapshot(log, snapshots)
    shorter = Filled(fake_log.FakeLog(), bundle, begun_us)
    shorter.decide(4)
    assert bits(loaded(bundle, shorter.log, snapshots)) == shorter.by_hand(bundle)


def test_a_state_whose_entries_were_pruned_is_refused_unless_a_snapshot_has_them(bundle, filled, log, snapshots):
    for _ in range(3):
        filled.decide(5)
    state = loaded(bundle, log, snapshots)
    log.prune(6)
    with pytest.raises(StorageProblem, match="need the log from position 1 on, and it begins at 6"):
        loaded(bundle, log, snapshots)
    state.snapshot(log, snapshots)
    filled.decide(5)
    again = loaded(bundle, log, snapshots)
    assert (again.entries_since_snapshot, bits(again)) == (5, filled.by_hand(bundle))


def test_only_what_is_durable_is_taken(bundle, fake_log, snapshots, begun_us):
    filled = Filled(fake_log.FakeLog(delayed=True), bundle, begun_us)
    filled.decide(5)
    state = loaded(bundle, filled.log, snapshots)
    assert state.position == 1
    filled.log.advance()
    state.follow(filled.log)
    assert (state.position, bits(state)) == (6, filled.by_hand(bundle))


def test_taking_a_record_gives_the_features_of_its_transactions(bundle, filled, log, snapshots):
    filled.decide(20)
    filled.learn(3)
    filled.beat(1)
    state = FeatureState(bundle, 1)
    state.store = bundle.new_store()
    decided, learned, beat = log.records
    features = state.take(decided)
    expected = bundle.new_store().advance(columns_of_events(filled.schema)(filled.batches[1][1], decided.received_us))
    np.testing.assert_array_equal(features.rows, expected.rows)
    assert state.take(learned) is state.take(beat) is None
    assert state.position == log.durable


def test_a_state_that_is_kept_has_its_begin_in_the_log(log):
    log.write(Kind.HEARTBEAT, 1, 5, b"")
    assert activation_of(log, "one") is None
    for name, begin in (("one", 1), ("other", 2)):
        log.write(Kind.ACTIVATION, 1, 5, body_of(Activation(name, begin)), standing=f"activation:{name}")
    assert (activation_of(log, "one"), activation_of(log, "other"), activation_of(log, "third")) == (1, 2, None)


def remade(bundle, last_us, created_at):
    history = msgspec.structs.replace(bundle.manifest.history, last_us=last_us)
    manifest = msgspec.structs.replace(bundle.manifest, history=history, created_at=created_at)
    return Bundle(manifest, bundle.scorer, bundle.reference, bundle._state)


@pytest.mark.parametrize(
    ("last_us", "created_at", "first"),
    [
        (1_000 * DAY_US, "1971-01-01T00:00:00Z", 2),  # made after 365 days: times ahead of that are no excuse
        (400 * DAY_US, "1975-01-01T00:00:00Z", 3),  # of a history that was exported long before
        (0, "1975-01-01T00:00:00Z", 1),
        (10_000 * DAY_US, "1990-01-01T00:00:00Z", 4),
    ],
)
def test_what_came_in_after_the_history_was_made_or_ends_is_not_in_it(bundle, log, made, last_us, created_at, first):
    """By when it was received: the transactions say that they all happened in 1970."""
    for days in (300, 366, 401):
        log.write(Kind.DECIDED, 1, days * DAY_US, made.decided([{"id": str(days)}]))
    assert first_after_history(log, remade(bundle, last_us, created_at).manifest) == first


def test_a_state_is_wasteful_when_most_of_its_memory_is_of_what_is_forgotten(bundle, log, snapshots, monkeypatch):
    monkeypatch.setattr(feature_state, "_SPARE_BYTES", 100_000)
    begun_us = bundle.manifest.history.last_us
    state = FeatureState(bundle, 1)
    state.load(log, snapshots)
    schema = bundle.manifest.plan.schema
    for day in range(1_800):  # new cards on the first days; then the same few for years
        numbers = range(200 * day, 200 * day + (200 if day < 40 else 20))
        cards = [f"card-{n}" if day < 40 else f"card-{n % 5}" for n in numbers]
        now_us = begun_us + (day if day < 40 else (day + 10_000) * DAY_US)
        given = {"event_time": now_us, "amount": 1.0, "shop": "s"}
        events = [
            schema.wire_type(transaction_id=f"n{n}", card=card, **given) for n, card in zip(numbers, cards, strict=True)
        ]
        state.advance(events, now_us)
        if day == 39:
            assert not state.is_wasteful
    assert state.is_wasteful
    before, taken = bits(state), state.store.snapshot()
    state.store.restore(taken)
    assert bits(state) == before
    assert not state.is_wasteful


def test_a_log_that_is_put_back_from_a_copy_does_not_meet_the_future_it_lost(bundle, snapshots, begun_us, tmp_path):
    folder, copy = tmp_path / "log", tmp_path / "copy"
    with closing(FileLog.open(folder, begun_us)) as log:
        before = Filled(log, bundle, begun_us)
        before.decide(10)
    shutil.copytree(folder, copy)
    with closing(FileLog.open(folder, begun_us)) as log:
        lost = Filled(log, bundle, begun_us + 60_000_000)
        lost.decide(15)
        state = loaded(bundle, log, snapshots)
        state.snapshot(log, snapshots)
        (saved,) = snapshots.positions(state.id, origin_of(log, bundle.manifest))
        assert saved == state.position
    shutil.rmtree(folder)
    shutil.copytree(copy, folder)
    with closing(FileLog.open(folder, begun_us)) as log:
        another = Filled(log, bundle, begun_us + 120_000_000)
        another._n = 5  # other cards at other times
        for _ in range(4):
            another.decide(5)
        assert log.durable > saved
        assert snapshots.positions(state.id, origin_of(log, bundle.manifest)) == []
        replayed = FeatureState(bundle, 1)
        replayed.load(log, Snapshots(tmp_path / "none"))
        assert bits(loaded(bundle, log, snapshots)) == bits(replayed) != bits(state)


def test_a_transaction_with_texts_longer_than_the_schema_accepts_is_named_and_counted(filled, bundle, log, snapshots):
    filled.decide(3)
    filled.decide(1, card="1" * 300, transaction_id="9" * 129)
    filled.decide(3)
    told = []
    state = FeatureState(bundle, 1, told.extend)
    state.load(log, snapshots)
    assert bits_of(state.store) == filled.by_hand(bundle)
    assert [(odd.position, odd.transaction_id) for odd in told] == [(4, "9" * 129)]
    assert "length <= 128" in told[0].why


def test_a_transaction_that_cannot_be_read_is_named_and_passed_over(filled, bundle, log, snapshots, caplog):
    filled.decide(2)
    filled.decide(2, amount="a lot")
    position = log.durable - 2
    filled.batches[position] = (filled.us, [])
    filled.decide(2)
    told = []
    state = FeatureState(bundle, 1, told.extend)
    state.load(log, snapshots)
    assert state.position == log.durable
    assert bits_of(state.store) == filled.by_hand(bundle)
    assert [odd.position for odd in told] == [3, 4]
    loaded(bundle, log, snapshots)
    assert "at position 3 of the log does not fit the schema" in caplog.text

    again = FeatureState(bundle, 1)
    again.restore(log, snapshots)
    features = [again.take(record) for record in log.read(1, 100)]
    assert [np.isnan(one.rows).all(axis=1).tolist() for one in features] == [[False] * 2, [True] * 2, [False] * 2]
    assert features[1].late.tolist() == [0, 0]
