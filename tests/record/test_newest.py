"""The newest records of a writer in Kafka: whatever is put in, committed and forgotten, a list finds the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.record.kafka import newest
from sentinel.record.kafka.message import Found
from sentinel.record.kafka.newest import Newest
from sentinel.record.log import Kind, Record

MOST = 100
STEPS = st.lists(st.tuples(st.sampled_from("pppcccfr"), st.integers(1, 9)), max_size=60)


@pytest.fixture(autouse=True, scope="module")
def few_bytes():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(newest, "RECENT_BYTES", MOST)
        yield


def found_at(position: int, rows: int, offset: int = -1) -> Found:
    record = Record(position, Kind.HEARTBEAT, rows, 0, b"x" * (7 * rows), b"")
    return Found(offset, record, "", "log", {}, 0)


@given(STEPS)
def test_a_list_of_all_finds_the_same(steps):
    held, pending, recent, end, offset = Newest(), [], [], 1, 0
    for what, n in steps:
        if what == "p":
            pending.append(found_at(end, n))
            held.put(pending[-1])
            end += n
        elif what == "r" and pending:
            pending[-1] = pending[-1]._replace(traces=("t",) * n)
            held.replace(pending[-1])
        elif what == "c" and pending:
            recent.append(pending.pop(0)._replace(offset=offset))
            held.commit(recent[-1])
            offset += 1
            while sum(len(one.record.body) for one in recent) > MOST:
                del recent[0]
        elif what == "f":
            recent = [one for one in recent if one.next > n * 5]
            held.forget_before(n * 5)
        assert held.pending == (pending[-1] if pending else None)
        assert held.oldest == (recent[0] if recent else None)
        for position in range(end + 2):
            of = [one for one in (*recent, *pending) if one.record.position <= position < one.next]
            assert held.at(position) == (of[0].record if of else None)
            page = held.page(position, n)
            assert (page is None) == (not recent or position < recent[0].record.position)
            if page is not None:
                wanted = [one.record for one in recent if one.next > position]
                assert page == wanted[: len(page)]
                assert len(page) == len(wanted) or sum(one.rows for one in page) >= n
    held.clear()
    assert (held.pending, held.oldest, held.at(1)) == (None, None, None)
