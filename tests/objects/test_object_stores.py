"""A store of objects: one contract for S3 and for a folder."""

import os
import secrets

import pytest
from cutting_proxy import cutting_proxy

from sentinel.errors import InvalidDefinition, NoObject, ObjectTaken, StorageProblem
from sentinel.objects.s3_objects import S3Objects
from sentinel.objects.store import exercise
from sentinel.record.archive.folder_objects import FolderObjects

LARGE = secrets.token_bytes(12 << 20)  # three parts of an upload


@pytest.fixture
def proxy(service, monkeypatch):
    """S3 behind a proxy that can go away."""
    with cutting_proxy(service("s3").url) as one:
        for name, value in {**service("s3").environment, "AWS_ENDPOINT_URL": one.url}.items():
            monkeypatch.setenv(name, value)
        yield one


@pytest.fixture
def s3(proxy):
    return S3Objects(f"s3://sentinel-{secrets.token_hex(6)}/below", "SENTINEL_ARCHIVE", os.environ)


@pytest.fixture(params=["folder", "s3"])
def store(request, tmp_path):
    if request.param == "folder":
        return FolderObjects(tmp_path / "objects")
    return request.getfixturevalue("s3")


def pieces(data, size=1 << 20):
    return (data[at : at + size] for at in range(0, len(data), size))


def test_what_was_put_is_there_and_what_was_deleted_is_not(store):
    store.make()
    store.make()
    store.put("a/b/one", b"1")
    store.put("a/two", b"22")
    store.put("c/three", b"")
    store.put("a/two", b"333")
    assert [(one.name, one.bytes) for one in store.found()] == [("a/b/one", 1), ("a/two", 3), ("c/three", 0)]
    assert [one.name for one in store.found("a/b")] == ["a/b/one"]
    assert store.parts() == ["a", "c"]
    assert (store.get("a/two"), store.beginning("a/two", 2)) == (b"333", b"33")
    store.delete(["a/two", "c/three", "a/nothing"])
    assert [one.name for one in store.found()] == ["a/b/one"]
    with pytest.raises(NoObject):
        store.get("a/two")
    with pytest.raises(NoObject):
        b"".join(store.pieces("a/two"))


def test_a_large_object_is_put_and_read_in_pieces(store):
    store.make()
    store.upload("large", pieces(LARGE))
    assert b"".join(store.pieces("large")) == LARGE


def test_an_upload_whose_pieces_fail_leaves_what_was_there(store):
    store.make()
    store.put("one", b"before")

    def failing():
        yield LARGE
        raise RuntimeError("enough")

    for name in ("one", "other"):
        with pytest.raises(RuntimeError, match="enough"):
            store.upload(name, failing())
    assert [(one.name, one.bytes) for one in store.found()] == [("one", 6)]


def test_what_is_created_is_not_replaced(store):
    store.make()
    store.create("one", b"1")
    with pytest.raises(ObjectTaken):
        store.create("one", b"2")
    assert store.get("one") == b"1"


def test_nothing_is_there_before_anything_is(store):
    assert (store.found(), store.parts()) == ([], [])
    with pytest.raises(NoObject):
        store.get("one")


def test_it_is_exercised_and_left_as_it_was(store):
    store.make()
    exercise(store)
    assert store.found() == []


# S3 alone


@pytest.mark.parametrize("writes", range(4))
def test_an_upload_that_is_cut_shows_nothing(s3, proxy, writes):
    """Three parts, or two of them and the end."""
    s3.make()
    proxy.writes_left = writes
    if writes == 3:
        proxy.writes_left = None
        proxy.refused_posts = True
    with pytest.raises(StorageProblem, match="does not answer as S3 would"):
        s3.upload("large", pieces(LARGE))
    proxy.writes_left, proxy.refused_posts = None, False
    assert s3.found() == []


def test_a_bucket_that_is_not_there_is_told_until_it_is_made(s3):
    with pytest.raises(StorageProblem, match="there is no such bucket yet"):
        exercise(s3)
    s3.make()
    exercise(s3)


@pytest.mark.parametrize("ask", [lambda s3: s3.found(), lambda s3: s3.get("a"), lambda s3: s3.put("a", b"")])
def test_keys_that_may_not_are_told(s3, proxy, ask):
    s3.make()
    proxy.how = "deny"
    with pytest.raises(StorageProblem, match=r"lets nobody (list|read|write) with these keys .AccessDenied"):
        ask(s3)


def test_an_address_that_is_none_is_refused_by_the_name_of_its_setting():
    with pytest.raises(InvalidDefinition, match=r"SENTINEL_ARCHIVE is 's3://UPPER'; write s3://bucket"):
        S3Objects("s3://UPPER", "SENTINEL_ARCHIVE", {})
