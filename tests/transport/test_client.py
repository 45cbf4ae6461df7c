"""The client of the demo and the proofs."""

import asyncio

from sentinel.transport.client import Client, Unreachable


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers one request, and closes."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 401 Unauthorized\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
    await writer.drain()
    writer.close()


async def answers(n: int, connections: int) -> list[object]:
    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server, Client("127.0.0.1", server.sockets[0].getsockname()[1], connections) as client:
        asked = [client.post("/v1/score", b"{}") for _ in range(n)]
        return await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 20)


def test_whoever_waits_for_a_connection_is_told_when_there_is_none_left():
    found = asyncio.run(answers(50, 4))
    assert sum(isinstance(one, tuple) and one[0] == 401 for one in found) in range(1, 5)
    assert sum(isinstance(one, Unreachable) for one in found) >= 46
