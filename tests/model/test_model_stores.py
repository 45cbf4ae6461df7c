"""Where versions are kept: one contract for the folder and for S3, and what is S3's alone."""

import errno
import os
import secrets
import shutil
import sys
import threading
import urllib.request
from datetime import timedelta

import msgspec
import obstore
import pytest
from cutting_proxy import cutting_proxy
from obstore.store import MemoryStore

from sentinel.durable import write_durably
from sentinel.errors import BundleProblem, InvalidDefinition, StorageProblem, VersionTaken
from sentinel.model.folder_models import FolderModels
from sentinel.model.open_registry import open_registry
from sentinel.model.registry import MANIFEST_FILE, Registry, manifest_bytes
from sentinel.model.registry_record import Entry
from sentinel.model.s3_models import S3Models

FILES = {"model.onnx": b"m" * 1000, "state.npz": b"", MANIFEST_FILE: b'{"version": "v1"}'}


@pytest.fixture
def bucket(service, monkeypatch):
    """An address in a bucket that nobody has made yet."""
    s3 = service("s3")
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://sentinel-{secrets.token_hex(6)}/models"


@pytest.fixture
def proxy(service, bucket, monkeypatch):
    """S3 behind a proxy that can go away."""
    with cutting_proxy(service("s3").url) as one:
        monkeypatch.setenv("AWS_ENDPOINT_URL", one.url)
        yield one


@pytest.fixture(params=["folder", "s3"])
def place(request, tmp_path):
    """Opens the registry, as another machine does that has nothing yet where that is possible."""
    if request.param == "folder":
        return lambda _machine="a": open_registry(tmp_path / "models", None)
    address = request.getfixturevalue("bucket")
    return lambda machine="a": open_registry(tmp_path / machine / "models", address)


def published(registry, **changes):
    files = {**FILES, **changes}
    version = registry.next_version()
    registry.publish(version, files)
    return version


# the contract


def test_an_empty_one_has_no_versions_and_begins_with_the_first(place):
    assert (place().versions(), place().next_version()) == ([], "v1")
    with pytest.raises(BundleProblem, match=r"there is no model 'v1' in .*none yet"):
        place().path("v1")


def test_what_is_published_is_read_back_everywhere_as_it_was(place):
    version = published(place("a"))
    for machine in ("a", "b"):
        registry = place(machine)
        folder = registry.path(version)
        assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name in FILES} == FILES
        registry.check_recorded(version, manifest_bytes(folder))
        assert (registry.versions(), registry.next_version()) == (["v1"], "v2")


def test_versions_come_in_their_order(place):
    assert [published(place()) for _ in range(11)] == place("b").versions()
    assert place("b").versions()[-2:] == ["v10", "v11"]


def test_a_version_is_never_replaced(place):
    published(place())
    with pytest.raises(VersionTaken, match="v1 is taken"):
        place("b").publish("v1", {**FILES, "model.onnx": b"other"})
    assert (place("c").path("v1") / "model.onnx").read_bytes() == FILES["model.onnx"]


def test_trainings_at_the_same_moment_take_a_version_each(place):
    given, begin = [], threading.Barrier(4)

    def publish(n):
        registry = place(f"machine-{n}")
        begin.wait()
        while True:
            version = registry.next_version()
            try:
                registry.publish(version, {**FILES, "model.onnx": f"model {n}".encode()})
            except VersionTaken:
                continue
            given.append((version, n))
            return

    threads = [threading.Thread(target=publish, args=(n,)) for n in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len({version for version, _ in given}) == 4
    for version, n in given:
        assert (place("reader").path(version) / "model.onnx").read_bytes() == f"model {n}".encode()


def test_a_manifest_that_was_altered_here_is_seen(place):
    version = published(place())
    folder = place().path(version)
    (folder / MANIFEST_FILE).write_bytes(b"{}")
    with pytest.raises(BundleProblem, match="altered"):
        place().check_recorded(version, manifest_bytes(place().path(version)))


def test_a_manifest_is_read_without_the_other_files(place):
    version = published(place("a"))
    for machine in ("a", "b"):
        assert place(machine).manifest(version) == FILES[MANIFEST_FILE]
    with pytest.raises(BundleProblem, match="there is no model 'v2'"):
        place("b").manifest("v2")


def test_a_file_that_is_added_is_there_for_all(place):
    version = published(place("a"))
    place("a").path(version)
    place("a").add(version, "manifest.sig", b"signature")
    for machine in ("a", "b"):
        assert (place(machine).path(version) / "manifest.sig").read_bytes() == b"signature"


@pytest.mark.parametrize("name", ["../v1", "v0x", "", "record", "v1/claim", "v" + "9" * 10])
def test_what_is_no_version_is_refused(place, name):
    published(place())
    for read in (place().path, place().path_of_copied):
        with pytest.raises(BundleProblem, match="there is no model"):
            read(name)


# a folder alone


def test_what_an_interrupted_training_left_in_a_folder_is_no_version_and_goes(tmp_path):
    store = FolderModels(tmp_path)
    (tmp_path / ".v1.12345678.draft").mkdir()
    assert Registry(tmp_path, store=store).versions() == []
    published(Registry(tmp_path, store=store))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "registry.jsonl", "v1"]


