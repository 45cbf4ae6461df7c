"""Every entry of the log is found by its key, whatever became of the files, and nothing that is not in the log."""

import os
import random
import shutil
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.events.columns import hash_texts
from sentinel.record import ids
from sentinel.record.entries import (
    ContextEvents,
    Decided,
    Decider,
    Outcomes,
    Revocation,
    Revoked,
    body_of,
    context_keys,
    outcome_keys,
)
from sentinel.record.ids import IdIndex
from sentinel.record.log import Kind, Record

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a disk would make it slow
RUNS = int(os.environ.get("SENTINEL_SIMULATED_RUNS", "60"))
DECIDER = Decider("v1", "state", 0, 0.5, None, "closed")


class ListedLog:
    """A log in memory; what is written is durable when `sync` was called."""

    log_id = "listed"

    def __init__(self):
        self.records, self.first, self.end, self.durable = [], 0, 0, 0

    def write(self, kind, hashes):
        """The keys by which the entries are found, and their position."""
        hashes = np.array(hashes, np.uint64)
        body, keys, rows = body_with(kind, hashes), hashes, max(len(hashes), 1)
        if kind in (Kind.OUTCOMES, Kind.REVOKED):
            keys = outcome_keys(hashes)
        if kind == Kind.CONTEXT:
            keys = context_keys(hashes)
        self.records.append(Record(self.end, kind, rows, 0, body))
        self.end += rows
        return keys, self.end - rows

    def sync(self):
        self.durable = self.end

    def recover(self, skipped):
        self.records = [record for record in self.records if record.position < self.durable]
        self.end = self.durable + skipped

    def read(self, position, limit):
        after = [one for one in self.records if position < one.position + one.rows and one.position < self.durable]
        return after[: max(limit // 8, 1)]


def body_with(kind, hashes):
    names = [f"{one:x}" for one in hashes.tolist()]
    if kind == Kind.HEARTBEAT:
        return b""
    if kind == Kind.OUTCOMES:
        return body_of(Outcomes(ids=names, hashes=hashes.tobytes(), is_fraud=b"", times_us=b"", about=b""))
    if kind == Kind.CONTEXT:
        return body_of(ContextEvents(schema_id="s", ids=names, hashes=hashes.tobytes(), contents=[], told_by=[]))
    if kind == Kind.REVOKED:
        given = Revocation("k", "", 0, 1, 1)
        nothing = [()] * len(names)
        return body_of(
            Revoked(revocation=given, ids=names, hashes=hashes.tobytes(), about=b"", sources=nothing, standing=nothing)
        )
    return body_of(
        Decided(
            schema_id="s", revision=1, detector="shop", deciders=(DECIDER,), by=bytes(len(names)), ids=names,
            hashes=hashes.tobytes(), contents=[b"{}"] * len(names), features=(b"",), scores=b"", levels=b"", late=b"",
            latencies_us=b"",
        )
    )  # fmt: skip


class Case:
    """An index, its log, and what it has to find."""

    def __init__(self, folder, generation=16):
        self.folder, self.generation, self.log, self.known, self.old_files = folder, generation, ListedLog(), {}, {}
        self.index = IdIndex(folder, self.log, generation)

    def add(self, hashes, kind=Kind.DECIDED):
        keys, position = self.log.write(kind, hashes)
        if len(hashes):
            self.index.add(keys, position)
        for n, key in enumerate(keys.tolist()):
            self.known.setdefault(key, []).append(position + n)

    def store(self, batches):
        for hashes in batches:
            self.add(hashes)
            self.sync()

    def sync(self):
        self.log.sync()
        self.index.tidy()
        self.old_files.update({path: path.read_bytes() for path in self.files()})

    def recover(self, skipped):
        """The log loses what is not durable."""
        self.log.recover(skipped)
        self.index.void_from(self.log.durable)
        self.lose()

    def lose(self):
        for positions in self.known.values():
            positions[:] = [one for one in positions if one < self.log.durable]

    def forget(self, position):
        self.log.first = max(self.log.first, min(position, self.log.durable))
        self.index.forget_before(self.log.first)

    def restart(self):
        self.index.close()
        self.log.recover(0)
        self.lose()
        self.index = IdIndex(self.folder, self.log, self.generation)
        assert self.index.position >= self.log.durable

    def files(self):
        return sorted(self.folder.glob("*.ids"))

    def check(self):
        for key, positions in self.known.items():
            expected = [one for one in positions if one >= self.log.first]
            assert self.index.find(np.array([key, 7777], np.uint64)) == expected
        everything = sorted(one for every in self.known.values() for one in every if one >= self.log.first)
        assert self.index.find(np.array(list(self.known), np.uint64)) == everything


HASH = st.one_of(st.integers(1, 30).map(lambda n: n * 0x9E3779B97F4A7C15 % (1 << 64)), st.integers(100, 110))
STEP = st.one_of(
    st.tuples(
        st.just("add"),
        st.lists(HASH, min_size=1, max_size=40),
        st.sampled_from([Kind.DECIDED, Kind.OUTCOMES, Kind.REVOKED, Kind.CONTEXT]),
    ),
    st.tuples(st.just("add"), st.just(()), st.just(Kind.HEARTBEAT)),
    st.tuples(st.just("store"), st.lists(st.lists(HASH, min_size=1, max_size=20), min_size=1, max_size=12)),
    st.tuples(st.just("store"), st.lists(st.lists(HASH, min_size=1, max_size=3), min_size=8, max_size=30)),
    st.tuples(st.just("recover"), st.integers(0, 20)),
    st.tuples(st.just("forget"), st.integers(0, 200)),
    st.tuples(st.just("restart")),
    st.tuples(st.just("crash"), st.integers()),
)


def crash(case, seed):
    """As a power cut in the middle of a merge, and a person who tidies up, would leave the folder."""
    chance = random.Random(seed)
    for path, content in case.old_files.items():
        fate = chance.choice(["kept", "there", "cut", "flipped", "gone"])
        if fate == "there":
            path.write_bytes(content)
        elif fate == "cut":
            path.write_bytes(content[: chance.randrange(len(content))])
        elif fate == "flipped":
            place = chance.randrange(4096, len(content)) if len(content) > 4096 else 0
            path.write_bytes(content[:place] + bytes([content[place] ^ 64]) + content[place + 1 :])
        elif fate == "gone":
            path.unlink(missing_ok=True)
    (case.folder / "1-2.draft").write_bytes(b"half")
    case.restart()
    assert not list(case.folder.glob("*.draft"))


@settings(deadline=None, max_examples=RUNS, print_blob=True)
@given(st.lists(STEP, min_size=3, max_size=15), st.sampled_from([2, 5, 16]))
def test_every_entry_is_found_and_no_other(steps, generation):
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        case = Case(Path(folder), generation)
        for name, *arguments in steps:
            crash(case, *arguments) if name == "crash" else getattr(case, name)(*arguments)
            case.check()
        case.sync()
        case.check()
        case.restart()
        case.check()
        case.index.close()


@pytest.fixture(autouse=True)
def no_pauses_and_small_parts(monkeypatch):
    monkeypatch.setattr(ids, "_PAUSE_S", 0)
    monkeypatch.setattr(ids, "_SLOTS", 8)


@pytest.fixture
def case(request):
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        case = Case(Path(folder) / "ids", getattr(request, "param", 16))
        yield case
        case.index.close()


def fill(case, entries, begin=0):
    for n in range(begin, begin + entries, 4):
        case.add(hash_texts([f"id-{n + i}" for i in range(4)]).tolist())
        case.log.sync()
        case.index.tidy()


@pytest.mark.parametrize("case", [4], indirect=True)
def test_the_number_of_runs_grows_as_the_logarithm(case):
    fill(case, 4 * 512)
    assert [path.stat().st_size for path in case.files()] == [4096 + 16 * 4 * 512]
    fill(case, 4 * (7 * 64 + 7 * 8 + 7), 4 * 512)
    assert len(case.files()) == 22
    case.check()


def test_files_that_a_crash_left_beside_what_they_were_merged_into_are_deleted(case):
    fill(case, 16 * 7)
    parts = {path: path.read_bytes() for path in case.files()}
    fill(case, 16, 16 * 7)
    (merged,) = case.files()
    for path, content in parts.items():
        path.write_bytes(content)
    case.restart()
    assert case.files() == [merged]
    case.check()


@pytest.mark.parametrize("skipped", [0, 3, 100])
def test_void_entries_are_not_found_whatever_comes_at_their_positions(case, skipped):
    fill(case, 20)
    for n in range(5):
        case.add(range(1000 + 10 * n, 1008 + 10 * n))
    case.recover(skipped)
    case.check()
    for n in range(5):
        case.add(range(2000 + 10 * n, 2008 + 10 * n))
        case.check()
    case.sync()
    case.restart()
    case.check()


def test_nothing_is_written_before_it_is_durable(case):
    for n in range(10):
        case.add(range(100 * n + 1, 100 * n + 41))
        case.index.tidy()
        assert case.files() == []
    case.check()
    case.sync()
    assert len(case.files()) == 3  # eight of ten were merged
    case.check()


def test_a_start_reads_only_what_is_in_no_run(case):
    fill(case, 1000)
    newest = max(int(path.stem.split("-")[1]) for path in case.files())
    case.log.records = [record for record in case.log.records if record.position >= newest]
    case.restart()
    case.check()


def test_runs_that_are_wholly_forgotten_are_deleted_and_others_drop_what_is(case):
    fill(case, 16 * 15)
    before = case.files()
    assert len(before) == 8  # one of 8 generations and 7 of one
    case.forget(16 * 9 + 3)
    case.sync()
    assert case.files() == before[2:]
    fill(case, 16 * 8, 16 * 15)
    merged = max(case.files(), key=lambda path: path.stat().st_size)
    assert merged.stat().st_size == 4096 + 16 * (16 * 8 - 3)
    case.check()


def test_runs_of_another_log_are_made_again(case, caplog):
    fill(case, 100)
    case.log.log_id = "restored from elsewhere"
    case.restart()
    case.check()
    assert "another log" in caplog.text
    case.sync()
    assert len(case.files()) == 6


def test_ids_stay_in_memory_while_the_disk_cannot_be_written(case, caplog):
    fill(case, 100)
    shutil.rmtree(case.folder)
    with pytest.raises(FileNotFoundError):
        fill(case, 100, 100)
    case.add(hash_texts(["one more"]).tolist())
    case.check()
    case.folder.mkdir()
    fill(case, 100, 200)
    case.check()


def test_a_batch_of_many_generations_is_taken(case):
    case.add(range(1, 1000))
    case.check()
    case.sync()
    assert [path.name for path in case.files()] == ["000000000000-000000000999.ids"]
    case.check()


def test_equal_ids_are_found_at_all_their_positions(case):
    for _ in range(100):
        case.add([5, 6, 5])
        case.sync()
    case.check()


def test_others_find_an_entry_while_it_is_on_its_way(case):
    stop, missed, asked = threading.Event(), [], []

    def look():
        while not stop.wait(0.0005):
            newest = case.index.position - 1
            for position in {0, max(newest - 20, 0), newest // 2, newest}:
                asked.append(position)
                if position not in case.index.find(hash_texts([f"id-{position}"])):
                    missed.append(position)

    fill(case, 4)
    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    fill(case, 2000, 4)
    stop.set()
    for thread in threads:
        thread.join()
    assert len(asked) > 20
    assert missed == []


def test_the_thread_writes_and_merges_by_itself(case):
    for n in range(66):
        case.add(range(100 * n + 1, 100 * n + 17))
    case.log.sync()
    while len(case.index._tables) > 1 or len(case.files()) != 3:
        threading.Event().wait(0.01)
    case.check()
