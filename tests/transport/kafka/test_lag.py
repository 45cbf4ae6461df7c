"""The lag: messages that are not decided yet, and for how long they have waited."""

import time

from confluent_kafka import Message, TopicPartition

from sentinel.transport.kafka.lag import Lag


class Ends:
    """As much of a consumer as knows how far a partition is."""

    def __init__(self, high):
        self.high = high

    def get_watermark_offsets(self, _one, cached):
        assert cached  # nobody waits for the broker
        return 0, self.high


def message(offset, age_s):
    return Message(topic="t", partition=0, offset=offset, timestamp=(2, int((time.time() - age_s) * 1_000)))


def test_it_counts_what_is_not_taken_and_the_age_of_the_oldest_of_it():
    lag, now_s = Lag(), 10.0
    lag.begin([TopicPartition("t", 0, 5)])
    assert lag.behind is None
    some = [message(5, 70), message(6, 60)]
    lag.taking(some)
    lag.look(Ends(8), now_s)
    assert lag.behind.records == 3
    assert 70 <= lag.behind.seconds < 100
    lag.taken(some)
    lag.look(Ends(8), now_s + 0.5)
    assert lag.behind.records == 3  # it looks once a second
    lag.look(Ends(8), now_s + 1.5)
    assert lag.behind.records == 1
    assert 60 <= lag.behind.seconds < 90
    lag.at_end("t", 0, 8)  # a mark of a transaction, which is no message
    lag.look(Ends(8), now_s + 3)
    assert lag.behind == (0, 0.0)
    lag.forget()
    assert lag.behind is None


def test_a_partition_that_is_read_from_its_beginning_has_all_of_it_before_it():
    lag = Lag()
    lag.begin([TopicPartition("t", 0, -2)])
    lag.look(Ends(4), 10.0)
    assert lag.behind.records == 4
