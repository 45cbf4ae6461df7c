"""A backtest over HTTP: the command does it in a process of its own, so that no decision waits for it."""

import asyncio
import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import msgspec
from fastapi import FastAPI, Request, Response

from sentinel.errors import DeploymentRefused, InvalidDefinition, InvalidInput, NotReady
from sentinel.events.card_numbers import masked_ends
from sentinel.events.wire import read_json
from sentinel.policy.rules.book import Book
from sentinel.transport.http.api import Api
from sentinel.transport.http.bodies import read_body, shown_body
from sentinel.transport.http.replies import Reply, response_of

LONGEST_S = 600.0
_MOMENT = Annotated[str, msgspec.Meta(min_length=4, max_length=40, pattern=r"^[0-9][0-9TZ:.+-]*$")]


class BacktestBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename={"since": "from"}):
    """A book, and the period of the log that it is tried on: received `from` then `until` before then (ISO 8601)."""

    book: Book
    since: _MOMENT | None = None
    until: _MOMENT | None = None


class Backtests:
    """Runs one at a time; from the event loop."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._turn = asyncio.Lock()

    async def run(self, request: Request) -> Reply:
        """What a book would have done. Raises InvalidInput, BadBody, DeploymentRefused while another one runs."""
        body = await read_body(request, self._api.settings.max_body_bytes)
        try:
            asked: BacktestBody = read_json(msgspec.json.Decoder(BacktestBody).decode, body)
            asked.book.check_texts()
        except InvalidDefinition as error:
            raise InvalidInput(f"Expected a book that can be meant: {error}", "$.book") from None
        if self._turn.locked():
            raise DeploymentRefused("another backtest is running; ask again when it is done")
        async with self._turn:
            with tempfile.TemporaryDirectory(prefix="sentinel-") as folder:
                path = Path(folder) / "rules.yaml"
                path.write_bytes(msgspec.json.encode(asked.book))  # JSON is YAML
                return await self._told(path, asked)

    async def _told(self, path: Path, asked: BacktestBody) -> Reply:
        bounds = (("--from", asked.since), ("--to", asked.until))
        period = [part for name, moment in bounds if moment is not None for part in (name, moment)]
        command = ["-m", "sentinel", "rules", "backtest", str(path), "--home", str(self._api.settings.home), "--json"]
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, *period, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        try:
            with contextlib.suppress(ProcessLookupError):  # it has ended already
                os.setpriority(os.PRIO_PROCESS, process.pid, 19)
            told, said = await asyncio.wait_for(process.communicate(), LONGEST_S)
        except TimeoutError:
            raise NotReady(f"The backtest took more than {LONGEST_S:.0f} s; choose a shorter period") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            why = " ".join(said.decode(errors="replace").split()).rpartition("error: ")[2].replace(str(path), "book")
            raise InvalidInput(f"Expected a book and a period that can be tried: {masked_ends(why, 1_000)}", "$.book")
        return Reply(200, told.strip())


def add_backtests(app: FastAPI, backtests: Backtests) -> None:
    """The call `/v1/rules/backtest`."""

    @app.post("/v1/rules/backtest", openapi_extra=shown_body(BacktestBody), tags=["rules"])
    async def backtest(request: Request) -> Response:
        """What a book would have done with a period of the log, by rule, by day and in all, as the command says it.

        409 while another one runs.
        """
        return response_of(await backtests.run(request))
