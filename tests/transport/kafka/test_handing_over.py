"""Handing over: everybody hears what became of a message, also when the server ends in the middle."""

import asyncio
import secrets
from functools import partial

import pytest

from sentinel.commands.server_process import free_port
from sentinel.errors import StorageProblem
from sentinel.transport.kafka.connection import Connection
from sentinel.transport.kafka.handing_over import HandingOver
from sentinel.transport.kafka.topics import TRANSACTIONS, create

PATIENCE_S = 60


@pytest.fixture(scope="module")
def connection(service):
    found = Connection.of(service("kafka").environment["SENTINEL_KAFKA"], f"t{secrets.token_hex(4)}-", {})
    create(found, (TRANSACTIONS,), 1, -1, 7 * 86_400_000)
    return found


async def ended(handing, n):
    """Put messages and end at once; what was told of each, by when it has ended."""
    told = {}
    handing.start()
    for number in range(n):
        handing.put("k", b"message %d" % number, partial(told.__setitem__, number))
    await asyncio.to_thread(handing.stop)
    with pytest.raises(StorageProblem, match="send it again"):
        handing.put("k", b"too late", print)
    await asyncio.sleep(0)  # what was told in the loop while it ended
    return told


def test_all_that_was_handed_over_is_told_when_it_ends(connection):
    for _ in range(3):
        told = asyncio.run(ended(HandingOver(connection, TRANSACTIONS, PATIENCE_S, lambda: None), 500))
        assert told == dict.fromkeys(range(500))


def test_what_no_broker_has_taken_is_told_too():
    nowhere = Connection.of(f"127.0.0.1:{free_port('127.0.0.1')}", "t-", {})
    told = asyncio.run(ended(HandingOver(nowhere, TRANSACTIONS, 0.5, lambda: None), 20))
    assert sorted(told) == list(range(20))
    assert all(told.values())


def test_each_of_several_has_its_own_fault(connection):
    async def handed():
        handing = HandingOver(connection, TRANSACTIONS, PATIENCE_S, lambda: None)
        handing.start()
        try:
            assert await handing.all_of([]) == []
            return await handing.all_of([("k", b"good"), ("k", b"x" * (17 << 20)), ("k", b"good too")])
        finally:
            await asyncio.to_thread(handing.stop)

    first, large, last = asyncio.run(handed())
    assert (first, last) == (None, None)
    assert "does not take it" in large


def test_what_stands_in_the_way_is_asked_until_it_is_gone(connection):
    said = ["not yet", "still not"]

    async def opened():
        handing = HandingOver(connection, TRANSACTIONS, PATIENCE_S, lambda: said.pop() if said else None)
        assert handing.problem is not None
        handing.start()
        try:
            while handing.problem is not None:
                await asyncio.sleep(0.05)
        finally:
            await asyncio.to_thread(handing.stop)

    asyncio.run(asyncio.wait_for(opened(), PATIENCE_S))
    assert said == []


def test_a_message_that_is_not_acknowledged_stands_in_the_way_until_it_is_looked_again():
    nowhere = Connection.of(f"127.0.0.1:{free_port('127.0.0.1')}", "t-", {})
    away = []

    async def handed():
        handing = HandingOver(nowhere, TRANSACTIONS, 0.5, lambda: "away" if away else None)
        handing.start()
        try:
            while handing.problem is not None:
                await asyncio.sleep(0.05)
            away.append(True)
            (fault,) = await handing.all_of([("k", b"message")])
            assert fault is not None
            assert handing.problem is not None
            away.clear()
            while handing.problem is not None:
                await asyncio.sleep(0.05)
        finally:
            await asyncio.to_thread(handing.stop)

    asyncio.run(asyncio.wait_for(handed(), PATIENCE_S))