# S3 alone


@pytest.mark.parametrize("how", ["cut", "refuse"])
@pytest.mark.parametrize("writes", range(1, 5))
def test_an_upload_that_ends_at_any_write_shows_nothing_and_takes_no_version_from_anybody(
    proxy, bucket, tmp_path, how, writes
):
    """The claim, three files, the record: whatever is missing, the version is not there."""
    published(open_registry(tmp_path / "a" / "models", bucket))
    proxy.how, proxy.writes_left = how, writes
    registry = open_registry(tmp_path / "a" / "models", bucket)
    with pytest.raises(StorageProblem, match=r"s3://sentinel"):
        published(registry)
    proxy.writes_left = None
    for machine in ("a", "b"):
        assert open_registry(tmp_path / machine / "models", bucket).versions() == ["v1"]
    assert not (tmp_path / "a" / "models" / "v2").exists()
    assert published(registry) == "v3"


def test_the_manifest_is_uploaded_after_the_other_files_and_the_record_last(proxy, bucket, tmp_path):
    published(open_registry(tmp_path / "models", bucket))
    names = [path.rpartition("/")[2].partition("?")[0] for path in proxy.writes]
    assert names[-5:] == ["claim", "model.onnx", "state.npz", MANIFEST_FILE, "v1.json"]


def test_what_was_uploaded_and_never_put_on_record_is_deleted_and_its_number_is_not_given_again(
    proxy, bucket, tmp_path, monkeypatch, service
):
    published(open_registry(tmp_path / "models", bucket))
    proxy.writes_left = 3
    with pytest.raises(StorageProblem):
        published(open_registry(tmp_path / "models", bucket))
    proxy.writes_left = None

    def keys():
        name, _, prefix = bucket.removeprefix("s3://").partition("/")
        with urllib.request.urlopen(f"{service('s3').url}/{name}?list-type=2") as answer:
            listed = answer.read().decode()
        return [one.partition("</Key>")[0].removeprefix(f"{prefix}/") for one in listed.split("<Key>")[1:]]

    assert published(Registry(tmp_path / "models", store=S3Models(bucket, tmp_path / "models", os.environ))) == "v3"
    assert "v2/model.onnx" in keys(), "it is not a day old: somebody may be uploading it"
    at_once = S3Models(bucket, tmp_path / "models", os.environ, abandoned_after=timedelta(0))
    assert published(Registry(tmp_path / "models", store=at_once)) == "v4"
    assert [one for one in keys() if one.startswith("v2/")] == ["v2/claim"]
    assert open_registry(tmp_path / "b" / "models", bucket).path("v1").is_dir()


def test_a_version_that_was_fetched_is_served_while_s3_is_away(proxy, bucket, tmp_path):
    published(open_registry(tmp_path / "a" / "models", bucket))
    published(open_registry(tmp_path / "a" / "models", bucket))
    folder = open_registry(tmp_path / "b" / "models", bucket).path("v1")
    proxy.how = "away"
    registry = open_registry(tmp_path / "b" / "models", bucket)
    assert registry.path("v1") == folder
    registry.check_recorded("v1", manifest_bytes(folder))
    with pytest.raises(StorageProblem, match=r"does not answer as S3 would .*AWS_ENDPOINT_URL"):
        registry.path("v2")
    assert not (tmp_path / "b" / "models" / "v2").exists()


