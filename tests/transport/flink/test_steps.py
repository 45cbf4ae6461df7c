"""What the operators of a job do with an event, without Flink: reading, keeping, deciding."""

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.commands.flink import home_of
from sentinel.config import read_settings
from sentinel.errors import BadBody, InvalidDefinition, InvalidInput
from sentinel.events.columns import columns_of_transactions
from sentinel.events.schema import Schema
from sentinel.features import definitions as f
from sentinel.features.event_cells import EventCells
from sentinel.features.plan import FeaturePlan
from sentinel.features.store import MemoryStore
from sentinel.model.bundle import load_bundle
from sentinel.policy.thresholds import Thresholds
from sentinel.transport.flink.deciding import Decider
from sentinel.transport.flink.kafka_client import kafka_client
from sentinel.transport.flink.keeping import MOST_OF_ONE, Ids, Profiles, Verdict
from sentinel.transport.flink.reading import Reader
from sentinel.transport.wide.handed import GivenDecision, Handed, encode_handed
from sentinel.transport.wide.seal import Seal
from sentinel.transport.wide.sufficing import check_profiles_suffice

SCHEMA = Schema(keys=("card", "shop"), optional=("shop", "event_time"))
PLAN = FeaturePlan(
    SCHEMA,
    (
        f.count(by="card", over="1h"),
        f.total("amount", by="shop", over="1h"),
        f.fraud_count(by="card", over="7d", delay="1h"),
    ),
)
NOW_US = 1_800_000_000_000_000
SEAL = Seal(["a key of the fronts, of these tests"], "transactions")
READER = Reader(PLAN, read_settings({}, {}).secrets(), SEAL)


def sent(name, card="c", at_s=NOW_US // 1_000_000, **more):
    return json.dumps({"transaction_id": name, "amount": 5, "card": card, "event_time": at_s, **more}).encode()


def told(name, *, is_fraud=True, **more):
    return READER.outcome(json.dumps({"transaction_id": name, "is_fraud": is_fraud, **more}).encode(), NOW_US)


def verdicts(judged):
    return [one.verdict for one in judged]


def test_a_transaction_is_read_as_the_http_call_reads_it():
    event = READER.transaction(sent("t1", shop="s"), NOW_US)
    assert (event.id, event.card) == ("t1", "c")
    assert SCHEMA.decode(event.content) == SCHEMA.decode(sent("t1", shop="s"))


def test_without_a_time_it_happened_when_the_broker_had_it():
    raw = b'{"transaction_id": "t", "amount": 1, "card": "c"}'
    assert json.loads(READER.transaction(raw, NOW_US).content)["event_time"] == NOW_US


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"", BadBody),
        (b"\xff", BadBody),
        (b'{"transaction_id": "t", "card": "c", "amount": -1}', InvalidInput),
        (sent("t", at_s=NOW_US / 1e6 + 90_000), InvalidInput),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(raw, error):
    with pytest.raises(error):
        READER.transaction(raw, NOW_US)


def test_without_an_id_it_is_refused_since_a_second_reading_would_give_it_another_one():
    plan = FeaturePlan(msgspec.structs.replace(SCHEMA, optional=("transaction_id",)), (f.field("amount"),))
    with pytest.raises(InvalidInput, match="Expected an id"):
        Reader(plan, read_settings({}, {}).secrets()).transaction(
            b'{"amount": 1, "card": "c", "shop": "s", "event_time": 1800000000}', NOW_US
        )


