"""Counters: what one worker counts, what several count together, and what outlives a killed one."""

import signal
import subprocess
import sys
import threading
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.errors import InvalidDefinition
from sentinel.telemetry.counters import (
    BATCH_BOUNDS,
    LATENCY_BOUNDS_US,
    THREADS,
    Across,
    Counters,
    Slot,
    Stage,
    create_counters,
    open_counters,
)

WORKER = """
import sys
from pathlib import Path
from sentinel.telemetry.counters import Slot, Stage, open_counters

counters = open_counters(Path(sys.argv[1]), int(sys.argv[2]))
counters.set(Slot.QUEUE_LENGTH, 5)
for n in range(int(sys.argv[3])):
    counters.add(Slot.REQUESTS)
    counters.add(Slot.APPROVE, 2)
    counters.observe(Stage.MODEL, n % 60_000)
print("counted", flush=True)
sys.stdin.read()
"""


def start_worker(path, worker, n):
    command = [sys.executable, "-c", WORKER, str(path), str(worker), str(n)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def wait_until_counted(process):
    assert process.stdout.readline() == "counted\n"


def stop(process):
    process.communicate("")
    assert process.returncode == 0


def test_every_slot_has_its_own_place():
    counters = Counters()
    for slot in Slot:
        counters.set(slot, 1000 + slot)
    totals = counters.totals()
    assert [totals[slot] for slot in Slot] == [1000 + slot for slot in Slot]
    assert all(totals.latency(stage).total == 0 for stage in Stage)
    assert totals.batches.total == 0


@given(st.lists(st.integers(0, 100_000) | st.sampled_from(LATENCY_BOUNDS_US), max_size=50), st.sampled_from(Stage))
def test_a_value_counts_at_the_first_bound_that_is_not_below_it(values, stage):
    one_by_one, together = Counters(), Counters()
    for value in values:
        one_by_one.observe(stage, value)
    together.observe_many(stage, np.array(values, np.int64))
    histogram = one_by_one.totals().latency(stage)
    edges = [-1, *LATENCY_BOUNDS_US, 10**9]
    assert list(histogram.values) == [sum(low < value <= high for value in values) for low, high in pairwise(edges)]
    assert (histogram.total, histogram.sum) == (len(values), sum(values))
    assert all(together.totals().latency(one) == one_by_one.totals().latency(one) for one in Stage)
    assert all(
        histogram.total == 0 for one in Stage if one is not stage for histogram in [together.totals().latency(one)]
    )


def test_batches_are_counted_with_their_rows():
    counters = Counters()
    for rows in (1, 32, 33, 5000):
        counters.observe_batch(rows)
    batches = counters.totals().batches
    assert (batches.total, batches.sum) == (4, 5066)
    assert dict(zip((*BATCH_BOUNDS, None), batches.values, strict=True)) == {
        **dict.fromkeys(BATCH_BOUNDS, 0), 1: 1, 32: 1, 64: 1, None: 1,
    }  # fmt: skip


def test_states_of_several_workers_are_added_or_the_highest_counts(tmp_path):
    create_counters(tmp_path / "counters", 2)
    first, second = open_counters(tmp_path / "counters", 0), open_counters(tmp_path / "counters", 1)
    for slot in (Slot.QUEUE_LENGTH, Slot.CACHE_SIZE, Slot.BREAKER_STATE, Slot.DRIFTED_FEATURES):
        first.set(slot, 2)
        second.set(slot, 1)
    totals = second.totals()
    assert totals[Slot.QUEUE_LENGTH] == totals[Slot.CACHE_SIZE] == 3
    assert totals[Slot.BREAKER_STATE] == totals[Slot.DRIFTED_FEATURES] == 2


def test_threads_that_have_their_own_rows_lose_nothing():
    switch_s, n, values = sys.getswitchinterval(), 3_000, np.arange(32)
    counters = Counters()

    def count(own):
        for _ in range(n):
            own.add(Slot.REQUESTS)
            own.observe(Stage.QUEUE, 70)
            own.observe_many(Stage.TOTAL, values)
        own.set(Slot.BREAKER_STATE, 1)

    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=count, args=[counters.for_thread(one)]) for one in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(switch_s)
    totals = counters.totals()
    assert totals[Slot.REQUESTS] == totals.latency(Stage.QUEUE).total == THREADS * n
    assert totals.latency(Stage.TOTAL).total == THREADS * n * 32
    assert totals.latency(Stage.TOTAL).sum == THREADS * n * values.sum()
    assert totals[Slot.BREAKER_STATE] == 1
    with pytest.raises(InvalidDefinition, match="thread 4"):
        counters.for_thread(THREADS)