def test_a_download_that_is_cut_leaves_nothing_and_is_made_anew(proxy, bucket, tmp_path):
    published(open_registry(tmp_path / "a" / "models", bucket))
    proxy.how = "cut-reads"
    registry = open_registry(tmp_path / "b" / "models", bucket)
    with pytest.raises(StorageProblem, match="does not answer as S3 would"):
        registry.path("v1")
    assert not (tmp_path / "b" / "models").exists()
    proxy.how = "cut"
    assert (registry.path("v1") / "model.onnx").read_bytes() == FILES["model.onnx"]


def test_what_this_machine_has_no_room_for_is_not_fetched(bucket, tmp_path, monkeypatch):
    published(open_registry(tmp_path / "a" / "models", bucket))
    monkeypatch.setattr("sentinel.model.s3_models.most_bytes", lambda: 1000)
    with pytest.raises(BundleProblem, match="this machine has room for 1,000"):
        open_registry(tmp_path / "b" / "models", bucket).path("v1")


def test_a_copy_that_cannot_be_written_leaves_nothing(bucket, tmp_path, monkeypatch):
    """A full disk, in the middle of it."""
    published(open_registry(tmp_path / "a" / "models", bucket))

    def full(path, data):
        if path.name == "model.onnx":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write_durably(path, data)

    registry = open_registry(tmp_path / "b" / "models", bucket)
    with monkeypatch.context() as patch:
        patch.setattr("sentinel.model.folder_models.write_durably", full)
        with pytest.raises(OSError, match="No space left"):
            registry.path("v1")
    assert not list((tmp_path / "b" / "models").glob("*v1*"))
    assert (registry.path("v1") / "model.onnx").read_bytes() == FILES["model.onnx"]


def test_keys_that_are_refused_are_told(proxy, bucket, tmp_path):
    proxy.how, proxy.writes_left = "refuse", 0
    with pytest.raises(StorageProblem, match=r"lets nobody write with these keys .*AccessDenied"):
        published(open_registry(tmp_path / "models", bucket))


def test_keys_that_may_not_even_look_are_told(proxy, bucket, tmp_path):
    published(open_registry(tmp_path / "a" / "models", bucket))
    proxy.how = "deny"
    registry = open_registry(tmp_path / "b" / "models", bucket)
    for ask in (registry.versions, registry.next_version, lambda: registry.path("v1")):
        with pytest.raises(StorageProblem, match=r"lets nobody list with these keys .AccessDenied"):
            ask()


def test_files_that_somebody_copied_there_are_versions_once_they_are_accepted(bucket, tmp_path):
    published(open_registry(tmp_path / "a" / "models", bucket))
    store = S3Models(bucket, tmp_path / "a" / "models", os.environ)
    copied = open_registry(tmp_path / "b" / "models", bucket)
    store._objects.put("v7/manifest.json", b'{"version": "v7"}')
    assert copied.versions() == ["v1"]
    assert copied.next_version() == "v8"
    with pytest.raises(BundleProblem, match="there is no model 'v7'"):
        copied.path("v7")
    folder = copied.path_of_copied("v7")
    with pytest.raises(BundleProblem, match="it was not trained here"):
        copied.check_recorded("v7", manifest_bytes(folder))
    copied.record("v7", manifest_bytes(folder), "accepted")
    assert open_registry(tmp_path / "c" / "models", bucket).versions() == ["v1", "v7"]
    with pytest.raises(BundleProblem, match="with another manifest"):
        copied.record("v7", b"other", "accepted")


def test_a_folder_of_other_models_is_not_taken_for_a_copy(bucket, tmp_path):
    published(open_registry(tmp_path / "own" / "models", None))
    published(open_registry(tmp_path / "a" / "models", bucket))
    with pytest.raises(BundleProblem, match="models that were trained without SENTINEL_MODELS"):
        open_registry(tmp_path / "own" / "models", bucket).path("v1")
    with pytest.raises(BundleProblem, match=f"copies of those in {bucket}"):
        open_registry(tmp_path / "a" / "models", f"{bucket}-other").publish("v1", FILES)
    with pytest.raises(BundleProblem, match=f"has copies of the models in {bucket}; set SENTINEL_MODELS"):
        published(open_registry(tmp_path / "a" / "models", None))


def test_nobody_learns_that_only_when_a_model_is_trained(bucket, tmp_path):
    published(open_registry(tmp_path / "own" / "models", None))
    published(open_registry(tmp_path / "a" / "models", bucket))
    for folder, address in (("own", bucket), ("a", f"{bucket}-other"), ("a", None)):
        with pytest.raises(BundleProblem, match=r"take another home"):
            open_registry(tmp_path / folder / "models", address).next_version()


