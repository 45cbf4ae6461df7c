"""What a front answers while Redis or the broker is away, and that it goes on by itself when they are back."""

import secrets
import shutil

import pytest
from owner_and_fronts import OwnerAndFronts, OwnRedis, payment

from tests.http_calls import call, until


@pytest.fixture
def redis(service, tmp_path):
    service("redis")
    made = OwnRedis(tmp_path / "redis-services")
    yield made
    made.stop()


@pytest.fixture
def wide(shop_home, tmp_path, redis, own_kafka):
    home = shutil.copytree(shop_home, tmp_path / "tenants" / f"w{secrets.token_hex(4)}")
    made = OwnerAndFronts(home, redis.url, own_kafka.servers)
    try:
        made.start()
        yield made
    finally:
        made.close()


def score(wide, one):
    return call(wide.fronts[0], "/v1/score", one)


def is_ready(wide):
    return call(wide.fronts[0], "/health/ready")[0] == 200


def test_without_redis_the_rules_answer_and_without_the_topic_nothing_does(wide, redis, own_kafka):
    status, answer = score(wide, payment("c1"))
    assert (status, answer["features_state"], answer["degraded"]) == (200, "as_of", None)

    redis.stop()
    sent = payment("c1", amount=12.0)
    status, answer = score(wide, sent)
    assert (status, answer["features_state"], answer["degraded"]) == (200, "none", "profiles unavailable")
    assert (answer["decided_by"], answer["profiles_age_ms"]) == ("rules", None)
    features = dict(
        zip(wide.names, wide.topic.first_of([sent["transaction_id"]])[sent["transaction_id"]]["features"], strict=True)
    )
    assert (features["amount"], features["count_by_card_24h"], features["count_by_shop_1h"]) == (12.0, None, None)
    assert score(wide, sent) == (200, answer | {"replayed": True})
    assert is_ready(wide)
    assert "see that it runs" in call(wide.fronts[0], "/health")[1]["profiles"]["status"]

    redis.start()
    until(lambda: score(wide, payment("c1"))[1]["features_state"] == "as_of")

    own_kafka.kill()
    sent = payment("c2")
    status, said = score(wide, sent)
    assert (status, "send it again" in said["error"]) == (503, True)
    assert not is_ready(wide)
    own_kafka.start()
    until(lambda: is_ready(wide))
    status, answer = score(wide, sent)
    assert (status, answer["transaction_id"]) == (200, sent["transaction_id"])
    wide.topic.first_of([sent["transaction_id"]])
