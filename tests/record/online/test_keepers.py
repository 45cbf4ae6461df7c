"""Several tasks that write the profiles of one project: whose they are, and up to when all is written."""

import secrets

import pytest
import redis

from sentinel.errors import InvalidDefinition, StorageProblem
from sentinel.record.online.fronts import FrontStore
from sentinel.record.online.keepers import KeeperStore
from sentinel.record.online.layout import OnlineMoved, OnlinePosition, ProfileRow
from sentinel.record.online.store import OnlineStore

FAR_MS, FAR_S = 4_000_000_000_000, float("inf")


@pytest.fixture
def store(service):
    one = OnlineStore(service("redis").environment["REDIS_URL"], f"sentinel_{secrets.token_hex(6)}")
    yield one
    one.clear([])
    one.close()


def seen(store, *keys, ids=()):
    return FrontStore(store, 60_000).read(ids, keys, FAR_S)


def test_a_job_that_begins_anew_empties_and_one_that_goes_on_keeps(store):
    job = KeeperStore(store, "flink:a", "state")
    job.begin([], goes_on=False)
    job.write("card", [ProfileRow(1, b"one", 7, FAR_MS)])
    job.begin([], goes_on=True)
    assert seen(store, ("card", 1)).profiles == {("card", 1): b"one"}
    job.begin([], goes_on=False)
    assert seen(store, ("card", 1)).profiles == {}


def test_the_oldest_part_says_as_of_when_and_none_is_nothing(store):
    job = KeeperStore(store, "flink:a", "state")
    job.begin([], goes_on=False)
    assert (seen(store).state_id, seen(store).as_of_us) == ("state", 0)
    job.beat("card/0", 900)
    job.beat("shop/0", 500)
    assert seen(store).as_of_us == 500
    job.beat("shop/0", 950)
    assert seen(store).as_of_us == 900
    job.begin([], goes_on=True)
    assert seen(store).as_of_us == 0, "a part that is no more must not stand for ever"


def test_profiles_that_were_emptied_or_are_of_a_server_are_noticed(store):
    job = KeeperStore(store, "flink:a", "state")
    with pytest.raises(StorageProblem, match="does not have the profiles of this job"):
        job.begin([], goes_on=True)
    job.begin([], goes_on=False)
    store.clear([])
    with pytest.raises(OnlineMoved):
        job.beat("card/0", 900)
    store.move(None, OnlinePosition("log", 5, "", "state", 77))
    assert seen(store).as_of_us == 77
    with pytest.raises(StorageProblem, match="another database"):
        job.begin([], goes_on=False)
    with pytest.raises(OnlineMoved):
        job.beat("card/0", 900)


def test_the_first_claim_of_an_id_holds_and_its_owner_may_make_it_again(store):
    fronts = FrontStore(store, 60_000)
    assert fronts.claim({"a": b"1", "b": b"2"}, FAR_S) == {}
    assert fronts.claim({"a": b"1"}, FAR_S) == {}
    assert fronts.claim({"c": b"3", "b": b"other"}, FAR_S) == {"b": b"2"}
    assert seen(store, ids=("a", "b", "c", "d")).claims == {"a": b"1", "b": b"2", "c": b"3"}


def test_a_redis_that_deletes_profiles_when_it_is_full_is_refused(service, tmp_path):
    url = service("redis").environment["REDIS_URL"]
    with redis.Redis.from_url(url) as tool:
        before = tool.config_get("maxmemory", "maxmemory-policy")
        try:
            tool.config_set("maxmemory", 1 << 30, "maxmemory-policy", "allkeys-lru")
            with pytest.raises(InvalidDefinition, match="set maxmemory-policy noeviction"):
                FrontStore(OnlineStore(url, "p"), 60_000).check()
        finally:
            tool.config_set("maxmemory", before["maxmemory"], "maxmemory-policy", before["maxmemory-policy"])
