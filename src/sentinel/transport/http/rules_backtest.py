"""A backtest over HTTP: the command does it in a process of its own, so that no decision waits for it.

What is asked of the newest decisions alone is little work, and is done here at once.
"""

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool

from sentinel.errors import DeploymentRefused, InvalidDefinition, InvalidInput, NotReady
from sentinel.events.times import clock_us, iso
from sentinel.events.wire import read_json
from sentinel.policy.costs import Costs
from sentinel.policy.policies import AnyPolicy
from sentinel.policy.rules.book import Book
from sentinel.policy.rules.hits import BookHits
from sentinel.review.backtest import PastHits, Several, Tried, backtest
from sentinel.review.past_scores import newest_scores
from sentinel.transport.http.admin.changes import by_caller
from sentinel.transport.http.admin.own_command import told_by
from sentinel.transport.http.api import Api
from sentinel.transport.http.bodies import read_body, shown_body
from sentinel.transport.http.replies import Reply, ok, response_of

LONGEST_S = 600.0
MOST_AT_ONCE = 2_000
_NEWEST_AT_ONCE = 2
PROGRESS = "progress:"
"""Begins the lines in which the command says how far it is."""

_MOMENT = Annotated[str, msgspec.Meta(min_length=4, max_length=40, pattern=r"^[0-9][0-9TZ:.+-]*$")]


class BacktestBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename={"since": "from"}):
    """A book, and what it is tried on: what was received `from` then `until` before then (ISO 8601).

    Or the `newest` decisions, so many or some more: that is answered at once.
    """

    book: Book
    since: _MOMENT | None = None
    until: _MOMENT | None = None
    newest: Annotated[int, msgspec.Meta(ge=1, le=MOST_AT_ONCE)] | None = None


class Running(msgspec.Struct):
    """The backtest that runs: since when, and how much of how much of the log it has read."""

    began_at: str
    done: int = 0
    of: int = 0

    def follow(self, line: str) -> bool:
        """Note how far it is, where a line of the command says so; whether it does."""
        if not line.startswith(PROGRESS):
            return False
        numbers = [int(one) for one in line.split() if one.isdecimal()]
        self.done, self.of = numbers[:2]
        return True


class Backtests:
    """Runs one at a time; from the event loop."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._turn = asyncio.Lock()
        self._of_callers: set[str] = set()
        self._newest = asyncio.Semaphore(_NEWEST_AT_ONCE)
        self.running: Running | None = None

    async def run(self, request: Request) -> Reply:
        """What a book would have done.

        Raises InvalidInput, BadBody, NotReady, DeploymentRefused while another one runs.
        """
        body = await read_body(request, self._api.settings.max_body_bytes)
        try:
            asked: BacktestBody = read_json(msgspec.json.Decoder(BacktestBody).decode, body)
            asked.book.check_texts()
        except InvalidDefinition as error:
            raise InvalidInput(f"Expected a book that can be meant: {error}", "$.book") from None
        if asked.newest is not None:
            return await self._in_turn(request, asked, asked.newest)
        if self._turn.locked():
            raise DeploymentRefused("another backtest is running; ask again when it is done")
        async with self._turn:
            self.running = Running(iso(clock_us()))
            try:
                with tempfile.TemporaryDirectory(prefix="sentinel-") as folder:
                    path = Path(folder) / "rules.yaml"
                    path.write_bytes(msgspec.json.encode(asked.book))  # JSON is YAML
                    return await self._told(path, asked, self.running)
            finally:
                self.running = None

    async def _in_turn(self, request: Request, asked: BacktestBody, most: int) -> Reply:
        """The same of the newest decisions: one for each caller, and few at a time in the order of their coming."""
        who = by_caller(request).who
        if who in self._of_callers:
            raise DeploymentRefused("another backtest of yours is running; ask again when it is done")
        self._of_callers.add(who)
        try:
            async with self._newest:
                return await run_in_threadpool(self._of_newest, asked, most)
        finally:
            self._of_callers.discard(who)

    def _of_newest(self, asked: BacktestBody, most: int) -> Reply:
        """The same of the newest decisions, from any thread."""
        if asked.since is not None or asked.until is not None:
            raise InvalidInput("Expected a period, or how many of the newest, and not both", "$.newest")
        worker, lineup = self._api.deciding(), self._api.predictor.lineup
        if lineup is None:
            raise NotReady("No model can answer yet; a book is tried on what one has scored")
        manifest = lineup.champion.bundle.manifest
        schema, tables = manifest.plan.schema, worker.ready_engine().tables.tables
        books = (asked.book, *([lineup.rules.acting] if lineup.rules else []))
        try:
            tried = [Tried(one, PastHits(BookHits(one, schema, manifest.plan.names), schema, tables)) for one in books]
        except InvalidDefinition as error:
            raise InvalidInput(f"Expected a book that fits {manifest.version}: {error}", "$.book") from None
        past = newest_scores(worker.log, manifest.version, schema, most, Several(*(one.hits for one in tried)))
        if past is None:
            raise InvalidInput(f"{manifest.version} has scored nothing lately; choose a period", "$.newest")
        said = (iso(int(past.received_us[0])), iso(int(past.received_us[-1])))
        policy = msgspec.convert(manifest.policy, AnyPolicy) if manifest.policy else None
        costs = policy.costs if policy else Costs()
        found = backtest(past, tried[0], manifest.version, said, costs, *tried[1:])
        return Reply(200, msgspec.json.encode(found))

    async def _told(self, path: Path, asked: BacktestBody, running: Running) -> Reply:
        bounds = (("--from", asked.since), ("--to", asked.until))
        period = [part for name, moment in bounds if moment is not None for part in (name, moment)]
        command = ["rules", "backtest", str(path), "--progress-in-lines", *period]
        home = self._api.settings.home

        def refused(why: str) -> InvalidInput:
            said = why.replace(str(path), "book")
            return InvalidInput(f"Expected a book and a period that can be tried: {said}", "$.book")

        told = await told_by(home, command, longest_s=LONGEST_S, follow=running.follow, refused=refused)
        return Reply(200, told.strip())


def add_backtests(app: FastAPI, backtests: Backtests) -> None:
    """The call `/v1/rules/backtest`."""

    @app.post("/v1/rules/backtest", openapi_extra=shown_body(BacktestBody), tags=["rules"])
    async def tried(request: Request) -> Response:
        """What a book would have done with a period of the log, by rule, by day and in all, as the command says it.

        409 while another one runs; `newest` decisions (at most 2,000) are tried at once, one time for each caller.
        """
        return response_of(await backtests.run(request))

    @app.get("/v1/rules/backtest", tags=["rules"])
    async def running() -> Response:
        """The backtest that runs now, and how far it is: `running` has `began_at`, `done` and `of`; null for none."""
        return ok({"running": backtests.running})
