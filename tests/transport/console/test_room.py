"""Slow pages take no thread that a log-in needs, and nobody waits without an end."""

import asyncio
import threading

from fastapi import FastAPI

from sentinel.transport.console.room import AT_ONCE, MOST_WAITING, Room


async def ask(app, path):
    """The status of an answer, from the application itself."""
    statuses = []

    async def receive():
        await asyncio.Event().wait()

    async def send(message):
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "path": path,
        "raw_path": path.encode(), "query_string": b"", "headers": [], "scheme": "http", "root_path": "",
        "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1), "state": {},
    }  # fmt: skip
    await app(scope, receive, send)
    return statuses[0]


def slow_console(go_on, running):
    """Pages that take a thread until they may go on, and one that is quick."""
    app = FastAPI()

    @app.get("/search")
    def search():
        running.release()
        go_on.wait(60)
        return {}

    @app.get("/login")
    def log_in():
        return {}

    return Room(app)


def test_a_log_in_has_a_thread_however_many_search():
    go_on, running = threading.Event(), threading.Semaphore(0)

    async def run():
        room = slow_console(go_on, running)
        searches = [asyncio.create_task(ask(room, "/search")) for _ in range(AT_ONCE["/search"] + MOST_WAITING)]
        for _ in range(AT_ONCE["/search"]):
            assert await asyncio.to_thread(running.acquire, timeout=60)
        assert await asyncio.wait_for(ask(room, "/login"), 60) == 200
        assert await asyncio.wait_for(ask(room, "/search"), 60) == 503  # as many wait as may
        assert not running.acquire(blocking=False)
        go_on.set()
        assert set(await asyncio.gather(*searches)) == {200}
        assert await ask(room, "/search") == 200

    try:
        asyncio.run(run())
    finally:
        go_on.set()


def test_whoever_goes_while_waiting_leaves_the_place():
    go_on, running = threading.Event(), threading.Semaphore(0)

    async def run():
        room = slow_console(go_on, running)
        searches = [asyncio.create_task(ask(room, "/search")) for _ in range(AT_ONCE["/search"] + MOST_WAITING)]
        for _ in range(AT_ONCE["/search"]):
            assert await asyncio.to_thread(running.acquire, timeout=60)
        for one in searches[AT_ONCE["/search"] :]:
            one.cancel()
        await asyncio.gather(*searches[AT_ONCE["/search"] :], return_exceptions=True)
        again = asyncio.create_task(ask(room, "/search"))
        go_on.set()
        assert await asyncio.wait_for(again, 60) == 200

    try:
        asyncio.run(run())
    finally:
        go_on.set()
