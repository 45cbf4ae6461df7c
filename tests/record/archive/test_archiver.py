"""The archiver: what is durable gets into the archive, in order and whole, and nothing else counts."""

import random
import shutil
from contextlib import closing

import pytest

from sentinel.errors import InvalidDefinition, StorageProblem
from sentinel.record.archive.archiver import Archiver
from sentinel.record.archive.catalog import Part, catalog_name, read_catalog
from sentinel.record.archive.folder_objects import FolderObjects
from sentinel.record.archive.forgetting import forget_old
from sentinel.record.archive.place import archive_need, mark_of, open_archive
from sentinel.record.archive.restoring import log_in, restore
from sentinel.record.archive.segments import Stretch, merged
from sentinel.record.file_log import FileLog
from sentinel.record.log import Kind
from sentinel.record.log_reader import FileLogReader
from sentinel.record.segment import bases_in
from sentinel.record.verify import verify

SEGMENT = 4_096


@pytest.fixture
def store(tmp_path):
    return FolderObjects(tmp_path / "archive")


@pytest.fixture
def log(tmp_path):
    with closing(FileLog(tmp_path / "home" / "log", 1, segment_bytes=SEGMENT)) as log:
        yield log


def write(log, count, received_us=None):
    for _ in range(count):
        at = log.durable if received_us is None else received_us
        log.write(Kind.HEARTBEAT, 1, at, b"%d" % log.durable * 50)


def archiver_of(home, store):
    return Archiver(home, FileLogReader(home / "log"), store)


def archive(home, store):
    archiver = archiver_of(home, store)
    while archiver.step(1):
        pass
    return archiver


def catalog_of(store, log):
    return read_catalog(store.get(catalog_name(log.log_id)), "here", log.log_id)


def records(folder):
    with closing(FileLogReader(folder)) as log:
        return log.read(log.first, 1 << 30)


def restored(tmp_path, store, name="other"):
    home = tmp_path / name
    done = restore(home, store, log_in(store, None).log_id, lambda *_: None)
    return home, done


def test_a_log_of_any_length_comes_back_as_it_was(tmp_path, log, store):
    """With the newest segment just begun, in the middle, nearly full; every time some has been archived before."""
    rng, archiver = random.Random(5), archiver_of(tmp_path / "home", store)
    for n in range(12):
        write(log, rng.randrange(1, 40))
        while archiver.step(1):
            pass
        home, done = restored(tmp_path, store, f"other-{n}")
        assert records(home / "log") == records(tmp_path / "home" / "log")
        found = verify(home / "log")
        assert (found.findings, found.end, done.end, done.first) == ([], log.durable, log.durable, 1)
    assert archiver.lag == 0
    assert done.segments == len(bases_in(path.name for path in (tmp_path / "home" / "log").iterdir()))


def test_what_was_restored_is_written_on_and_archived_on(tmp_path, log, store):
    write(log, 30)
    archive(tmp_path / "home", store)
    home, _ = restored(tmp_path, store)
    with closing(FileLog.open(home / "log", 50, segment_bytes=SEGMENT)) as again:
        assert again.log_id == log.log_id
        write(again, 100, received_us=60)
        archive(home, store)
        end = again.durable
    third, done = restored(tmp_path, store, "third")
    assert done.end == end
    assert records(third / "log") == records(home / "log")


def test_the_newest_segment_is_archived_in_few_parts(tmp_path, log, store):
    """Each entry by itself: parts are as many as a number has digits, not as many as there were steps."""
    archiver = archiver_of(tmp_path / "home", store)
    for _ in range(30):
        write(log, 1)
        archiver.step(1)
        parts = catalog_of(store, log).parts
        assert [one.begin for one in parts] == [sum(one.bytes for one in parts[:n]) for n in range(len(parts))]
        assert len(parts) <= 6
        names = {one.name for one in store.found() if one.name.endswith(".part")}
        assert names == {one.name for one in parts}, "what has become a larger part is deleted"


def test_parts_merge_as_their_sizes_are_doubled():
    parts, uploaded = (), 0
    for position in range(1, 1_001):
        stay, begin = merged(parts, Stretch(position - 1, position, 0, ""))
        uploaded += position - begin
        parts = (*stay, Part("", begin, position - begin, ""))
        assert sum(one.bytes for one in parts) == position
        assert len(parts) <= 10
    assert uploaded < 1_000 * 11


def test_what_is_void_is_not_archived(tmp_path, log, store):
    """The head of a segment voids what an older one has from there on: the copy ends before."""
    write(log, 10)
    log._fault = OSError(5, "the disk says so")  # as after a failed fdatasync, whose record reached the file
    log._writer._file.write(log._writer.offset, b"\xff" * 100)
    log.recover()
    write(log, 10)
    archive(tmp_path / "home", store)
    home, _ = restored(tmp_path, store)
    assert records(home / "log") == records(tmp_path / "home" / "log")


class CutStore(FolderObjects):
    """After so many writes it is away."""

    def __init__(self, folder, writes):
        super().__init__(folder)
        self.left = writes

    def upload(self, name, pieces):
        if self.left == 0:
            raise StorageProblem("the network has gone")
        self.left -= 1
        super().upload(name, pieces)