@settings(max_examples=200, deadline=None)
@given(
    st.decimals(0, 10**9, places=2), st.text(min_size=1, max_size=9).filter(lambda one: one.isalnum()),
    st.none() | st.just("shop"), st.integers(-10, 10),
)  # fmt: skip
def test_the_cells_hold_what_the_columns_hold(amount, card, shop, ahead_s):
    transaction = SCHEMA.decode(sent("t", card, NOW_US // 10**6 + ahead_s, shop=shop, amount=float(amount)))
    cells, columns = EventCells(PLAN, MemoryStore(PLAN)), columns_of_transactions(SCHEMA)([transaction], NOW_US)
    cells.read(cells.pack(transaction, NOW_US))
    for name in ("kinds", "ids", "time_us", "received_us", "exact", "plain", "texts", "labels"):
        assert getattr(cells, name).tolist() == getattr(columns, name).tolist(), name
    assert np.isnan(cells.out).all()


def test_a_transaction_goes_on_once_and_another_one_under_its_id_is_a_conflict():
    ids = Ids(PLAN)
    event = READER.transaction(sent("t1"), NOW_US)
    judged, kept = ids.take(event, None)
    assert verdicts(judged) == [Verdict.NEW]
    assert ids.take(event, kept) == ([(Verdict.REPEATED, event)], kept)
    judged, after = ids.take(READER.transaction(sent("t1", amount=6), NOW_US), kept)
    assert (verdicts(judged), after) == ([Verdict.CONFLICT], kept)


def test_an_outcome_finds_the_keys_of_its_transaction_and_counts_once_a_source():
    ids = Ids(PLAN)
    _, kept = ids.take(READER.transaction(sent("t1"), NOW_US), None)
    [judged], kept = ids.take(told("t1"), kept)
    assert (judged.verdict, judged.event.card) == (Verdict.NEW, "c")
    assert ids._cells.text_hashes(judged.event.packed) == ids._cells.text_hashes(
        READER.transaction(sent("t2"), NOW_US).packed
    )
    assert verdicts(ids.take(told("t1"), kept)[0]) == [Verdict.REPEATED]
    assert verdicts(ids.take(told("t1", is_fraud=False), kept)[0]) == [Verdict.NEW]
    assert verdicts(ids.take(told("t1", source="bank"), kept)[0]) == [Verdict.NEW]


def test_an_outcome_of_a_source_that_is_not_trusted_is_written_down_only():
    ids = Ids(msgspec.structs.replace(PLAN, trusts=("bank",)))
    _, kept = ids.take(READER.transaction(sent("t1"), NOW_US), None)
    assert verdicts(ids.take(told("t1"), kept)[0]) == [Verdict.WRITTEN]


def test_an_outcome_before_its_transaction_is_written_down_and_counts_once_that_is_there():
    ids, kept = Ids(PLAN), None
    for n in range(MOST_OF_ONE + 3):
        [judged], kept = ids.take(told("t1", time=NOW_US // 10**6 + n), kept)
        assert (judged.verdict, judged.event.known) == (Verdict.WRITTEN, False)
    judged, kept = ids.take(READER.transaction(sent("t1"), NOW_US), kept)
    assert verdicts(judged) == [Verdict.NEW] * (1 + MOST_OF_ONE)
    assert all(one.event.known and one.event.card == "c" for one in judged)
    assert verdicts(ids.take(told("t1"), kept)[0]) == [Verdict.REPEATED]


def test_a_key_numbers_its_events_and_is_forgotten_after_its_horizon():
    store = MemoryStore(PLAN)
    profiles = Profiles(PLAN, "card", lambda _: b"")
    first, second = (READER.transaction(sent(name), NOW_US + n) for n, name in enumerate("ab"))
    event, kept = profiles.take(first, None)
    assert event.numbers == (1,)
    event, kept = profiles.take(second, kept)
    assert event.numbers == (2,)
    horizon_us = store.compiled.groups[store.groups.index("card")].horizon
    assert profiles.forgotten_at(kept) == NOW_US + 1 + horizon_us + 1


def test_without_a_key_nothing_is_kept():
    event, kept = Profiles(PLAN, "shop", lambda _: pytest.fail("nobody's profile")).take(
        READER.transaction(sent("a"), NOW_US), None
    )
    assert (event.numbers, kept) == ((0,), None)


def test_a_key_that_was_never_seen_here_begins_with_what_the_training_history_knew():
    bundle_store = MemoryStore(PLAN)
    events = columns_of_transactions(SCHEMA)([SCHEMA.decode(sent("h"))], NOW_US - 1_000_000)
    bundle_store.advance(events)
    profiles = Profiles(PLAN, "card", lambda key: bundle_store.export("card", np.array([key], np.uint64))[0])
    event, _ = profiles.take(READER.transaction(sent("a"), NOW_US), None)
    cells = EventCells(PLAN, MemoryStore(PLAN))
    cells.read(event.packed)
    assert cells.features()[0, 0] == 2.0


def test_an_entry_says_what_was_decided_and_by_what(shop_home):
    bundle = load_bundle(shop_home / "models" / "v1")
    plan = bundle.manifest.plan
    reader = Reader(plan, read_settings({}, {}).secrets())
    event = reader.transaction(sent("t1", shop="s"), NOW_US)
    for by in MemoryStore(plan).groups:
        event, _ = Profiles(plan, by, lambda _: b"").take(event, None)
    entry = json.loads(Decider(bundle, bundle.thresholds).entry(event))
    row = np.array([[np.nan if one is None else one for one in entry["features"]]])
    assert entry["fraud_probability"] == float(bundle.scorer.score(row)[0])
    assert entry["decision"] == str(bundle.thresholds.action(entry["fraud_probability"]))
    assert entry["sequence"] == {"card": 1, "shop": 1}
    assert entry["received_us"] == NOW_US


def test_what_a_job_cannot_do_is_refused_before_it_starts():
    schema = msgspec.structs.replace(SCHEMA, events={"login": ("card",)})
    told_of = FeaturePlan(schema, (f.count(by="card", event="login", over="1h"),))
    with pytest.raises(InvalidDefinition, match="features of context events"):
        check_profiles_suffice(told_of, read_settings({}, {}))


def test_the_home_of_a_detector_below_is_taken(tmp_path):
    below = tmp_path / "detectors" / "wallet"
    below.mkdir(parents=True)
    settings = read_settings({"home": tmp_path}, {})
    assert (home_of(settings, "wallet").home, home_of(settings, "shop").home) == (below, tmp_path)


def test_the_client_of_flink_is_told_what_librdkafka_is_told():
    environment = {
        "SENTINEL_KAFKA": "a:9093,b:9093", "SENTINEL_KAFKA_PREFIX": "test-",
        "SENTINEL_KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "SENTINEL_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "SENTINEL_KAFKA_SASL_USERNAME": "ann", "SENTINEL_KAFKA_SASL_PASSWORD": 'a"b\\c',
        "SENTINEL_KAFKA_SSL_CA_LOCATION": "/ca.pem",
    }  # fmt: skip
    client = kafka_client(environment)
    assert client.prefix == "test-"
    assert client.librdkafka["sasl.password"] == 'a"b\\c'
    assert client.java == {
        "bootstrap.servers": "a:9093,b:9093", "security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required "
        'username="ann" password="a\\"b\\\\c";',
        "ssl.truststore.type": "PEM", "ssl.truststore.location": "/ca.pem",
    }  # fmt: skip


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SENTINEL_KAFKA": "a:1", "SENTINEL_KAFKA_SASL_MECHANISM": "GSSAPI"},
        {"SENTINEL_KAFKA": "a:1", "SENTINEL_KAFKA_LINGER_MS": "5"},
    ],
)
def test_what_it_cannot_be_told_is_refused(environment):
    with pytest.raises(InvalidDefinition):
        kafka_client(environment)


def handed(name, answer="block", score=0.5, said=None, features=(1.0, None), **more):
    """What a front would hand over of `sent`; `said` is what it says otherwise."""
    given = GivenDecision(
        transaction_id=name, decision=answer, fraud_probability=score, threshold=0.2,
        thresholds=Thresholds(review=0.2, block=0.4), model_version="v7", detector="d", features_state="as_of",
        batch_size=1, latency_us=9, replayed=False, degraded=None, circuit_breaker_state="closed", variant=None,
        decided_by="model", profiles_age_ms=12.5,
    )  # fmt: skip
    given = msgspec.structs.replace(given, **(said or {}))
    return SEAL.sealed(encode_handed(Handed(given, list(features), msgspec.Raw(sent(name, **more)))))


def test_the_answer_that_a_front_gave_is_the_decision_beside_what_exact_features_call_for(shop_home):
    bundle = load_bundle(shop_home / "models" / "v1")
    plan = bundle.manifest.plan
    reader = Reader(plan, read_settings({}, {}).secrets(), SEAL)
    event, own = reader.transaction(handed("t1", shop="s"), NOW_US), reader.transaction(sent("t1", shop="s"), NOW_US)
    assert event._replace(given=b"") == own
    for by in MemoryStore(plan).groups:
        event, own = (Profiles(plan, by, lambda _: b"").take(one, None)[0] for one in (event, own))
    decider = Decider(bundle, bundle.thresholds)
    entry, exact = json.loads(decider.entry(event)), json.loads(decider.entry(own))
    assert (entry["decision"], entry["fraud_probability"], entry["model_version"]) == ("block", 0.5, "v7")
    assert (entry["profiles_age_ms"], entry["given_features"]) == (12.5, [1.0, None])
    assert entry["exact"] == {name: exact[name] for name in ("decision", "fraud_probability")}
    assert (entry["features"], entry["sequence"]) == (exact["features"], exact["sequence"])
    assert {"profiles_age_ms", "given_features", "exact"} & exact.keys() == set()


def test_the_first_answer_of_an_id_holds_and_another_one_is_told():
    ids = Ids(PLAN)
    first = READER.transaction(handed("t1"), NOW_US)
    judged, kept = ids.take(first, None)
    assert verdicts(judged) == [Verdict.NEW]
    assert verdicts(ids.take(first, kept)[0]) == [Verdict.REPEATED]
    assert verdicts(ids.take(READER.transaction(sent("t1"), NOW_US), kept)[0]) == [Verdict.REPEATED]
    other = READER.transaction(handed("t1", answer="approve"), NOW_US)
    assert verdicts(ids.take(other, kept)[0]) == [Verdict.OTHER_ANSWER]
    changed = READER.transaction(handed("t1", amount=7), NOW_US)
    assert verdicts(ids.take(changed, kept)[0]) == [Verdict.CONFLICT]


@pytest.mark.parametrize(
    "raw",
    [
        SEAL.sealed(b'{"given":{"no":1}}'), SEAL.sealed(b'{"given":{'), handed("t1", features=()),
        SEAL.sealed(SEAL.opened(handed("t1")).replace(b'"t1"', b'"t2"', 1)),
        handed("t1", score=1.5), handed("t1", score=-0.1), handed("t1", said={"model_version": "v7" * 40}),
        handed("t1", said={"model_version": "../v7"}), handed("t1", said={"model_version": "v7\0"}),
        handed("t1", said={"rules": ["large", "r" * 81]}), handed("t1", said={"rules": ["a\0b"]}),
        handed("t1", said={"degraded": "x" * 257}), handed("t1", said={"circuit_breaker_state": "ajar"}),
        handed("t1", said={"profiles_age_ms": -1.0}), handed("t1", answer="allow"),
    ],
)  # fmt: skip
def test_what_no_front_would_hand_over_is_refused(raw):
    with pytest.raises((BadBody, InvalidInput)) as told:
        READER.transaction(raw, NOW_US)
    assert "seal" not in str(told.value)


def test_what_no_front_has_sealed_is_no_answer_of_one():
    unsealed = SEAL.opened(handed("t1"))
    with pytest.raises(BadBody, match="bears no seal"):
        READER.transaction(unsealed, NOW_US)
    with pytest.raises(BadBody, match="another key, topic or message"):
        READER.transaction(handed("t1").replace(b'"block"', b'"allow"', 1), NOW_US)
    with pytest.raises(BadBody, match="give each worker their key"):
        Reader(PLAN, read_settings({}, {}).secrets()).transaction(handed("t1"), NOW_US)
