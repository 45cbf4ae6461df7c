"""How far inputs were read: noted in the order of each partition, whatever the order in which answers come."""

import pytest
from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st

from sentinel.errors import BadBody, NotReady
from sentinel.record.log import Taken
from sentinel.transport.kafka.connection import Connection
from sentinel.transport.kafka.progress import LogProgress, Piece

TOPIC = "t"


class NotedLog:
    """As much of a log as notes how far inputs were read."""

    def __init__(self, inputs):
        self.written_inputs = self.newest_inputs = inputs

    def take(self, taken: Taken):
        self.written_inputs = dict(taken.inputs)


class Offsets:
    """As much of a consumer as knows of partitions that keep everything from 0 to 10,000."""

    def committed(self, every, timeout):  # noqa: ARG002
        return every

    def get_watermark_offsets(self, one, timeout):  # noqa: ARG002
        return 0, 10_000


def progress(noted):
    log = NotedLog(noted)
    found = LogProgress(Connection("nowhere:1"), log, lambda _ends: None)
    found.begins(Offsets(), [])
    return found, log


def message(offset, partition=0):
    return Message(topic=TOPIC, partition=partition, offset=offset, value=b"%d" % offset, key=b"k", headers=[])


def piece(offsets, wrong=(), partition=0):
    return Piece([message(n, partition) for n in offsets], {n: BadBody("not this one") for n in wrong})


@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=8),
    order=st.randoms(use_true_random=False),
    begin=st.integers(0, 100),
    gap=st.integers(0, 3),
    writes=st.lists(st.booleans(), min_size=8, max_size=8),
)
def test_nothing_is_noted_before_all_that_came_before_it_and_each_dead_letter_is_written_once(
    sizes, order, begin, gap, writes
):
    found, log = progress({f"{TOPIC}-0": begin})
    at, pieces = begin + gap, []  # offsets that hold no message are skipped
    for size in sizes:
        pieces.append(piece(range(at, at + size), wrong=[0]))
        at += size
    calls = [(one, found.taken(one)) for one in pieces]
    order.shuffle(calls)
    done, letters = set(), []
    for (one, call), is_written in zip(calls, writes, strict=False):
        taken = call([None] * (len(one.messages) - 1))
        if is_written:  # or together with the next
            log.take(taken)
        done |= {each.offset() for each in one.messages}
        upto = next(n for n in range(begin + gap, at + 1) if n not in done)
        assert taken.inputs == {f"{TOPIC}-0": upto if upto > begin + gap else begin}
        letters += [each.value for each in taken.enclosed]
        assert letters == [b"%d" % one.messages[0].offset() for one in pieces if one.messages[-1].offset() < upto]


def test_what_was_read_before_the_log_went_back_is_not_taken():
    found, log = progress({f"{TOPIC}-0": 5})
    found.check([message(5)])
    log.take(found.taken(piece([5, 6]))([None, None]))
    found.check([message(7)])
    found.taken(piece([7]))
    log.written_inputs = {f"{TOPIC}-0": 5}  # the engine was thrown away, with what it had not committed
    with pytest.raises(NotReady, match="read up to 8, and the log goes on at 5"):
        found.check([message(8)])
    found.begins(Offsets(), [])
    found.check([message(7)])  # the log says so itself after that


def test_a_piece_of_which_some_has_no_answer_is_not_noted():
    found, log = progress({f"{TOPIC}-0": 0})
    first, second = found.taken(piece([0, 1])), found.taken(piece([2]))
    log.take(first([None, NotReady("later")]))
    log.take(second([None]))
    assert log.written_inputs == {f"{TOPIC}-0": 0}


def test_a_partition_that_no_entry_names_yet_begins_where_it_was_read_first():
    found, log = progress({})
    first, second = found.taken(piece([3, 4], partition=1)), found.taken(piece([5], partition=1))
    assert second([None]).inputs == {}
    log.take(second([None]))
    log.take(first([None, None]))
    assert log.written_inputs == {f"{TOPIC}-1": 6}