@pytest.mark.parametrize("writes", range(6))
def test_a_run_that_ends_anywhere_leaves_an_archive_that_comes_back(tmp_path, log, store, writes):
    """What the catalog names is whole, and the next run goes on."""
    write(log, 10)
    archive(tmp_path / "home", store)
    write(log, 60)
    with pytest.raises(StorageProblem, match="the network has gone"):
        archive(tmp_path / "home", CutStore(tmp_path / "archive", writes))
    home, done = restored(tmp_path, store, "between")
    whole = records(tmp_path / "home" / "log")
    assert 11 <= done.end < log.durable
    assert records(home / "log") == [one for one in whole if one.position < done.end]
    archive(tmp_path / "home", store)
    names = {one.name for one in store.found() if one.name.endswith(".part") or "/files/" in one.name}
    assert names == catalog_of(store, log).names
    home, _ = restored(tmp_path, store, "after")
    assert records(home / "log") == whole


class ForgetfulStore(FolderObjects):
    """It loses the end of segments."""

    def pieces(self, name):
        data = b"".join(super().pieces(name))
        yield data[:-20] + bytes(20) if name.endswith(".segment") else data


def test_a_segment_that_is_not_given_back_as_it_was_does_not_count(tmp_path, log, store):
    write(log, 60)
    with pytest.raises(StorageProblem, match="did not give back the segment that was put there"):
        archive(tmp_path / "home", ForgetfulStore(tmp_path / "archive"))
    assert not [one for one in store.found() if one.name.endswith(".segment")]
    assert archive_need(tmp_path / "home", store.at, log.log_id).position == 0


def test_another_past_of_the_log_is_refused(tmp_path, log, store):
    """Of two machines that were given the same log the second to write is told, and so is one whose log is older."""
    write(log, 10)
    first = archive(tmp_path / "home", store)
    home, _ = restored(tmp_path, store)
    older = shutil.copytree(home, tmp_path / "older")
    with closing(FileLog(home / "log", 50, segment_bytes=SEGMENT)) as again:
        write(again, 5, received_us=70)
        archive(home, store)
    write(log, 3)
    with pytest.raises(StorageProblem, match="another process has put entries of this log"):
        first.step(1)
    with pytest.raises(StorageProblem, match="another past of this log, up to position 16"):
        archive(tmp_path / "home", store)
    with pytest.raises(StorageProblem, match="another past of this log, up to position 16"):
        archive(older, store)


def test_an_archive_that_vanished_is_not_begun_again_in_silence(tmp_path, log, store):
    write(log, 10)
    archiver = archive(tmp_path / "home", store)
    shutil.rmtree(tmp_path / "archive")
    for step in (lambda: archiver.step(1), lambda: archive(tmp_path / "home", store)):
        with pytest.raises(StorageProblem, match="had this log up to position 11, and has nothing of it now"):
            step()
    assert not (tmp_path / "archive").exists()
    shutil.rmtree(tmp_path / "home" / "archiving")
    archive(tmp_path / "home", store)
    assert restored(tmp_path, store)[1].end == 11


@pytest.mark.parametrize("seed", range(5))
def test_what_somebody_deleted_there_is_put_again(tmp_path, log, store, seed):
    """Segments, parts and files; the catalog is another matter."""
    (tmp_path / "home" / "models").mkdir()
    (tmp_path / "home" / "models" / "v1.report.html").write_text("a report")
    write(log, 130)
    archiver = archive(tmp_path / "home", store)
    names = sorted(one.name for one in store.found() if not one.name.endswith("catalog.json"))
    store.delete(random.Random(seed).sample(names, 1 + seed))
    if seed % 2:
        archiver = archiver_of(tmp_path / "home", store)
    archiver.look_over()
    while archiver.step(1):
        pass
    home, _ = restored(tmp_path, store)
    assert records(home / "log") == records(tmp_path / "home" / "log")
    assert (home / "models" / "v1.report.html").read_text() == "a report"


def test_a_log_that_was_pruned_without_its_archive_begins_there_again(tmp_path, log, store):
    write(log, 40)
    archive(tmp_path / "home", store)
    write(log, 100)
    log.prune(log.closed(99)[-1].until)
    archive(tmp_path / "home", store)
    home, done = restored(tmp_path, store)
    assert done.first == log.first > 41
    assert records(home / "log") == records(tmp_path / "home" / "log")


def test_what_left_the_log_stays_in_the_archive_as_long_as_it_is_to(tmp_path, log, store):
    write(log, 200)
    archive(tmp_path / "home", store)
    closed = log.closed(99)
    log.prune(closed[3].until)
    assert forget_old(store, log.log_id, closed[1].newest_us + 1) == 0, "a restore of before would need it"
    archive(tmp_path / "home", store)
    assert forget_old(store, log.log_id, closed[1].newest_us + 1) == 2
    assert forget_old(store, log.log_id, 1 << 60) == 2, "what the log still has stays"
    home, done = restored(tmp_path, store)
    assert done.first == log.first
    assert records(home / "log") == records(tmp_path / "home" / "log")


def test_the_mark_says_what_is_there(tmp_path, log, store):
    write(log, 60)
    archive(tmp_path / "home", store)
    mark = mark_of(tmp_path / "home", store.at)
    assert (mark.log_id, mark.end, mark.whole) == (log.log_id, 61, log.newest)
    need = archive_need(tmp_path / "home", store.at, log.log_id)
    assert (need.position, need.why) == (
        log.newest,
        f"the archive {store.at} has its segments before position {log.newest}",
    )
    assert archive_need(tmp_path / "home", store.at, "another").position == 0
    assert archive_need(tmp_path / "home", f"{store.at}-other", log.log_id).position == 0


def test_the_log_itself_is_no_archive(tmp_path, log):
    (tmp_path / "link").symlink_to(tmp_path / "home" / "log")
    for folder in (tmp_path / "home" / "log", tmp_path / "link", tmp_path / "home" / "log" / "below"):
        with pytest.raises(InvalidDefinition, match="is the log itself"):
            open_archive(str(folder), tmp_path / "home")
