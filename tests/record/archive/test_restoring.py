"""Restoring: a home becomes what was archived, or it has no log; what is wrong is named."""

import hashlib
from contextlib import closing

import msgspec
import pytest

from sentinel.errors import InvalidDefinition, LogDamaged, StorageProblem
from sentinel.record.archive.archiver import Archiver
from sentinel.record.archive.catalog import KeptFile, catalog_name, read_catalog
from sentinel.record.archive.folder_objects import FolderObjects
from sentinel.record.archive.restoring import DRAFT, log_in, restore
from sentinel.record.file_log import FileLog
from sentinel.record.home_log import is_gone
from sentinel.record.log import Kind
from sentinel.record.log_reader import FileLogReader


def archived(home, store, entries=60):
    """A log with a model and a snapshot, in an archive; its records."""
    with closing(FileLog(home / "log", 1, segment_bytes=4_096)) as log:
        for _ in range(entries):
            log.write(Kind.HEARTBEAT, 1, 1, b"%d" % log.durable * 50)
    (home / "models" / "v1").mkdir(parents=True)
    (home / "models" / "v1" / "manifest.json").write_text('{"version": "v1"}')
    (home / "models" / ".v2.draft").mkdir()
    (home / "models" / ".v2.draft" / "model.onnx").write_text("half")
    (home / "models" / "registry.jsonl").write_text("a line\n")
    (home / "hash.key").write_text("secret")
    (home / "subjects.db").write_text("secret")
    (home / "people.db").write_text("secret")
    (home / "written.db").write_text("secret")
    return put(home, store)


def put(home, store):
    with closing(FileLogReader(home / "log")) as log:
        archiver = Archiver(home, log, store)
        while archiver.step(1):
            pass
        return log.read(1, 1 << 30)


def back(home, store, log_id=None):
    return restore(home, store, log_in(store, log_id).log_id, lambda *_: None)


@pytest.fixture
def store(tmp_path):
    return FolderObjects(tmp_path / "archive")


@pytest.fixture
def records(tmp_path, store):
    return archived(tmp_path / "home", store)


def records_in(home):
    with closing(FileLogReader(home / "log")) as log:
        return log.read(1, 1 << 30)


def files_in(home):
    return {str(path.relative_to(home)): path.read_text() for path in (home / "models").rglob("*") if path.is_file()}


def spoil(store, name, data):
    (store._folder / name).write_bytes(data)


def change_catalog(store, **changes):
    log_id = log_in(store, None).log_id
    catalog = read_catalog(store.get(catalog_name(log_id)), "here", log_id)
    store.put(catalog_name(log_id), msgspec.json.encode(msgspec.structs.replace(catalog, **changes)))
    return catalog


def test_all_comes_back_but_keys_and_drafts(tmp_path, store, records):
    done = back(tmp_path / "other", store)
    assert records_in(tmp_path / "other") == records
    assert files_in(tmp_path / "other") == {
        "models/v1/manifest.json": '{"version": "v1"}',
        "models/registry.jsonl": "a line\n",
    }
    assert (done.models, done.snapshots, done.missing) == (1, 0, ["hash.key", "subjects.db", "people.db", "written.db"])
    assert sorted(path.name for path in (tmp_path / "other").iterdir()) == ["log", "models"]
    assert not [one for one in store.found() if b"secret" in store.get(one.name)]


def test_a_home_that_has_a_log_is_left_alone(tmp_path, store, records):
    before = sorted((tmp_path / "home").rglob("*"))
    with pytest.raises(StorageProblem, match="has a log; name an empty --home"):
        back(tmp_path / "home", store)
    assert sorted((tmp_path / "home").rglob("*")) == before


def test_a_model_that_is_another_one_is_left_alone(tmp_path, store, records):
    (tmp_path / "other" / "models").mkdir(parents=True)
    (tmp_path / "other" / "models" / "registry.jsonl").write_text("another line\n")
    with pytest.raises(StorageProblem, match=r"registry.jsonl is there, and another one"):
        back(tmp_path / "other", store)
    assert is_gone(tmp_path / "other" / "log")
    assert files_in(tmp_path / "other")["models/registry.jsonl"] == "another line\n"


def test_of_several_logs_one_is_named(tmp_path, store, records):
    archived(tmp_path / "second", store, 10)
    with pytest.raises(InvalidDefinition, match=r"has several logs, name one with --log: .* up to position 11"):
        log_in(store, None)
    with pytest.raises(StorageProblem, match="has nothing of the log 0123"):
        log_in(store, "0123")
    for log_id in store.parts():
        assert back(tmp_path / log_id, store, log_id).log_id == log_id


def test_an_archive_without_a_log_is_told(tmp_path, store):
    with pytest.raises(StorageProblem, match="has no log; look at its address"):
        log_in(store, None)


@pytest.mark.parametrize("ending", [".segment", ".part"])
def test_what_was_altered_there_restores_nothing(tmp_path, store, records, ending):
    name = next(one.name for one in store.found() if one.name.endswith(ending))
    data = store.get(name)
    spoil(store, name, data[:200] + bytes([data[200] ^ 1]) + data[201:])
    with pytest.raises(LogDamaged, match=r"the archive is damaged: .*nothing was restored"):
        back(tmp_path / "other", store)
    assert is_gone(tmp_path / "other" / "log")
    spoil(store, name, data)
    back(tmp_path / "other", store)
    assert records_in(tmp_path / "other") == records


def test_an_end_that_is_missing_restores_nothing(tmp_path, store, records):
    catalog = change_catalog(store, parts=())
    assert catalog.parts
    with pytest.raises(LogDamaged, match="nothing was restored"):
        back(tmp_path / "other", store)


