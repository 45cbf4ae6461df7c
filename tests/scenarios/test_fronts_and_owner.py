"""Fronts and one owner, without Flink: a real broker and Redis, what fronts answer recorded as given, whatever is killed.

The owner's follower writes the profiles; fronts are of other machines, which have models only.
"""

import os
import secrets
import shutil
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import numpy as np
import pytest
from confluent_kafka import Producer

from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.record.online.place import open_online
from sentinel.transport.wide.seal import Seal
from tests.http_calls import HOST, call, until
from tests.scenarios.kafka_streams import Consuming, decided_in_kafka, new_topics, read_all, sentinel
from tests.scenarios.kills_found import bits_that_differ

KILLS = int(os.environ.get("SENTINEL_KILLS", "2"))
SEED = int(os.environ.get("SENTINEL_SEED", "11"))
LONG_S, CALLERS, PAUSE_S = 120, 3, 0.05


def payment(card="c1", **changes):
    usual = {
        "transaction_id": f"p{secrets.token_hex(6)}", "event_time": datetime.now(UTC).isoformat(), "amount": 12.5,
        "card": card, "shop": "s1", "channel": "web", "risk": 0.5,
    }  # fmt: skip
    return usual | changes


class Company:
    """An owner of a log in Kafka, and two fronts, each with a home of its own."""

    def __init__(self, folder, models, broker, redis):
        tenant = f"w{secrets.token_hex(4)}"  # its own project in Redis
        self.homes = {name: folder / name / "tenants" / tenant for name in ("owner", "one", "two")}
        shutil.copytree(models, self.homes["owner"])
        for name in ("one", "two"):
            shutil.copytree(models / "models", self.homes[name] / "models")
        self.key = secrets.token_hex(32)
        self.environment = new_topics(
            broker, SENTINEL_LOG="kafka", SENTINEL_REDIS_URL=redis, SENTINEL_FRONTS="on", SENTINEL_FRONTS_KEY=self.key
        )
        sentinel(self.environment | {"SENTINEL_HOME": str(self.homes["owner"])}, "topics", "create", "--json")
        self.topics = self.environment | {
            "SENTINEL_KAFKA_PREFIX": f"{self.environment['SENTINEL_KAFKA_PREFIX']}{tenant}.-."
        }
        self.owner = Consuming(self.homes["owner"], HOST, free_port(HOST), environment=self.environment)
        self.owner.start()
        assert call(self.owner, "/v1/score", payment())[0] == 200  # the profiles are of its model from now on
        self.profiles = open_online(self.homes["owner"], "shop", redis)
        self.until_written()
        given = self.environment | {"SENTINEL_PROFILES": "redis"}
        self.fronts = [
            ServerProcess(self.homes[name], HOST, free_port(HOST), environment=given) for name in ("one", "two")
        ]
        for front in self.fronts:
            front.start()

    @property
    def servers(self):
        return [self.owner, *self.fronts]

    def rows(self):
        return {row.transaction_id: row for row in decided_in_kafka(self.topics)}

    def until_recorded(self, names):
        end = time.monotonic() + LONG_S
        while missing := set(names) - self.rows().keys():
            assert time.monotonic() < end, f"{len(missing)} of {len(names)}, {sorted(missing)[:5]}"
            time.sleep(0.2)

    def until_written(self):
        """Until the profiles have all that the owner has decided."""
        end = call(self.owner, "/health")[1]["log"]["end"]
        until(lambda: (at := self.profiles.position()) is not None and at.position >= end, LONG_S)

    def answered(self, one, first):
        """Ask one front, and if it does not answer the other, until one does."""
        while True:
            for front in (self.fronts[first], self.fronts[1 - first]):
                try:
                    status, answer = call(front, "/v1/score", one)
                except (OSError, ValueError):  # it was killed meanwhile
                    continue
                if status == 200:
                    return answer
                assert status == 503, answer

    def close(self):
        for server in reversed(self.servers):
            server.stop()
        self.profiles.close()


@pytest.fixture(scope="module")
def company(service, two_models_home, tmp_path_factory):
    made = Company(
        tmp_path_factory.mktemp("company"), two_models_home, service("kafka").environment["SENTINEL_KAFKA"],
        service("redis").environment["REDIS_URL"],
    )  # fmt: skip
    try:
        yield made
    finally:
        made.close()


def test_the_owner_records_what_a_front_gave_and_says_what_exact_features_call_for(company):
    for n in range(3):
        sent = [payment(f"card-{card}", amount=3.0 * n + card) for card in range(4)]
        status, answers = call(company.fronts[n % 2], "/v1/score", sent)
        assert status == 200
        company.until_recorded([one["transaction_id"] for one in sent])
        company.until_written()
        for one, answer in zip(sent, answers, strict=True):
            assert (answer["features_state"], answer["degraded"]) == ("as_of", None)
            status, stored = call(company.owner, f"/v1/decisions/{one['transaction_id']}")
            assert status == 200
            for name in ("decision", "fraud_probability", "model_version", "features_state", "profiles_age_ms"):
                assert stored[name] == answer[name], name
            assert stored["given_features"] == stored["features"]  # to the bit: all before were written
            assert stored["exact"]["fraud_probability"] == answer["fraud_probability"]
            assert call(company.owner, "/v1/score", one) == (200, answer | {"replayed": True})
    assert stored["features"]["count_by_card_24h"] == 3


