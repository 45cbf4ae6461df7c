"""A champion of other features: a front decides by the one before until Redis has the profiles for it."""

import os
import secrets
import shutil
import signal
from pathlib import Path

import pytest
from owner_and_fronts import OwnerAndFronts, payment

from tests.http_calls import call, until
from tests.scenarios.kafka_streams import sentinel


@pytest.fixture
def wide(service, four_models_home, tmp_path):
    home = shutil.copytree(four_models_home, tmp_path / "tenants" / f"w{secrets.token_hex(4)}")
    made = OwnerAndFronts(
        home, service("redis").environment["REDIS_URL"], service("kafka").environment["SENTINEL_KAFKA"]
    )
    try:
        made.start()
        yield made
    finally:
        made.close()


def writer_of(pid):
    """The process beside an owner that writes the profiles."""
    children = [one for task in Path(f"/proc/{pid}/task").iterdir() for one in (task / "children").read_text().split()]
    [found] = {
        int(one) for one in children if b"record.online.follower" in Path(f"/proc/{one}/cmdline").read_bytes()
    }  # fmt: skip
    return found


def test_a_champion_of_other_features_waits_for_its_profiles(wide):
    front, answers = wide.fronts[0], []

    def asked():
        status, answer = call(front, "/v1/score", payment(f"c{len(answers) % 3}", amount=1.0 + len(answers)))
        assert status == 200
        answers.append(answer)
        return answer

    def waits_for():
        asked()
        return call(front, "/health")[1]["deployment"]["waits_for_profiles"]

    assert asked()["model_version"] == "v1"
    writer = writer_of(wide.owner.pid)
    os.kill(writer, signal.SIGSTOP)
    try:
        sentinel({}, "models", "promote", "v4", "--force", "--reason", "a test", "--home", str(wide.home))
        until(waits_for)
        for _ in range(5):
            assert asked()["model_version"] == "v1"
        assert call(front, "/health/ready")[0] == 200
    finally:
        os.kill(writer, signal.SIGCONT)
    assert {(one["features_state"], one["degraded"]) for one in answers} == {("as_of", None)}
    until(lambda: (one := asked())["model_version"] == "v4" and one["features_state"] == "as_of")
    assert waits_for() is None
    told = {(one["features_state"], one["degraded"]) for one in answers}  # the new ones are written over the old ones
    assert told <= {("as_of", None), ("none", "profiles unavailable")}
