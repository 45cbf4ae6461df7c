"""What an engine decides is online soon: of each key the features that were stored last, and the state's own profile."""

import secrets
import time

import pytest

from sentinel.errors import StorageProblem
from sentinel.events.columns import hash_text
from sentinel.features.key_views import views_of
from sentinel.model.bundle import load_bundle
from sentinel.record.feature_state import FeatureState, activation_of
from sentinel.record.log import Kind
from sentinel.record.online.follower import OnlineFollower
from sentinel.record.online.layout import OnlineMoved
from sentinel.record.online.store import OnlineStore
from sentinel.record.snapshots import Snapshots
from sentinel.serve.lineup import Contender, Lineup


@pytest.fixture(scope="module")
def lineup(shop_home):
    return Lineup(1, Contender(load_bundle(shop_home / "models" / "v1")))


@pytest.fixture
def store(service):
    one = OnlineStore(service("redis").environment["REDIS_URL"], f"sentinel_{secrets.token_hex(6)}")
    yield one
    one.clear([("card",), ("shop",), ("card", "shop"), ("channel",)])
    one.close()


@pytest.fixture
def home(home_of, lineup):
    one = home_of(lineup)
    one.now_us = time.time_ns() // 1000  # or Redis forgets at once what is of last year
    one.open()
    return one


def follower_of(home, store, *, from_snapshot=False):
    (state_id,) = home.engine.states
    state = FeatureState(home.engine.states[state_id].bundle, activation_of(home.log, state_id))
    state.restore(home.log, Snapshots(home.folder / ("snapshots" if from_snapshot else "unused")))
    of_champion = home.lineup.champion.version
    return OnlineFollower(store, home.log, state, lambda version: version == of_champion, home.log.durable)


def follow(follower, home):
    follower.step(home.now_us)
    while follower.lag:
        follower.step(home.now_us)


def assert_online_is_what_the_log_has(home, store, numbers):
    (state,) = home.engine.states.values()
    plan = state.bundle.manifest.plan
    stored = {row.transaction_id: row for row in home.decisions()}
    newest = {}
    for i in numbers:
        newest[f"card-{i % 23}"], newest[f"shop-{i % 3}"] = stored[f"t{i}"], stored[f"t{i}"]
    for view in views_of(plan):
        if view.keys in (("card",), ("shop",)):
            for value in {name for name in newest if name.startswith(view.keys[0])}:
                found = store.features(view.name, view.keys, list(view.columns), (value,))
                row = newest[value].features
                expected = {name: None if row[at] != row[at] else row[at] for name, at in view.columns.items()}
                assert found.features == expected
    for group in state.store.groups:
        keys = state.store.keys_of(group)
        for key, profile in zip(keys.tolist(), state.store.export(group, keys), strict=True):
            assert store.profile(group, key)[1] == profile


def test_a_new_view_gets_every_key_and_goes_on_with_what_comes(home, store):
    home.pay(range(60))
    follower = follower_of(home, store)
    follow(follower, home)
    assert_online_is_what_the_log_has(home, store, range(60))
    home.pay(range(60, 90))
    home.handle([home.outcome(70), home.outcome(3)])
    follow(follower, home)
    assert store.position().position == home.log.durable
    assert_online_is_what_the_log_has(home, store, range(90))


def test_another_follower_goes_on_where_one_was_killed(home, store):
    home.pay(range(40))
    follow(follower_of(home, store), home)
    home.pay(range(40, 70))
    killed = follower_of(home, store)
    killed._store = Failing(store)
    with pytest.raises(StorageProblem):
        follow(killed, home)
    home.save()
    home.pay(range(70, 80))
    follow(follower_of(home, store, from_snapshot=True), home)
    assert_online_is_what_the_log_has(home, store, range(80))


class Failing:
    """Redis that goes away after the features were written."""

    def __init__(self, store):
        self._store = store

    def __getattr__(self, name):
        if name == "write_profiles":
            raise StorageProblem("away")
        return getattr(self._store, name)


def test_what_redis_lost_is_noticed_and_written_again(home, store):
    home.pay(range(40))
    follower = follower_of(home, store)
    follow(follower, home)
    assert store.clear([("card",), ("shop",), ("card", "shop"), ("channel",)]) > 23
    with pytest.raises(OnlineMoved):
        follow(follower, home)  # also while nothing new comes
    home.pay(range(40, 44))
    with pytest.raises(OnlineMoved):
        follow(follower, home)
    follow(follower_of(home, store), home)
    assert_online_is_what_the_log_has(home, store, range(44))


def test_changes_that_were_there_before_do_not_end_a_follower_and_later_ones_do(home, store):
    """Whoever writes all keys anew passes by every change that there was, and has to come to the end."""
    home.log.write(Kind.APPLIED, 1, home.now_us, b"")
    home.pay(range(40))
    follower = follower_of(home, store)
    follow(follower, home)
    assert (follower.is_over, store.position().position) == (False, home.log.durable)
    home.log.write(Kind.APPLIED, 1, home.log.clock(home.now_us), b"")
    home.pay([40])
    follow(follower, home)
    assert follower.is_over


def test_a_view_of_another_log_is_refused(home, store, home_of, lineup):
    home.pay(range(3))
    follow(follower_of(home, store), home)
    other = home_of(lineup, folder="other")
    other.open()
    with pytest.raises(StorageProblem, match=r"another log; `sentinel views rebuild --online`"):
        follower_of(other, store)


def test_an_older_transaction_changes_the_profile_and_not_the_features(home, store):
    home.pay([50, 27])  # of one card, and the older one last
    follow(follower_of(home, store), home)
    assert_online_is_what_the_log_has(home, store, [50])
    assert hash_text("card-4") in home.engine.states.popitem()[1].store.keys_of("card").tolist()
