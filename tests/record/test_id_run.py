"""A run gives back what went into it, or is refused."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.errors import StorageProblem
from sentinel.record import id_run
from sentinel.record.id_run import IdRuns, RunHead, open_run, write_run

KEY = st.one_of(st.integers(1, 40), st.integers(1, (1 << 64) - 1), st.integers(0, 9).map(lambda n: (1 << 64) - 1 - n))
SOURCES = st.lists(st.lists(st.tuples(KEY, st.integers(0, 1 << 40)), max_size=60), min_size=1, max_size=4)
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a disk would make it slow
HEAD = RunHead(log_id="a log", first=3, end=9)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(id_run, "_PIECE", 8)


def rows_of(pairs):
    return np.array(sorted(pairs), np.uint64).reshape(-1, 2)


def write(folder, sources, oldest=0, head=HEAD, between=lambda: None):
    return write_run(Path(folder), head, [rows_of(source) for source in sources], oldest, between)


def keys_of(*keys):
    return np.array(keys, np.uint64)


@settings(deadline=None)
@given(SOURCES, st.integers(0, 1 << 40), st.lists(KEY, max_size=5))
def test_every_key_is_found_where_it_stands_also_when_the_file_is_opened_again(sources, oldest, others):
    pairs = [pair for source in sources for pair in source if pair[1] >= oldest]
    asked = {key for key, _ in pairs} | set(others)
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        written = write(folder, sources, oldest)
        for run in (written, open_run(written.path, "a log", 9)):
            assert (run.first, run.end) == (3, 9)
            assert sorted(map(tuple, run.rows.tolist())) == sorted(pairs)
            assert run.rows[:, 0].tolist() == sorted(key for key, _ in pairs)
            for key in asked:
                assert sorted(IdRuns([run]).find(keys_of(key))) == sorted(at for one, at in pairs if one == key)
            assert sorted(IdRuns([run, run]).find(keys_of(*asked))) == sorted([at for _, at in pairs] * 2)


@settings(deadline=None)
@given(st.data())
def test_a_file_with_another_bit_is_refused_or_says_the_same(data):
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        run = write(folder, [[(key << 56, key) for key in range(1, 30)]])
        content = bytearray(run.path.read_bytes())
        place = data.draw(st.one_of(st.integers(0, 150), st.integers(0, len(content) - 1)))
        content[place] ^= 1 << data.draw(st.integers(0, 7))
        run.path.write_bytes(content)
        if 150 < place < 4096:  # where blanks follow the head
            same = refused_or_opened(run.path)
            assert same is None or same.rows.tolist() == run.rows.tolist()
        else:
            assert refused_or_opened(run.path) is None


def refused_or_opened(path):
    try:
        return open_run(path, "a log", 9)
    except StorageProblem:
        return None


@pytest.mark.parametrize("length", [0, 100, 4095, 4096, 4111, 4112, 4559, 4561, 5000])
def test_a_file_of_another_length_is_refused(tmp_path, length):
    path = write(tmp_path, [[(key, key) for key in range(1, 30)]]).path
    path.write_bytes(path.read_bytes().ljust(5000, b"\0")[:length])
    with pytest.raises(StorageProblem):
        open_run(path, "a log", 9)


def test_what_is_not_of_this_log_is_refused(tmp_path):
    path = write(tmp_path, [[(1, 2)]]).path
    assert open_run(path, "a log", 9).rows.tolist() == [[1, 2]]
    with pytest.raises(StorageProblem, match="another log"):
        open_run(path, "a log", 8)
    with pytest.raises(StorageProblem, match="another log"):
        open_run(path, "b log", 9)
    with pytest.raises(StorageProblem, match="name"):
        open_run(path.rename(tmp_path / "000000000003-000000000008.ids"), "a log", 9)
    with pytest.raises(StorageProblem, match="version"):
        open_run(write(tmp_path, [[]], head=RunHead(format="2", log_id="a log", first=1, end=2)).path, "a log", 9)


def test_what_is_given_up_leaves_no_file(tmp_path):
    calls = []

    def give_up():
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, [[(key << 56, key) for key in range(1, 100)]], between=give_up)
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_stands_very_often_is_found_everywhere(tmp_path):
    run = write(tmp_path, [[(5, n) for n in range(100)], [(5, n) for n in range(100, 300)], [(6, 1)]])
    assert sorted(IdRuns([run]).find(keys_of(5))) == list(range(300))
    assert IdRuns([run]).find(keys_of(7, 4)) == []
    assert IdRuns([]).find(keys_of(5)) == []
