"""The online view has of each key what the log has, through crashes, losses and refills; on a real server."""

import contextlib
import secrets

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.errors import InvalidDefinition, StorageProblem
from sentinel.record.online.layout import (
    FeatureRow,
    OnlineMoved,
    OnlinePosition,
    ProfileRow,
    decode_moment,
    encode_moment,
    encode_values,
    entity_name,
    is_of_project,
)
from sentinel.record.online.store import OnlineStore

FAR_MS = 4_000_000_000_000


@pytest.fixture(scope="session")
def url(service):
    return service("redis").environment["REDIS_URL"]


@pytest.fixture
def store(url):
    one = OnlineStore(url, f"sentinel_{secrets.token_hex(6)}")
    yield one
    one.clear([("card",), ("card", "shop")])
    one.close()


def row(card, at_us, *features, expires_ms=FAR_MS):
    return FeatureRow((card,), at_us, expires_ms, encode_values(np.array([features], float))[0])


def known(store, card, columns=("a", "b")):
    return store.features("v", ("card",), columns, (card,))


@given(st.lists(st.tuples(st.integers(-5_000_000, 5_000_000), st.floats(allow_nan=False)), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_the_newest_wins_in_whatever_order_rows_come(url, moments):
    one = OnlineStore(url, f"sentinel_{secrets.token_hex(6)}")
    with contextlib.closing(one):
        for at_us, value in moments:
            one.write_features("v", ("card",), ["a"], [row("c", at_us, value)])
        newest = max(at_us for at_us, _ in moments)
        last = [value for at_us, value in moments if at_us == newest][-1]
        found = one.features("v", ("card",), ["a"], ("c",))
        assert (found.time_us, found.features) == (newest, {"a": last})
        one.clear([("card",)])


@given(st.integers(-(10**15), 4 * 10**15))
def test_a_moment_is_read_back(us):
    assert decode_moment(encode_moment(us)) == us


@given(st.lists(st.text(), min_size=1, max_size=3), st.sampled_from(["p", "sentinel_p"]))
def test_a_name_is_of_its_project_alone(values, project):
    names = [f"k{n}" for n in range(len(values))]
    name = entity_name(names, values, project)
    assert is_of_project(name, names, project)
    assert not is_of_project(name, names, "sentinel_p" if project == "p" else "p")


def test_a_key_expires_and_a_missing_number_is_none(store):
    store.write_features("v", ("card",), ["a", "b"], [row("c", 7, 1.5, np.nan), row("d", 7, 1.0, 2.0, expires_ms=1)])
    assert known(store, "c").features == {"a": 1.5, "b": None}
    assert known(store, "d") is None


def test_the_view_is_moved_from_where_it_was_only(store):
    first = OnlinePosition("log", 5, "", "state", 1)
    store.move(None, first)
    assert store.position() == first
    with pytest.raises(OnlineMoved):
        store.move(3, first._replace(position=9))
    store.move(5, first._replace(position=9))
    assert store.position().position == 9


def test_an_older_profile_takes_no_place(store):
    store.write_profiles("card", [ProfileRow(1, b"new", 9, FAR_MS)])
    store.write_profiles("card", [ProfileRow(1, b"old", 8, FAR_MS)])
    assert store.profile("card", 1) == (9, b"new")


def test_a_cleared_project_leaves_others_alone(url, store):
    other = OnlineStore(url, f"{store.project}x")
    for one in (store, other):
        one.write_features("v", ("card",), ["a", "b"], [row("*?[c]", 7, 1.0, 2.0)])
        one.write_profiles("card", [ProfileRow(1, b"p", 1, FAR_MS)])
    assert store.clear([("card",)]) == 2
    assert known(store, "*?[c]") is None
    assert known(other, "*?[c]").features == {"a": 1.0, "b": 2.0}
    assert other.clear([("card",)]) == 2
    other.close()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("redis://127.0.0.1:9/0", "see that it runs and can be reached"),
        ("redis://default:not-the-word@{host}/0", "look at the user and the password in SENTINEL_REDIS_URL"),
        ("redis://{host}/0", "look at the user and the password in SENTINEL_REDIS_URL"),
        ("rediss://{host}/0", "rediss:// needs a server with TLS"),
    ],
)
def test_what_is_wrong_is_a_sentence_without_the_password(url, address, said):
    host = url.rpartition("@")[2].partition("/")[0]
    with (
        contextlib.closing(OnlineStore(address.format(host=host), "p")) as one,
        pytest.raises(StorageProblem) as problem,
    ):
        one.exercise()
    assert said in str(problem.value)
    assert "not-the-word" not in str(problem.value)


def test_an_address_that_is_none_is_refused():
    with pytest.raises(InvalidDefinition, match="write redis://user:password@host:6379/0"):
        OnlineStore("http://nonsense", "p")
