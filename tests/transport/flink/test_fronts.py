"""A job of Flink that keeps the profiles, and a front that answers from them: given here, recorded there."""

import secrets
import shutil

import pytest
from owner_and_fronts import payment
from topics_of_a_job import JobTopics

from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.config import read_settings
from tests.http_calls import HOST, call, until

pytestmark = pytest.mark.timeout(1_800)  # the kernel is compiled in an environment of its own first


@pytest.fixture
def topics(environment_of, service, shop_home, tmp_path, monkeypatch):
    home = shutil.copytree(shop_home, tmp_path / "tenants" / f"f{secrets.token_hex(4)}")
    monkeypatch.setenv("SENTINEL_REDIS_URL", service("redis").environment["REDIS_URL"])
    monkeypatch.setenv("SENTINEL_FRONTS_KEY", secrets.token_hex(32))  # of the job's tasks, and of the front
    settings = read_settings({"home": home, "flink_python": environment_of("flink") / "bin" / "python"})
    made = JobTopics(settings, service("kafka").environment["SENTINEL_KAFKA"], tmp_path)
    yield made
    made.close()


@pytest.fixture
def front(topics):
    server = ServerProcess(
        topics.settings.home, HOST, free_port(HOST), environment=topics.environment | {"SENTINEL_PROFILES": "redis"}
    )
    server.start()
    yield server
    server.stop()


def answered(topics, front, rows):
    """What the front answers to these, and what the job records of them."""
    status, answers = call(front, "/v1/score", rows)
    assert status == 200
    names = [row["transaction_id"] for row in rows]
    topics.read_until(lambda seen: set(names) <= {one["transaction_id"] for one in seen.decided})
    entries = {one["transaction_id"]: one for one in topics.decided}
    return answers, [entries[name] for name in names]


def has_profiles(topics, front):
    return answered(topics, front, [payment("warm-up")])[0][0]["features_state"] == "as_of"


def test_a_front_has_the_features_of_the_job_before_and_after_it_is_killed(topics, front):
    topics.start(checkpoint_ms=300)
    until(lambda: has_profiles(topics, front), 900)
    for n in range(6):
        if n == 3:
            topics.kill()
            topics.start(checkpoint_ms=300, restore=topics.checkpoint())
            until(lambda: has_profiles(topics, front), 900)  # the tasks have to say so first
        rows = [payment(f"c{card}", f"shop{card}", 2.5 * n + card) for card in range(4)]
        answers, entries = answered(topics, front, rows)
        for answer, entry in zip(answers, entries, strict=True):
            assert (answer["features_state"], answer["degraded"]) == ("as_of", None)
            assert entry["given_features"] == entry["features"], n  # to the bit: all before were written
            assert entry["fraud_probability"] == answer["fraud_probability"] == entry["exact"]["fraud_probability"]
            assert entry["decision"] == answer["decision"]
            assert entry["profiles_age_ms"] == answer["profiles_age_ms"]
            assert entry["sequence"] == {"card": n + 1, "shop": n + 1}
    assert topics.dead == []