def test_an_id_that_the_owner_decided_before_holds_and_another_answer_is_a_dead_letter(company):
    one = payment("dead", amount=50_000.0, shop="shop-3")
    _, given = call(company.fronts[0], "/v1/score", one)
    company.until_recorded([one["transaction_id"]])
    topic = company.topics["SENTINEL_KAFKA_PREFIX"] + "transactions"
    first = next(
        value for _, value in read_all(company.topics, "transactions") if one["transaction_id"].encode() in value
    )
    other, seal = "approve" if given["decision"] != "approve" else "block", Seal([company.key], topic)
    forged = first.replace(b'"decision":"%s"' % given["decision"].encode(), b'"decision":"%s"' % other.encode())
    assert forged != first
    changed = seal.sealed(forged[: forged.rindex(b',"seal"')] + b"}")  # as by a front that has answered otherwise
    strange = Seal([secrets.token_hex(32)], topic).sealed(seal.opened(first).replace(b'"dead"', b'"else"'))
    wrong = [forged, seal.opened(first), strange, changed]
    producer = Producer({"bootstrap.servers": company.topics["SENTINEL_KAFKA"]})
    for message in (first, *wrong):
        producer.produce(topic, message, b"dead")
    assert producer.flush(60) == 0
    until(lambda: any(value == changed for _, value in read_all(company.topics, "dead-letters")), LONG_S)
    assert company.rows()[one["transaction_id"]].decision == given["decision"]
    assert sorted(value for _, value in read_all(company.topics, "dead-letters")) == sorted(wrong)
    with urllib.request.urlopen(f"http://{HOST}:{company.owner.port}/metrics/prom", timeout=60) as reply:
        assert "sentinel_fronts_refused_total 3.0" in reply.read().decode()


def test_what_is_applied_is_followed_within_seconds_and_no_request_is_lost(company):
    stopping, answers, faults = threading.Event(), [], []

    def ask(n):
        while not stopping.wait(PAUSE_S):
            status, answer = call(company.fronts[n % 2], "/v1/score", payment(f"f{n}"))
            answers.append(answer)
            if status != 200:
                faults.append(answer)

    def says(**wanted):
        """Whether both fronts answer so."""
        found = [call(front, "/v1/score", payment("listed", amount=77.0))[1] for front in company.fronts]
        return all(one.get(name) == value for one in found for name, value in wanted.items())

    def sent(path, body):
        status, said = call(company.owner, path, body)
        assert status == 200, said
        return said

    with ThreadPoolExecutor(CALLERS) as threads:
        asking = [threads.submit(ask, n) for n in range(CALLERS)]
        try:
            sentinel(
                company.environment,
                "models",
                "promote",
                "v2",
                "--force",
                "--reason",
                "a test",
                "--home",
                str(company.homes["owner"]),
            )
            until(lambda: says(model_version="v2"))
            book = {
                "rules": [{"name": "odd", "when": "amount > 76 and amount < 78", "do": "review", "reason": "odd"}],
                "lists": [{"name": "bad", "kind": "deny", "by": "card"}],
            }  # fmt: skip
            draft = sent("/v1/rules/drafts", {"book": book, "note": ""})["draft"]
            sent("/v1/rules/apply", {"draft": draft})
            until(lambda: says(rules=["odd"]))
            sent("/v1/lists/bad", {"value": "listed", "reason": "stolen"})
            until(lambda: says(decision="block"))
        finally:
            stopping.set()
        for one in asking:
            one.result()
    assert faults == []
    revisions = [call(front, "/health")[1]["deployment"] for front in company.fronts]
    assert [one["status"] for one in revisions] == ["ok", "ok"]
    assert len({one["revision"] for one in revisions}) == 1
    company.until_recorded([one["transaction_id"] for one in answers])
    rows = company.rows()
    for one in answers:
        assert (rows[one["transaction_id"]].decision, rows[one["transaction_id"]].decider.model_version) == (
            one["decision"], one["model_version"],
        )  # fmt: skip


def test_kills_lose_nothing_record_nothing_twice_and_change_no_answer(company):
    rng, answers, stopping = np.random.default_rng(SEED), {}, threading.Event()

    def ask(caller):
        n = 0
        while not stopping.wait(PAUSE_S):
            one = payment(f"k{caller}-{n % 5}", amount=1.0 + n % 90)
            answers[one["transaction_id"]] = company.answered(one, (caller + n) % 2)
            n += 1

    with ThreadPoolExecutor(CALLERS) as threads:
        asking = [threads.submit(ask, caller) for caller in range(CALLERS)]
        try:
            for n in range(KILLS + 1):
                before = len(answers)
                until(lambda before=before: len(answers) > before + int(rng.integers(20, 120)), LONG_S)
                company.servers[n % 3].kill()
                company.servers[n % 3].start()
        finally:
            stopping.set()
        for one in asking:
            one.result()
    company.until_recorded(answers)
    recorded = decided_in_kafka(company.topics)
    names = [row.transaction_id for row in recorded]
    rows = {row.transaction_id: row for row in recorded}
    assert len(names) == len(set(names)), f"seed {SEED}"
    for name, answer in answers.items():
        told = (rows[name].decision, rows[name].fraud_probability, rows[name].decider.model_version)
        assert told == (answer["decision"], answer["fraud_probability"], answer["model_version"]), (
            f"{name}, seed {SEED}"
        )
    print(f"seed {SEED}: {KILLS + 1} kills, {len(answers)} answers")


def test_all_of_it_can_be_computed_again(company):
    company.until_written()
    for server in company.servers:
        server.stop()
    home = str(company.homes["owner"])
    report = sentinel(company.environment, "replay", "--all", "--json", "--home", home)
    assert (report["differing"], report["impossible"]) == (0, 0)
    assert report["decisions"] > 100
    assert bits_that_differ(company.homes["owner"])[0] == 0
