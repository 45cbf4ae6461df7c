"""The overflow: what was appended is there after any end, what was taken in is not, and nothing else ever is."""

import os
import shutil
import threading
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.errors import JournalProblem
from sentinel.record.decision_batch import DecisionBatch
from sentinel.record.journal_reader import DecisionRow
from sentinel.record.overflow import Overflow
from sentinel.review import overflow as overflow_module


def row(name, size=20):
    return DecisionRow(
        seq=0, transaction_id=name, content=name.encode().ljust(size, b"x"), features=b"", fraud_probability=0.05,
        decision="approve", review_threshold=0.5, block_threshold=None, model_version="v1", detector="shop", late=True,
        variant=None, experiment=None, circuit="closed", degraded="overloaded", batch_size=1, latency_us=7,
        decided_at_us=1,
    )  # fmt: skip


def put(overflow, rows):
    overflow.append(DecisionBatch.of_rows(rows))


def names_in(overflow):
    return [one.transaction_id for one in overflow.oldest(len(overflow))]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "overflow.log"


def reopened(path):
    overflow = Overflow(path)
    overflow.close()
    return overflow.oldest(len(overflow))


@pytest.mark.parametrize("with_room", [False, True])
def test_rows_come_back_in_their_order(path, with_room):
    overflow, rows = Overflow(path), [row(f"t{n}") for n in range(50)]
    if with_room:
        overflow.make_room()
    put(overflow, rows[:20])
    put(overflow, rows[20:])
    assert reopened(path) == rows
    overflow.close()


def test_rows_are_found_by_their_transaction_and_the_oldest_come_first(path):
    overflow, rows = Overflow(path), [row(f"t{n}") for n in range(5)]
    put(overflow, rows)
    assert overflow.find(["t3", "t5", "t0"]) == {"t0": rows[0], "t3": rows[3]}
    assert overflow.oldest(2) == rows[:2]
    overflow.forget(2)
    assert overflow.oldest(9) == rows[2:]
    assert overflow.find(["t1", "t2"]) == {"t2": rows[2]}
    overflow.close()


def test_a_column_of_one_value_is_the_value_of_every_row(path):
    overflow, rows = Overflow(path), [row(f"t{n}") for n in range(3)]
    columns = [(True, values[0]) if len(set(values)) == 1 else (False, values) for values in zip(*rows, strict=True)]
    overflow.append(DecisionBatch.of_columns(3, tuple(columns)))
    overflow.close()
    assert reopened(path) == rows


def test_room_that_is_made_later_takes_nothing_away(path):
    overflow = Overflow(path)
    put(overflow, [row("early")])
    overflow.make_room()
    put(overflow, [row("late")])
    overflow.close()
    again = Overflow(path)
    again.make_room()
    again.close()
    assert [one.transaction_id for one in reopened(path)] == ["early", "late"]


def test_room_is_made_ahead_of_what_is_written_while_it_is_written(path, monkeypatch):
    """Small pieces, so that the two threads meet at the end of what is ready again and again."""
    monkeypatch.setattr(overflow_module, "_AHEAD", 3000)
    monkeypatch.setattr(overflow_module, "_ZEROS", bytes(700))
    overflow, rows, ended = Overflow(path), [row(f"t{n}", 50 * (n % 7)) for n in range(3000)], threading.Event()

    def make_room():
        while not ended.is_set():
            overflow.make_room()

    other = threading.Thread(target=make_room)
    other.start()
    for begin in range(0, len(rows), 3):
        put(overflow, rows[begin : begin + 3])
    ended.set()
    other.join()
    overflow.make_room()
    assert overflow._ready - overflow._end >= 1500
    assert path.stat().st_size >= overflow._ready
    overflow.close()
    assert reopened(path) == rows


def test_a_failed_write_ahead_takes_no_fault_from_what_is_appended(path, monkeypatch):
    """The system reports a fault once for every opening of the file: each of the two has to have its own."""
    used, real = set(), os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda file, *given: used.add(file) or real(file, *given))
    overflow = Overflow(path)
    overflow.make_room()
    assert len(used) == 1
    assert overflow._file not in used
    overflow.close()


