"""Keys and their store: what is kept, what a rotation leaves, what revoking takes, and who may read it."""

import multiprocessing
import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.errors import InvalidDefinition, NotFound, StorageProblem
from sentinel.record.audit import Change
from sentinel.transport.access import keys as keys_module
from sentinel.transport.access.keys import Grant, Keyring, digest_of, new_token
from sentinel.transport.access.scopes import Scope
from sentinel.transport.access.store import KeyStore

DAY_US = 86_400_000_000
NOTE = Change("user ann", "command line", "keys create", "shop", "[]", "[]", 7)


def grant(name="shop", **more):
    return Grant(**{"name": name, "scopes": (Scope.SCORE,), "lasts_us": 10 * DAY_US} | more)


@pytest.fixture
def store(tmp_path):
    return KeyStore(tmp_path / "home")


def test_a_key_is_256_random_bits_and_only_its_hash_is_kept(store):
    token = new_token()
    assert token.startswith("sk_")
    assert len(token) == 46
    assert len({new_token() for _ in range(1000)}) == 1000
    store.change(lambda ring: ring.with_new(grant(), token, 5))
    (kept,) = store.read().keys
    assert kept.sha256 == digest_of(token)
    assert token[3:] not in store.path.read_text()
    assert (kept.name, kept.source, kept.created_us, kept.expires_us) == ("shop", "shop", 5, 5 + 10 * DAY_US)


@pytest.mark.parametrize("source", ["bank:eu", "a" * 64])
def test_a_source_is_whatever_a_source_of_outcomes_may_be(source):
    assert grant(source=source).source == source


@pytest.mark.parametrize("source", ["", " ", "a b", "a/b", "a" * 65, "a\n", "ä", "a\x1b[31m"])
def test_what_no_source_of_outcomes_may_be_is_none_of_a_key(source):
    with pytest.raises(InvalidDefinition, match="source is"):
        grant(source=source)


def test_a_name_has_one_key_until_it_ends():
    ring = Keyring().with_new(grant(), "sk_1", 0)
    with pytest.raises(InvalidDefinition, match="rotate it, revoke it"):
        ring.with_new(grant(), "sk_2", 10 * DAY_US - 1)
    again = ring.with_new(grant(), "sk_2", 10 * DAY_US)
    assert [key.is_over(10 * DAY_US) for key in again.keys] == [True, False]
    later = again.with_new(grant("other"), "sk_3", 49 * DAY_US)
    assert [key.sha256 for key in later.keys] == [digest_of("sk_2"), digest_of("sk_3")]  # over for 30 days: gone


def test_a_rotation_leaves_the_old_key_for_the_overlap_and_no_longer_than_it_had():
    ring = Keyring().with_new(grant(rate=5.0, source="acquirer"), "sk_1", 0)
    old, new = ring.rotated("shop", "sk_2", 7 * DAY_US, DAY_US).keys
    assert (old.expires_us, new.expires_us) == (8 * DAY_US, 11 * DAY_US)
    assert (new.scopes, new.rate, new.source) == (old.scopes, 5.0, "acquirer")
    old, new = ring.rotated("shop", "sk_2", 90 * DAY_US, DAY_US).keys
    assert old.expires_us == 10 * DAY_US
    old, new = ring.rotated("shop", "sk_2", 0, DAY_US).keys
    assert old.is_over(DAY_US)
    with pytest.raises(NotFound, match="no key 'nobody'"):
        ring.rotated("nobody", "sk_2", 0, 0)


def test_revoking_takes_all_keys_of_a_name_or_one_by_its_id():
    ring = Keyring().with_new(grant(), "sk_1", 0).rotated("shop", "sk_2", DAY_US, 0)
    ring = ring.with_new(grant("other"), "sk_3", 0)
    assert [key.name for key in ring.without("shop").keys] == ["other"]
    assert [key.sha256 for key in ring.without(digest_of("sk_1")[:12]).keys] == [digest_of("sk_2"), digest_of("sk_3")]
    with pytest.raises(NotFound):
        ring.without("sk_1")


@pytest.mark.parametrize("name", ["", " ", "a b", "a/b", "-a", "a" * 65, "a\n", "ä", "a\x1b[31m"])
def test_names_are_plain(name):
    with pytest.raises(InvalidDefinition, match="letters, digits"):
        grant(name)


@pytest.mark.parametrize("name", ["operator", "admin-key", "sentinel", "anyone"])
def test_nobody_takes_a_name_that_the_audit_uses_for_others(name):
    with pytest.raises(InvalidDefinition, match="another name"):
        grant(name)