def test_without_the_library_it_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    for name in ("sentinel.model.s3_models", "sentinel.objects.s3_objects"):
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(InvalidDefinition, match=r"pip install 'sentinel-fraud\[s3\]'"):
        open_registry(tmp_path / "models", "s3://bucket")


def test_each_detector_and_tenant_has_its_own_below_the_same_address(bucket, tmp_path):
    homes = [tmp_path, tmp_path / "detectors" / "wallet", tmp_path / "tenants" / "acme" / "detectors" / "wallet"]
    for n, home in enumerate(homes):
        published(open_registry(home / "models", bucket), **{"model.onnx": f"{n}".encode()})
    for n, home in enumerate(homes):
        shutil.rmtree(home / "models")
        registry = open_registry(home / "models", bucket)
        assert registry.versions() == ["v1"]
        assert (registry.path("v1") / "model.onnx").read_bytes() == f"{n}".encode()


@pytest.mark.parametrize(
    "address", ["models", "s3:/bucket", "s3://", "s3://UPPER/x", "https://a/b", "s3://a?b=c", "s3://bucket/a//b"]
)
def test_an_address_that_is_none_is_refused(tmp_path, address):
    with pytest.raises(InvalidDefinition, match="write s3://bucket"):
        open_registry(tmp_path / "models", address)


def test_models_do_not_come_in_plain_http_from_elsewhere(tmp_path):
    there = {"AWS_ENDPOINT_URL": "http://store.example"}
    with pytest.raises(InvalidDefinition, match="plain HTTP"):
        open_registry(tmp_path / "models", "s3://bucket", environment=there)
    open_registry(tmp_path / "models", "s3://bucket", environment={**there, "AWS_ALLOW_HTTP": "true"})


def test_a_manifest_that_was_altered_there_is_seen(bucket, tmp_path):
    published(open_registry(tmp_path / "a" / "models", bucket))
    S3Models(bucket, tmp_path / "a" / "models", os.environ)._objects.put("v1/manifest.json", b"{}")
    registry = open_registry(tmp_path / "b" / "models", bucket)
    with pytest.raises(BundleProblem, match="was altered after it was trained"):
        registry.manifest("v1")
    assert not registry.is_here("v1")
    with pytest.raises(BundleProblem, match="was altered after it was fetched"):
        registry.check_recorded("v1", manifest_bytes(registry.path("v1")))


def test_a_record_of_another_version_is_seen(bucket, tmp_path):
    published(open_registry(tmp_path / "a" / "models", bucket))
    store = S3Models(bucket, tmp_path / "b" / "models", os.environ)
    store._objects.put("record/v2.json", msgspec.json.encode(Entry.of("v1", b"", "trained")))
    with pytest.raises(BundleProblem, match="is that of v1"):
        store.bring("v2")


@pytest.fixture
def objects(tmp_path):
    """A registry in S3 whose objects are in memory, and those."""
    store, models = MemoryStore(), S3Models("s3://bucket", tmp_path / "models", {}, timedelta(0))
    models._objects._objects = store
    return models, store


def test_what_was_left_is_deleted_and_another_registry_below_is_not(objects):
    models, store = objects
    others = ["v7/v1/model.onnx", "v7/record/v1.json", "v7/v1/claim"]
    for name in ("v6/model.onnx", "v6/claim", *others, "v1/claim"):
        obstore.put(store, name, b"x")
    models._clean_up("v1")
    assert sorted(meta["path"] for page in obstore.list(store) for meta in page) == sorted(
        ["v1/claim", "v6/claim", *others]
    )


def test_what_was_accepted_elsewhere_is_not_vouched_for_by_being_fetched(objects):
    models, store = objects
    for version, how in (("v1", "accepted"), ("v2", "trained")):
        for name, data in FILES.items():
            obstore.put(store, f"{version}/{name}", data)
        models._put_on_record(Entry.of(version, FILES[MANIFEST_FILE], how))
        models.bring(version)
    registry = Registry(models.folder, store=models)
    assert [registry.vouches_for(version) for version in ("v1", "v2", "v3")] == [False, True, False]
    assert Registry(models.folder, frozenset([b"k" * 32]), models).vouches_for("v1"), "its signature was checked"
