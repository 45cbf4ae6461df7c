"""What stands in the way of messages: tried again, one by one after some tries, and never passed by."""

from confluent_kafka import Message

from sentinel.transport.kafka.blocked import Blocked


def messages(*offsets):
    return [Message(topic="t", partition=0, offset=one) for one in offsets]


def test_after_some_tries_messages_are_taken_one_by_one_until_all_of_them_are():
    blocked = Blocked()
    some = messages(4, 5, 6)
    for _ in range(5):
        assert (blocked.at_once(3), blocked.is_for_long) == (3, False)
        blocked.at(some, "no disk")
    assert blocked.at_once(3) == 1
    blocked.passed(some[:1])
    assert (blocked.at_once(2), blocked.problem) == (1, None)
    for _ in range(5):
        blocked.at(some[1:2], "no disk")
    assert blocked.is_for_long
    assert blocked.problem == "t, partition 0, offset 5 cannot be taken, and what follows waits: no disk"
    blocked.passed(some[1:2])
    assert not blocked.is_for_long
    blocked.passed(some[2:])
    assert blocked.at_once(9) == 9


def test_what_stood_in_the_way_is_forgotten_where_nothing_is_to_be_taken():
    blocked = Blocked()
    for _ in range(5):
        blocked.at(messages(4, 5), "no disk")
    blocked.forget()
    assert (blocked.problem, blocked.is_for_long, blocked.at_once(7), blocked.pause_s) == (None, False, 7, 0.05)


def test_pauses_grow_up_to_ten_seconds():
    blocked = Blocked()
    pauses = []
    for _ in range(12):
        blocked.at_all("away")
        pauses.append(blocked.pause_s)
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (0.1, 10.0)
