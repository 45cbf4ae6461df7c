"""What a task writes to Redis beside itself, while Redis is there and while it is not."""

import secrets
import time

import pytest
from owner_and_fronts import OwnRedis, until

from sentinel.record.online.keepers import KeeperStore
from sentinel.record.online.layout import ProfileRow
from sentinel.record.online.store import OnlineStore
from sentinel.transport.flink.profile_writing import ProfileWriter

FAR_MS = 4_000_000_000_000


@pytest.fixture
def redis(service, tmp_path):
    service("redis")
    made = OwnRedis(tmp_path / "redis-services")
    yield made
    made.stop()


@pytest.fixture
def store(redis):
    one = OnlineStore(redis.url, f"sentinel_{secrets.token_hex(6)}", timeout_s=0.5)
    yield one
    one.close()


def now_us():
    return time.time_ns() // 1000


def test_the_newest_profile_of_a_key_is_written_also_when_redis_was_away(store, redis):
    job = KeeperStore(store, "flink:a", "state")
    job.begin([], goes_on=False)
    before_us = now_us()
    writer = ProfileWriter(job, "card", "0")
    try:
        begun_us = now_us()
        assert writer.is_written(1, before_us) is None, "what a process before this one was given may be lost"
        writer.put(ProfileRow(1, b"one", 5, FAR_MS), 5)
        writer.put(ProfileRow(1, b"two", 6, FAR_MS), 6)
        until(lambda: writer.is_written(1, begun_us))
        assert store.profile("card", 1) == (6, b"two")
        redis.stop()
        writer.put(ProfileRow(1, b"three", 7, FAR_MS), 7)
        writer.put(ProfileRow(2, b"else", 8, FAR_MS), 8)
        assert writer.is_written(2, begun_us) is False
        redis.start()
        until(lambda: writer.is_written(1, begun_us) and writer.is_written(2, begun_us))
        assert (store.profile("card", 1), store.profile("card", 2)) == ((7, b"three"), (8, b"else"))
    finally:
        writer.stop()