def test_to_make_room_ends_when_it_shall(path):
    overflow, pauses = Overflow(path), []
    overflow.make_room(lambda: pauses.append(1) or len(pauses) == 3)
    assert len(pauses) == 3
    assert path.stat().st_size == overflow._ready == 3 * len(overflow_module._ZEROS) + 8
    overflow.close()


def test_a_disk_that_is_nearly_full_is_left_to_others(path, monkeypatch):
    found = os.statvfs(path.parent)
    full = os.statvfs_result((*found[:4], 1, *found[5:10]))
    monkeypatch.setattr(os, "fstatvfs", lambda _: full)
    overflow = Overflow(path)
    overflow.make_room()
    assert path.stat().st_size < 100
    put(overflow, [row("kept")])
    overflow.close()
    assert [one.transaction_id for one in reopened(path)] == ["kept"]


def test_room_that_cannot_be_made_is_done_without(path, monkeypatch, caplog):
    overflow = Overflow(path)
    with monkeypatch.context() as full:
        full.setattr(os, "pwritev", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        overflow.make_room()
        overflow.make_room()
    assert [one.getMessage() for one in caplog.records] == [
        f"{path} cannot be written ahead of what is shed: No space left on device"
    ]
    put(overflow, [row("kept")])
    overflow.make_room()
    put(overflow, [row("next")])
    overflow.close()
    assert [one.transaction_id for one in reopened(path)] == ["kept", "next"]


def test_more_than_its_first_length_finds_room(path):
    overflow = Overflow(path)
    overflow.make_room()
    length = path.stat().st_size
    rows = [row(f"t{n}", 1 << 20) for n in range(40)]
    for one in rows:
        put(overflow, [one])
    assert path.stat().st_size > length
    overflow.close()
    assert reopened(path) == rows


@pytest.mark.parametrize("where", ["head", "body", "last byte"])
def test_what_is_half_written_at_the_end_is_passed_over(path, where):
    overflow = Overflow(path)
    put(overflow, [row("whole")])
    end = overflow._end
    put(overflow, [row("half")])
    whole = overflow._end
    overflow.close()
    with path.open("r+b") as file:
        file.truncate({"head": end + 3, "body": end + 30, "last byte": whole - 1}[where])
    again = Overflow(path)
    assert names_in(again) == ["whole"]
    put(again, [row("next")])
    again.close()
    assert [one.transaction_id for one in reopened(path)] == ["whole", "next"]


def test_where_the_disk_is_full_nothing_is_taken_and_nothing_lost(path, monkeypatch):
    overflow = Overflow(path)
    put(overflow, [row("kept")])
    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(JournalProblem, match="No space left"):
            put(overflow, [row("refused")])
    assert names_in(overflow) == ["kept"]
    put(overflow, [row("next")])
    overflow.close()
    assert [one.transaction_id for one in reopened(path)] == ["kept", "next"]


def test_while_it_is_never_empty_it_keeps_no_more_than_what_waits(path):
    overflow = Overflow(path)
    for n in range(300):
        put(overflow, [row(f"t{n}-{k}") for k in range(3)])
        overflow.forget(3 if n else 2)
    assert names_in(overflow) == ["t299-2"]
    assert len(overflow._rows._batches) == 1
    assert overflow.find(["t0-0", "t299-1", "t299-2"]).keys() == {"t299-2"}
    overflow.close()


def test_memory_for_many_rows_is_ready_before_they_come(path, monkeypatch):
    monkeypatch.setattr(overflow_module, "_SLOTS", 16)
    monkeypatch.setattr(overflow_module, "_MORE_SLOTS", 64)
    overflow = Overflow(path)
    overflow.make_room()
    assert overflow._rows._spare is None  # few rows need none
    put(overflow, [row(f"t{n}") for n in range(4)])
    overflow.make_room()
    spare = overflow._rows._spare
    overflow.make_room()
    assert overflow._rows._spare is spare
    put(overflow, [row(f"t{n}") for n in range(4, 14)])
    assert overflow._rows._tables[-1] is spare
    put(overflow, [row(f"t{n}") for n in range(14, 114)])  # more than any spare takes
    assert names_in(overflow) == [f"t{n}" for n in range(114)]
    assert overflow.find(["t0", "t5", "t113", "t114"]).keys() == {"t0", "t5", "t113"}
    overflow.forget(114)
    assert overflow.find(["t0", "t5", "t113"]) == {}
    assert overflow._rows._batches == []
    assert [len(table.hashes) for table in overflow._rows._tables] == [16]
    put(overflow, [row("again")])
    assert overflow.find(["again", "t0"]).keys() == {"again"}
    overflow.close()
    assert [one.transaction_id for one in reopened(path)] == ["again"]


def test_what_was_refused_is_not_read_again(path, monkeypatch):
    """The bytes are in the file, and to make them durable fails."""
    overflow = Overflow(path)
    put(overflow, [row("kept")])
    with monkeypatch.context() as failing:
        failing.setattr(os, "fdatasync", lambda _: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        with pytest.raises(JournalProblem, match="Input/output"):
            put(overflow, [row("refused")])
    overflow.close()
    assert [one.transaction_id for one in reopened(path)] == ["kept"]


def test_what_the_journal_has_is_left_out_wherever_it_stands(path):
    overflow, rows = Overflow(path), [row(f"t{n}") for n in range(7)]
    put(overflow, rows[:3])
    put(overflow, rows[3:])
    overflow.leave_out({"t0", "t2", "t3", "t6"})
    assert (len(overflow), names_in(overflow)) == (3, ["t1", "t4", "t5"])
    assert overflow.find(["t0", "t1", "t2", "t6"]).keys() == {"t1"}
    assert overflow.oldest(2) == [rows[1], rows[4]]
    overflow.forget(2)
    assert (len(overflow), names_in(overflow)) == (1, ["t5"])
    overflow.forget(1)
    assert len(overflow) == 0
    overflow.close()
    assert reopened(path) == []


def test_a_file_of_the_format_before_is_refused_and_kept(path):
    body = b"\x92\x01 rows of an older version"
    before = len(body).to_bytes(4, "little") + zlib.crc32(body).to_bytes(4, "little") + body
    path.write_bytes(before)
    opened = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(JournalProblem, match="older version"):
        Overflow(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == opened
    assert path.read_bytes() == before


steps = st.lists(
    st.one_of(st.integers(1, 5), st.just("forget some"), st.just("forget all"), st.just("crash")), max_size=25
)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_after_any_steps_it_holds_what_a_list_says(tmp_path_factory, steps):
    """A crash: what the file holds at the moment is all that the next one gets."""
    with pytest.MonkeyPatch.context() as small:
        small.setattr("sentinel.record.overflow._SLOTS", 8)  # tables for six ids
        take_steps(tmp_path_factory, steps)


def take_steps(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("steps") / "overflow.log"
    overflow, model, count = Overflow(path), [], 0
    for step in steps:
        if step == "crash":
            overflow.close()
            overflow = Overflow(path)
            before = model
            model = names_in(overflow)
            assert model[len(model) - len(before) :] == before  # what was taken in before may come back with the others
        elif step == "forget all" or step == "forget some":
            gone = model if step == "forget all" else model[: len(model) // 2]
            overflow.forget(len(gone))
            model = model[len(gone) :]
        else:
            rows = [row(f"t{count + n}") for n in range(step)]
            count += step
            put(overflow, rows)
            model = model + [one.transaction_id for one in rows]
        assert names_in(overflow) == model
        found = overflow.find([f"t{n}" for n in range(count + 1)])
        assert {name: one.transaction_id for name, one in found.items()} == {name: name for name in model}
        if not model:
            assert reopened_copy(path) == []
    overflow.close()
    shutil.rmtree(path.parent)


def reopened_copy(path):
    copy = path.with_name("copy.log")
    shutil.copy(path, copy)
    return reopened(copy)