def test_threads_of_several_workers_do_not_meet(tmp_path):
    create_counters(tmp_path / "counters", 2)
    workers = [open_counters(tmp_path / "counters", worker) for worker in range(2)]
    for worker in workers:
        for thread in range(THREADS):
            worker.for_thread(thread).set(Slot.QUEUE_LENGTH, 1)
    assert workers[0].totals()[Slot.QUEUE_LENGTH] == 2 * THREADS
    open_counters(tmp_path / "counters", 1)
    assert workers[0].totals()[Slot.QUEUE_LENGTH] == THREADS


def test_totals_stay_as_they_were_read():
    counters = Counters()
    before = counters.totals()
    counters.add(Slot.SWAPS)
    assert before[Slot.SWAPS] == 0
    assert counters.totals()[Slot.SWAPS] == 1


def test_three_processes_count_exactly_and_a_killed_one_goes_on_in_its_row(tmp_path):
    path, n = tmp_path / "counters", 20_000
    create_counters(path, 3)
    workers = [start_worker(path, worker, n) for worker in range(3)]
    for worker in workers:
        wait_until_counted(worker)
    reader = open_counters(path, 0)
    assert reader.totals()[Slot.REQUESTS] == 3 * n
    assert reader.totals()[Slot.APPROVE] == 6 * n
    assert reader.totals().latency(Stage.MODEL).total == 3 * n
    assert reader.totals().latency(Stage.MODEL).sum == 3 * sum(range(n))

    workers[1].send_signal(signal.SIGKILL)
    workers[1].communicate()
    assert reader.totals()[Slot.REQUESTS] == 3 * n
    workers[1] = start_worker(path, 1, 7)
    wait_until_counted(workers[1])
    totals = reader.totals()
    assert totals[Slot.REQUESTS] == 3 * n + 7
    assert totals[Slot.QUEUE_LENGTH] == 10, "the reader took row 0 and began with nothing waiting"
    for worker in workers:
        stop(worker)


def test_what_a_killed_worker_was_doing_is_forgotten_but_not_what_it_did(tmp_path):
    path = tmp_path / "counters"
    create_counters(path, 1)
    before = open_counters(path, 0)
    for slot in Slot:
        before.set(slot, 4)
    totals = open_counters(path, 0).totals()
    assert all(totals[slot] == (4 if slot.across is Across.COUNT else 0) for slot in Slot)


def test_a_reader_never_sees_counts_go_back(tmp_path):
    create_counters(tmp_path / "counters", 1)
    counters, done = open_counters(tmp_path / "counters", 0), threading.Event()

    def count():
        for _ in range(20_000):
            counters.add(Slot.REQUESTS)
        done.set()

    thread = threading.Thread(target=count)
    thread.start()
    seen = [0]
    while not done.is_set():
        seen.append(counters.totals()[Slot.REQUESTS])
    thread.join()
    assert seen == sorted(seen)
    assert counters.totals()[Slot.REQUESTS] == 20_000


def test_a_file_that_is_missing_short_or_of_another_layout_is_refused(tmp_path):
    path = tmp_path / "counters"
    with pytest.raises(InvalidDefinition, match="create them first"):
        open_counters(path, 0)
    path.write_bytes(b"")
    with pytest.raises(InvalidDefinition, match="create them first"):
        open_counters(path, 0)
    path.write_bytes(bytes(4096))
    with pytest.raises(InvalidDefinition, match="another version"):
        open_counters(path, 0)
    create_counters(path, 2)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InvalidDefinition, match="another version"):
        open_counters(path, 0)


def test_there_is_no_row_for_one_worker_too_many(tmp_path):
    create_counters(tmp_path / "counters", 2)
    with pytest.raises(InvalidDefinition, match="created for 2 workers"):
        open_counters(tmp_path / "counters", 2)
    with pytest.raises(InvalidDefinition, match="at least one"):
        create_counters(tmp_path / "counters", 0)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InvalidDefinition, match="nowhere"):
        create_counters(tmp_path / "nowhere" / "counters", 1)


def test_creating_again_begins_anew(tmp_path):
    path = tmp_path / "counters"
    create_counters(path, 1)
    old = open_counters(path, 0)
    old.add(Slot.REQUESTS)
    create_counters(path, 1)
    assert open_counters(path, 0).totals()[Slot.REQUESTS] == 0
    assert old.totals()[Slot.REQUESTS] == 1
