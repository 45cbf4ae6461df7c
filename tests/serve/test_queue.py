"""The queue: who is next, who is overdue; time is an argument."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.errors import Overloaded
from sentinel.serve.queue import (
    LEAST_ROWS,
    LONG_TURN_NS,
    MAX_ROWS,
    MOST_OUTCOMES,
    MOST_SHED,
    Next,
    Queue,
    Request,
    arrivals_of,
    rows_of,
)

NOW = 1_000_000_000
SOON = NOW + 30_000_000
CALLERS = st.sampled_from(["", "one", "other"])


def request(rows: int, due_ns: int = SOON, name: str = "r", caller: str = "") -> Request:
    return Request([f"{name}{i}" for i in range(rows)], NOW - 1, due_ns, lambda _answers: None, caller)


def test_what_fits_into_a_batch_is_decided_together_in_its_order():
    queue = Queue(1_000)
    first, second = request(2, name="a"), request(3, name="b")
    queue.put(first)
    queue.put(second)
    assert queue.waiting == 5
    assert queue.take(NOW) == ([], [first, second], [])
    assert queue.waiting == 0
    assert not queue


def test_the_earliest_due_is_decided_first_and_a_request_stays_together():
    queue = Queue(10_000)
    requests = [request(200, SOON + 100 * MAX_ROWS * 15_000 - i) for i in range(4)]
    for one in requests:
        queue.put(one)
    overdue, batch, refused = queue.take(NOW)
    assert overdue == refused == []
    assert batch == [requests[3], requests[2]]
    assert queue.take(NOW).batch == [requests[1], requests[0]]


def test_who_is_late_is_taken_out_beside_the_batch():
    queue = Queue(1_000)
    overdue, in_time = request(5, NOW - 1_000_000), request(5)
    overdue.received_ns = NOW - 31_000_000
    queue.put(overdue)
    queue.put(in_time)
    assert queue.take(NOW) == ([overdue], [in_time], [])


def test_who_would_be_late_by_its_turn_does_not_wait_for_that():
    queue = Queue(100_000)
    due = NOW + 15_000 * 1_000  # time for a thousand, at the first guess of 15 us each
    requests = [request(200, due, caller=f"c{n}") for n in range(10)]
    for one in requests:
        queue.put(one)
    overdue, batch, refused = queue.take(NOW)
    assert rows_of(batch) == 200
    assert rows_of(overdue) == 1_000
    assert refused == []
    assert all(one.due_ns < NOW for one in overdue), "the engine decides them by the rules"
    assert queue.waiting == 800


def test_what_was_taken_in_time_is_judged_by_the_model_however_long_its_batch_takes():
    queue = Queue(10_000)
    queue.put(request(1_000, NOW + 1))
    [taken] = queue.take(NOW).batch
    assert taken.due_ns > NOW + 10**12


def test_a_batch_in_haste_that_is_too_long_for_its_own_deadline_is_decided_late():
    queue = Queue(10_000, 30_000_000)
    queue.put(request(1_000, NOW + 10_000_000))
    assert [rows_of(one) for one in queue.take(NOW + 15_000_000)] == [0, 1_000, 0]


def test_outcomes_wait_apart_in_their_order():
    queue = Queue(10_000)
    told = [request(200, name="o") for _ in range(3)]
    for one in told:
        queue.put_outcomes(one)
    assert queue
    assert queue.take(NOW) == ([], [], [])
    assert MOST_OUTCOMES <= 200
    assert [queue.take_outcomes() for _ in told] == [[one] for one in told]
    assert queue.take_outcomes() == []
    assert queue.waiting == 0


def test_a_full_queue_refuses_and_stays_as_it_is():
    queue = Queue(10)
    queue.put(request(6))
    with pytest.raises(Overloaded, match="6 transactions are waiting"):
        queue.put_outcomes(request(5))
    assert queue.waiting == 6
    queue.put(request(4, caller="another"))


def test_a_caller_leaves_room_for_the_next():
    queue = Queue(1_000)
    for _ in range(800):
        queue.put(request(1, caller="flood"))
    with pytest.raises(Overloaded, match="of your own requests are waiting"):
        queue.put(request(1, caller="flood"))
    queue.put(request(150, caller="late"))
    with pytest.raises(Overloaded, match="of your own requests are waiting"):
        queue.put(request(30, caller="late"))
    assert queue.waiting == 950


def in_turns(requests: list[Request], usual_ns: int = 0) -> Iterator[Next]:
    """What a queue takes, each batch at the pace that it believes in."""
    queue, now_ns = Queue(10**6, usual_ns), NOW
    for one in requests:
        queue.put(one)
    while queue:
        taken = queue.take(now_ns)
        now_ns += 15_000 * rows_of(taken.batch)
        yield taken


def test_a_lone_caller_comes_before_what_is_left_of_a_flood():
    flood = [request(1_000, NOW + 30 * 10**9, caller="flood") for _ in range(14)]
    lone = request(1, NOW + 30_000_000, caller="lone")
    taken = list(in_turns([*flood, lone]))
    assert taken[0].batch == [lone]
    assert [one.batch for one in taken[1:]] == [[one] for one in flood]


def test_callers_get_equally_far_however_soon_theirs_are_due():
    hasty = [request(200, NOW + 10**9 + n, caller="hasty") for n in range(20)]
    patient = [request(100, NOW + 10**10 + n, caller="patient") for n in range(20)]
    rows = {"hasty": 0, "patient": 0}
    for taken in in_turns(hasty + patient):
        for one in taken.batch:
            rows[one.caller] += len(one.events)
        if rows["patient"] < 2_000:
            assert abs(rows["hasty"] - rows["patient"]) <= 300
    assert rows == {"hasty": 4_000, "patient": 2_000}


def test_one_caller_alone_has_whole_batches():
    assert {rows_of(one.batch) for one in in_turns([request(1) for _ in range(4 * MAX_ROWS)])} == {MAX_ROWS}


@pytest.mark.parametrize(("size", "many"), [(1_000, 2), (1_000, 14), (250, 8), (100, 30)])
def test_nobody_is_judged_without_the_model_by_asking_for_haste(size, many):
    in_haste = [request(size, NOW + 10_000_000, caller="one") for _ in range(many)]
    taken = list(in_turns(in_haste, usual_ns=30_000_000))
    assert [one.overdue for one in taken if one.overdue] == []
    assert sum(len(one.refused) for one in taken) > 0
    assert sum(len(one.batch) for one in taken) > 0


def test_one_caller_that_sends_too_much_without_haste_is_decided_all_the_same():
    taken = list(in_turns([request(100, NOW + 30_000_000, caller="one") for _ in range(40)], usual_ns=30_000_000))
    assert sum(len(one.overdue) for one in taken) > 0
    assert [one.refused for one in taken if one.refused] == []


def test_what_was_put_behind_ones_own_and_is_overdue_then_is_refused():
    queue = Queue(10_000, 2**60)
    first, second = request(200, caller="one"), request(200, caller="one")
    queue.put(first)
    queue.put(second)
    assert queue.take(SOON + 1_000_000).refused == [first, second]


def test_a_stall_of_the_server_is_nobody_s_doing():
    queue = Queue(10_000)
    stalled = [request(1, caller="one") for _ in range(16)]
    for one in stalled:
        queue.put(one)
    assert queue.take(SOON + 50_000_000) == (stalled, [], [])


def test_batches_shrink_while_turns_are_long_and_something_is_shed_and_grow_again():
    queue = Queue(100_000)

    def batch_rows() -> int:
        for _ in range(2 * MAX_ROWS):
            queue.put(request(1, NOW + 10**12))
        rows = rows_of(queue.take(NOW).batch)
        queue.take_all()
        return rows

    assert batch_rows() == MAX_ROWS
    for _ in range(10):
        queue.learn(LONG_TURN_NS + 1, LONG_TURN_NS, MAX_ROWS, shed=True)
    assert batch_rows() == LEAST_ROWS
    for _ in range(10):
        queue.learn(LONG_TURN_NS + 1, LONG_TURN_NS, MAX_ROWS, shed=False)
    assert batch_rows() == MAX_ROWS


def test_a_batch_that_stalled_teaches_little():
    queue = Queue(100_000)
    queue.learn(10**12, 10**12, MAX_ROWS, shed=True)
    for _ in range(4 * LEAST_ROWS):
        queue.put(request(1, NOW + 10 * 15_000 * 4 * LEAST_ROWS))
    assert queue.take(NOW)[::2] == ([], [])


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(-5, 60), CALLERS), max_size=30), st.integers(0, 5))
def test_everyone_is_taken_out_once(requests, turns):
    queue = Queue(10**6)
    put = [request(rows, NOW + due * 1_000_000, caller=caller) for rows, due, caller in requests]
    for one in put:
        queue.put(one)
    taken = []
    for turn in range(turns + len(put)):
        overdue, batch, refused = queue.take(NOW + turn * 1_000_000)
        taken += overdue + batch + refused
        assert queue.waiting == sum(len(one.events) for one in put) - rows_of(taken)
    assert sorted(map(id, taken)) == sorted(map(id, put))


def test_arrivals_have_a_row_for_each_event():
    arrivals = arrivals_of([request(2, 7, "a"), request(1, 9, "b")])
    assert arrivals.events == ["a0", "a1", "b0"]
    assert list(arrivals.due_ns) == [7, 7, 9]
    assert list(arrivals.received_ns) == [NOW - 1] * 3


def test_only_so_many_are_shed_in_one_turn_and_the_others_in_the_next():
    queue = Queue(100_000)
    overdue = [request(1_000, NOW - 10**9, caller=f"c{n}") for n in range(5)]
    for one in overdue:
        one.received_ns = NOW - 2 * 10**9
    for one in overdue:
        queue.put(one)
    in_time = request(5)
    queue.put(in_time)
    assert queue.take(NOW) == (overdue[:2], [in_time], [])
    assert rows_of(overdue[:2]) >= MOST_SHED > rows_of(overdue[:1])
    assert [queue.take(NOW) for _ in range(2)] == [(overdue[2:4], [], []), (overdue[4:], [], [])]
    assert not queue
