"""Turns at cases: one act at a time on each, others not held up, and never more than so many."""

import asyncio

import pytest

from sentinel.errors import Overloaded
from sentinel.transport.http.cases.turns import CaseTurns


def test_acts_on_one_case_follow_each_other_as_they_came_and_others_do_not_wait():
    async def run():
        turns, order, slow = CaseTurns(), [], asyncio.Event()

        async def act(name, number, until=None):
            async with turns.on(number):
                order.append(f"{name} begins")
                if until is not None:
                    await until.wait()
                order.append(f"{name} ends")

        first = asyncio.create_task(act("first", 1, slow))
        await asyncio.sleep(0)
        rest = [asyncio.create_task(act(name, 1)) for name in ("second", "third")]
        await asyncio.sleep(0)
        await act("other", 2)  # while the first one has case 1
        slow.set()
        await asyncio.gather(first, *rest)
        return order

    assert asyncio.run(run()) == [
        "first begins", "other begins", "other ends", "first ends", "second begins", "second ends", "third begins",
        "third ends",
    ]  # fmt: skip


def test_whoever_comes_when_so_many_wait_is_told_at_once_and_nobody_is_forgotten():
    async def run():
        turns, done = CaseTurns(most=2), asyncio.Event()

        async def act():
            async with turns.on(1):
                await done.wait()

        tasks = [asyncio.create_task(act()) for _ in range(2)]
        await asyncio.sleep(0)
        for number in (1, 2):
            with pytest.raises(Overloaded, match="2 acts on cases are not done yet"):
                async with turns.on(number):
                    pass
        done.set()
        await asyncio.gather(*tasks)
        async with turns.on(1):
            pass
        assert not turns._locks  # nothing is kept of a case that nobody waits for

    asyncio.run(run())


def test_an_act_that_fails_or_is_given_up_leaves_its_turn():
    async def run():
        turns = CaseTurns(most=1)
        with pytest.raises(ValueError, match="no"):
            async with turns.on(1):
                raise ValueError("no")
        waiting = asyncio.Event()

        async def act():
            async with turns.on(1):
                waiting.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(act())
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with turns.on(1):
            return True

    assert asyncio.run(run())