def test_there_is_an_end_to_keys_and_to_changes_that_wait(monkeypatch):
    monkeypatch.setattr(keys_module, "MOST_KEYS", 3)
    monkeypatch.setattr(keys_module, "MOST_PENDING", 2)
    ring = Keyring()
    for n in range(3):
        ring = ring.with_new(grant(f"k{n}"), f"sk_{n}", 0)
    with pytest.raises(InvalidDefinition, match="revoke those"):
        ring.with_new(grant("k3"), "sk_3", 0)
    ring = ring.noting(NOTE).noting(NOTE)
    with pytest.raises(InvalidDefinition, match="start the server"):
        ring.noting(NOTE)


@given(st.lists(st.tuples(st.sampled_from(["new", "rotate", "revoke"]), st.sampled_from("abc"), st.integers(0, 5))))
def test_whatever_is_done_a_key_that_was_revoked_or_has_ended_never_comes_back(steps):
    ring, now, ended = Keyring(), 0, set()
    for n, (what, name, days) in enumerate(steps):
        now += days * DAY_US
        alive = {key.sha256 for key in ring.keys if not key.is_over(now)}
        try:
            if what == "new":
                ring = ring.with_new(grant(name), f"sk_{n}", now)
            elif what == "rotate":
                ring = ring.rotated(name, f"sk_{n}", days * DAY_US, now)
            else:
                ring = ring.without(name)
        except (InvalidDefinition, NotFound):
            continue
        left = {key.sha256 for key in ring.keys if not key.is_over(now)}
        ended |= alive - left
        assert not left & ended


# the store


def test_it_is_for_its_owner_alone(store):
    old = os.umask(0)
    try:
        store.change(lambda ring: ring.with_new(grant(), "sk_1", 0))
    finally:
        os.umask(old)
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.path.parent.stat().st_mode) == 0o700
    store.path.chmod(0o640)
    with pytest.raises(StorageProblem, match="open to other users"):
        store.read()


def test_a_store_that_is_not_there_has_no_keys(store):
    assert store.read() == Keyring()
    assert store.stamp() is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"format": 1, "keys": [{"name": "x"}]}', b'{"more": 1}', b"\xff"]
)
def test_a_store_that_cannot_be_read_is_said_and_not_written_over(store, content):
    store.change(lambda ring: ring.with_new(grant(), "sk_1", 0))
    store.path.write_bytes(content)
    for attempt in (store.read, lambda: store.change(lambda ring: ring)):
        with pytest.raises(StorageProblem, match="damaged"):
            attempt()
    assert store.path.read_bytes() == content


def test_what_is_refused_leaves_it_as_it_was(store):
    store.change(lambda ring: ring.with_new(grant(), "sk_1", 0))
    stamp = store.stamp()
    with pytest.raises(NotFound):
        store.change(lambda ring: ring.without("nobody"))
    assert store.stamp() == stamp
    store.change(lambda ring: ring.without("shop"))
    assert store.stamp() != stamp


def _add(home, who):
    for n in range(20):
        KeyStore(home).change(lambda ring, n=n: ring.with_new(grant(f"{who}-{n}"), f"sk_{who}{n}", 0))


def test_two_processes_lose_none_of_each_other(store, tmp_path):
    spawn = multiprocessing.get_context("fork")
    writers = [spawn.Process(target=_add, args=(tmp_path / "home", who)) for who in "ab"]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    assert sorted(key.name for key in store.read().keys) == sorted(f"{who}-{n}" for who in "ab" for n in range(20))


def test_what_is_in_the_audit_waits_no_longer(store):
    other = Change("user bob", "command line", "keys revoke", "shop", "[]", "[]", 8)
    store.change(lambda ring: ring.noting(NOTE).noting(other))
    store.drop((NOTE,))
    assert store.read().changes == (other,)


def test_whoever_may_read_the_file_changes_its_stamp(store):
    store.change(lambda ring: ring.with_new(grant(), new_token(), 5))
    before = store.stamp()
    store.path.chmod(0o666)
    assert store.stamp() != before
    with pytest.raises(StorageProblem, match="open to other users"):
        store.read()


def test_a_pipe_in_the_place_of_the_keys_holds_up_nobody(store):
    store.path.parent.mkdir(parents=True)
    os.mkfifo(store.path, 0o600)
    with pytest.raises(StorageProblem, match="no regular file"):
        store.read()
