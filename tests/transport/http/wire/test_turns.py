"""Turns: a little in each turn of the event loop, and of all who wait one each."""

import asyncio
import time

from sentinel.errors import Crowded
from sentinel.transport.http.wire import room as room_module
from sentinel.transport.http.wire.room import Room
from sentinel.transport.http.wire.turns import Turns


def done_by_turn(most, *asked, cancelled=()):
    """What is done in which turn of the loop: `asked` are callers with weights."""

    async def run():
        turns, done, current = Turns(most), [], []
        taken = [turns.take(who, lambda who=who: current.append(who), weight) for who, weight in asked]
        for n in cancelled:
            taken[n].cancel()
        while sum(map(len, done)) < len(asked) - len(cancelled):
            await asyncio.sleep(0)
            done.append(list(current))
            current.clear()
        return [one for one in done if one]

    return asyncio.run(asyncio.wait_for(run(), 10))


def test_many_of_one_caller_do_not_delay_the_next_caller():
    assert done_by_turn(2, *[("many", 1)] * 5, ("one", 1)) == [["many", "one"], ["many", "many"], ["many", "many"]]


def test_heavy_things_are_done_one_in_a_turn():
    assert done_by_turn(10, ("a", 50), ("b", 50), ("c", 4), ("d", 4), ("e", 4)) == [["a"], ["b"], ["c", "d", "e"]]


def test_what_is_cancelled_is_not_done_and_takes_nobody_s_turn():
    assert done_by_turn(1, ("a", 1), ("a", 1), ("b", 1), cancelled=[0]) == [["b"], ["a"]]


def test_a_turn_tells_since_when_nothing_of_the_same_caller_is_before_it():
    async def run():
        turns, done = Turns(1), asyncio.Event()
        turns.take("a", lambda: time.sleep(0.02))
        later = turns.take("a", done.set)
        asked_ns = later.first_ns
        other = turns.take("b", lambda: None)
        await done.wait()
        return later.first_ns - asked_ns, other.first_ns - asked_ns

    own, others = asyncio.run(asyncio.wait_for(run(), 10))
    assert own >= 20_000_000
    assert others < 15_000_000


class Kept:
    """A connection that keeps part of a request."""

    def __init__(self, who):
        self.who = who
        self.gave_way = False

    def give_way(self):
        self.gave_way = True


def test_who_keeps_the_most_gives_way_strangers_first(monkeypatch):
    monkeypatch.setattr(room_module, "MOST_UNFINISHED_BYTES", 100)
    room = Room(9)
    strangers, shop, bank = [Kept(None) for _ in range(3)], [Kept("shop"), Kept("shop")], Kept("bank")
    for holder, kept in [(bank, 30), (shop[0], 20), (shop[1], 25), (strangers[0], 5), (strangers[1], 10)]:
        room.keep(holder, kept)
    assert room.unfinished_bytes == 90
    room.keep(strangers[2], 12)
    assert [one.gave_way for one in strangers] == [False, False, True]
    room.keep(bank, 60)
    assert [one.gave_way for one in strangers] == [True] * 3
    assert (bank.gave_way, shop[1].gave_way) == (True, False)
    room.keep(shop[0], 90)
    assert [one.gave_way for one in shop] == [True, False]
    assert room.unfinished_bytes == 25
    room.keep(shop[1], 0)
    assert room.unfinished_bytes == 0
    assert isinstance(room.crowded(), Crowded)