def test_a_segment_that_is_missing_restores_nothing(tmp_path, store, records):
    segments = [one.name for one in store.found() if one.name.endswith(".segment")]
    store.delete([segments[1]])
    with pytest.raises(LogDamaged, match="the segment is missing"):
        back(tmp_path / "other", store)


def test_a_file_that_was_altered_there_is_not_taken(tmp_path, store, records):
    name = next(one.name for one in store.found() if one.name.endswith("manifest.json"))
    spoil(store, name, b'{"version": "v9"}')
    with pytest.raises(StorageProblem, match="is not as it was put there"):
        back(tmp_path / "other", store)
    assert "models/v1/manifest.json" not in files_in(tmp_path / "other")


@pytest.mark.parametrize(
    "path",
    ["../hash.key", "/etc/passwd", "models/../hash.key", "hash.key", "models/v1/a/b", "", ".", "models", "models/a\0b"],
)
def test_a_catalog_writes_nowhere_else(tmp_path, store, records, path):
    (kept, *_) = log_in(store, None).files
    change_catalog(store, files=(msgspec.structs.replace(kept, path=path),))
    with pytest.raises(StorageProblem, match="which is no file of a model or snapshot"):
        back(tmp_path / "other", store)
    assert sorted(one.name for one in (tmp_path / "other").iterdir()) == [DRAFT]


@pytest.mark.parametrize("name", ["../../outside", "/etc/hostname", "{log}/../../outside", "other/x", "{log}/a\0b"])
def test_a_catalog_reads_nothing_but_its_archive(tmp_path, store, records, name):
    (tmp_path / "outside").write_text("a file of this machine")
    one = log_in(store, None)
    digest = hashlib.sha256(b"a file of this machine").hexdigest()
    named = KeptFile("models/v1/manifest.json", name.replace("{log}", one.log_id), 22, digest)
    change_catalog(store, files=(named,))
    with pytest.raises(StorageProblem, match="names what is not of this log"):
        restore(tmp_path / "other", store, one.log_id, lambda *_: None)
    assert not (tmp_path / "other" / "models").exists()


@pytest.mark.parametrize("ending", ["manifest.json", ".part"])
def test_an_object_that_is_larger_than_it_was_is_not_fetched_to_its_end(tmp_path, store, records, ending):
    name = next(one.name for one in store.found() if one.name.endswith(ending))
    spoil(store, name, store.get(name) + b"x" * (4 << 20))
    taken = []
    pieces = store.pieces

    def counted(one):
        for piece in pieces(one):
            taken.append(len(piece))
            yield piece

    store.pieces = counted
    with pytest.raises(StorageProblem, match="is not as it was put there"):
        back(tmp_path / "other", store)
    assert sum(taken) < 2 << 20
    assert is_gone(tmp_path / "other" / "log")


def test_a_catalog_of_another_log_is_none(tmp_path, store, records):
    one = log_in(store, None)
    change_catalog(store, log_id="../elsewhere")
    with pytest.raises(StorageProblem, match="names what is not of this log"):
        restore(tmp_path / "other", store, one.log_id, lambda *_: None)


def test_a_catalog_that_is_none_is_told(tmp_path, store, records):
    name = catalog_name(log_in(store, None).log_id)
    for raw, said in (
        (b"{}", "cannot be read"),
        (store.get(name).replace(b'"format":1', b'"format":2'), "a newer version"),
    ):
        spoil(store, name, raw)
        with pytest.raises(StorageProblem, match=said):
            log_in(store, None)


class CutStore(FolderObjects):
    """It goes away after so many reads, in the middle of the next one."""

    left = 1 << 30

    def pieces(self, name):
        data = b"".join(super().pieces(name))
        if self.left == 0:
            yield data[: len(data) // 2]
            raise StorageProblem("the network has gone")
        self.left -= 1
        yield data


@pytest.mark.parametrize("reads", range(4))
def test_a_run_that_ends_anywhere_is_gone_on_with(tmp_path, store, records, reads):
    cut = CutStore(tmp_path / "archive")
    log_id = log_in(cut, None).log_id
    cut.left = 1 + reads  # the catalog
    with pytest.raises(StorageProblem, match="the network has gone"):
        restore(tmp_path / "other", cut, log_id, lambda *_: None)
    assert is_gone(tmp_path / "other" / "log")
    fetched = {path.name: path.stat().st_ino for path in (tmp_path / "other" / DRAFT).glob("*.segment")}
    back(tmp_path / "other", store)
    assert records_in(tmp_path / "other") == records
    again = {path.name: path.stat().st_ino for path in (tmp_path / "other" / "log").glob("*.segment")}
    assert fetched.items() <= again.items(), "what was fetched is not fetched again"


class MovingStore(FolderObjects):
    """Its server goes on with the log in the middle of a restore."""

    goes_on = None

    def pieces(self, name):
        if name.endswith(".part") and self.goes_on is not None:
            (go_on, self.goes_on) = self.goes_on, None
            go_on()
        return super().pieces(name)


def test_a_restore_from_an_archive_that_goes_on_takes_what_is_there_by_then(tmp_path, store, records):
    moving = MovingStore(tmp_path / "archive")

    def go_on():
        with closing(FileLog(tmp_path / "home" / "log", 1, segment_bytes=4_096)) as log:
            for _ in range(40):
                log.write(Kind.HEARTBEAT, 1, 1, b"%d" % log.durable * 50)
        put(tmp_path / "home", store)

    moving.goes_on = go_on
    done = restore(tmp_path / "other", moving, log_in(moving, None).log_id, lambda *_: None)
    assert done.end == 101
    assert len(records_in(tmp_path / "other")) == 100
