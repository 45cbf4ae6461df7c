"""Rules over HTTP: drafts are written down, tried, applied, and taken back; what is in force is looked at."""

import asyncio
from collections.abc import Callable, Sequence
from itertools import islice
from time import monotonic
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool

from sentinel.errors import InvalidDefinition, InvalidInput, NotReady, RateLimited, TooLarge, UnknownVersion
from sentinel.events.card_numbers import quoted
from sentinel.events.reader import TransactionReader
from sentinel.events.reference_tables.versions import LIST
from sentinel.events.times import clock_us
from sentinel.events.wire import read_json
from sentinel.policy.deployment import Deployment, RulesInForce
from sentinel.policy.rules.book import Book
from sentinel.policy.rules.hits import BookHits
from sentinel.policy.thresholds import Share
from sentinel.record.applied import Change
from sentinel.record.audit import By
from sentinel.record.log import Log, LogReader
from sentinel.record.rules_applying import (
    LONGEST_NOTE,
    Bands,
    Brings,
    Edited,
    bringing_back,
    bringing_in,
    summary,
    told_now,
    write_draft,
)
from sentinel.record.rules_history import Draft, OfVersion, ToldOfList, draft_of, drafts, rules_applied
from sentinel.record.standing import wait_until_it_stands
from sentinel.transport.access.limits import InMinute
from sentinel.transport.http.admin.changes import Changes, by_caller
from sentinel.transport.http.admin.models import ThresholdsBody, thresholds_asked
from sentinel.transport.http.bodies import read_as, read_body, shown_body
from sentinel.transport.http.lists import EntryBody, ListCalls, listings
from sentinel.transport.http.queries import whole_number
from sentinel.transport.http.replies import ok

_NOTE = Annotated[str, msgspec.Meta(max_length=LONGEST_NOTE)]
_NUMBER = Annotated[int, msgspec.Meta(ge=0)]
_MOST_SHOWN = 100
_DRAFTS_A_MINUTE = 60  # of one caller
_READ_AT_ONCE = 2  # drafts and what was in force before: each may read far back in the log

T = TypeVar("T")
U = TypeVar("U")


class CheckBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A book, as its file has it."""

    book: Book


class DraftThresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Probabilities from which the champion has a transaction reviewed, blocked and challenged."""

    review: Share
    block: Share | None = None
    challenge: Share | None = None


class DraftBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A book, why it is written, and by rule the lowest and the highest share of a day's decisions in its backtest.

    `after` is the draft that was edited, and `seen` the newest that there was when that began. `thresholds` are the
    champion's, and come in force with the book; without any those that are in force stay. `listed` has by list of the
    book what is told of it then, as `/v1/lists` takes it.
    """

    book: Book
    note: _NOTE = ""
    bands: Bands = {}
    after: _NUMBER | None = None
    seen: _NUMBER | None = None
    thresholds: DraftThresholds | None = None
    listed: dict[str, list[EntryBody]] = {}


class ApplyBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which draft comes in force, and why. `in_force` is the one that was when its changes were looked at (0: none).

    `bands` are those of a backtest that was made since it was drafted, as `bands` of a draft.
    """

    draft: Annotated[int, msgspec.Meta(ge=1)]
    note: _NOTE = ""
    in_force: _NUMBER | None = None
    bands: Bands | None = None


class RollbackBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why the rules before these come in force again, and which draft was in force when that was looked at."""

    note: _NOTE = ""
    in_force: _NUMBER | None = None


class RuleCalls:
    """Has drafts recorded and applied, and shows them."""

    def __init__(self, changes: Changes, lists: ListCalls) -> None:
        self._changes, self._api, self._lists = changes, changes.api, lists
        self._reading = asyncio.Semaphore(_READ_AT_ONCE)
        self._drafted = InMinute(_DRAFTS_A_MINUTE)

    def shown(self) -> dict[str, Any]:
        """What is in force, and how often each rule has held since; without a book the rest is left out."""
        engine, rules = self._api.deciding().ready_engine(), self._changes.rollout.deployment.rules
        if rules is None:
            return {"rules": None}
        counts = engine.rule_counts
        return {"rules": _facts(rules), "decisions": counts.decisions, "hits": counts.hits}

    async def check(self, request: Request) -> dict[str, Any]:
        """Whether a book can be read for what decides. Raises InvalidInput, BadBody, TooLarge."""
        book = (await self._read(request, CheckBody)).book
        return {"fits": await run_in_threadpool(self._check, book), "rules": len(book.rules), "lists": len(book.lists)}

    async def draft(self, request: Request) -> dict[str, Any]:
        """Write a draft down; it is durable then.

        Raises InvalidInput, BadBody, TooLarge, StorageProblem, DeploymentRefused where another edition was quicker,
        RateLimited where one caller writes more than anybody does.
        """
        asked, by = await self._read(request, DraftBody), by_caller(request)
        wait_s = self._drafted.wait_s(by.who, monotonic())
        if wait_s:
            raise RateLimited(
                f"More than {_DRAFTS_A_MINUTE} drafts within a minute, which the log all keeps; go on in {wait_s} s",
                wait_s,
            )
        await run_in_threadpool(self._check, asked.book)
        if (asked.after is None) != (asked.seen is None):
            raise InvalidInput("Expected both of after and seen, or neither", "$.after")
        edited = None if asked.after is None else Edited(asked.after, asked.seen)
        brings = Brings(self._of_champion(asked.thresholds), self._listed(asked, by.who))

        def write(log: Log, now_us: int) -> tuple[Draft, int]:
            return write_draft(log, asked.book, by, asked.note, asked.bands, now_us, edited, brings)

        worker = self._api.deciding()
        done, position = worker.draft_rules(write)
        await run_in_threadpool(wait_until_it_stands, worker.log, worker.log.at(position))
        return {"draft": done.number, **summary(done)}

    def _of_champion(self, asked: DraftThresholds | None) -> OfVersion | None:
        """Thresholds with the version that they are for. Raises InvalidInput where they cannot be."""
        champion = self._changes.rollout.deployment.champion
        if asked is None or champion is None:
            return None
        try:
            given = ThresholdsBody(review=asked.review, block=asked.block, challenge=asked.challenge)
            thresholds = thresholds_asked(self._changes, given)
        except UnknownVersion as error:
            raise InvalidInput(str(error), "$.thresholds") from None
        assert thresholds is not None  # noqa: S101 - a review was given
        return OfVersion(champion, thresholds)

    def _listed(self, asked: DraftBody, author: str) -> tuple[ToldOfList, ...]:
        """What is told of the lists of a book. Raises InvalidInput, TooLarge, NotReady."""
        if sum(map(len, asked.listed.values())) > self._api.settings.max_batch:
            raise TooLarge(f"More than {self._api.settings.max_batch} entries in one draft; write several")
        found = []
        for name, entries in asked.listed.items():
            declared = asked.book.list_of(name)
            if declared is None:
                raise InvalidInput(f"Expected lists of the book, got {quoted(name, 80)}", "$.listed")
            reader = TransactionReader(self._api.deciding().ready_engine().schema, self._api.secrets)
            found.append(ToldOfList(name, tuple(listings(reader, declared.by, entries, author))))
        return tuple(found)

    async def apply(self, request: Request) -> dict[str, Any]:
        """Bring a draft in force. Raises NotFound, DeploymentRefused, InvalidInput, StorageProblem."""
        asked = await read_as(request, ApplyBody)
        draft = await self._from_log(draft_of, asked.draft)
        listed = told_now(draft, clock_us())
        needs_two = self._api.settings.rules_need_two
        return await self._change(
            request,
            lambda log, by: bringing_in(
                log,
                asked.draft,
                by,
                asked.note,
                clock_us(),
                needs_two=needs_two,
                seen=asked.in_force,
                bands=asked.bands,
            ),
            listed,
        )

    async def rollback(self, request: Request) -> dict[str, Any]:
        """Bring the rules before these back. Raises DeploymentRefused, InvalidInput, StorageProblem."""
        asked = await read_as(request, RollbackBody)
        needs_two = self._api.settings.rules_need_two
        return await self._change(
            request,
            lambda log, by: bringing_back(log, by, asked.note, clock_us(), needs_two=needs_two, seen=asked.in_force),
        )

    async def _change(
        self, request: Request, how: Callable[[LogReader, By], Change], listed: Sequence[ToldOfList] = ()
    ) -> dict[str, Any]:
        """Entries of lists come first: cut short in between, the same call does the rest."""
        change = await self._from_log(how, by_caller(request))
        after = change(self._changes.rollout.read())
        assert after.rules is not None  # noqa: S101 - there are some after either change
        await run_in_threadpool(self._check, after.rules.book)
        for told in listed:
            said = {"list": told.list, "entries": len(told.entries)}
            await self._lists.record(request, (told.list, LIST), told.entries, said)
        _, now = await self._changes.make(request, change)
        return {"status": "ok", **_in_force(now)}

    async def _from_log(self, read: Callable[[LogReader, T], U], of: T) -> U:
        """What is read from the log, which may lie far back: a few at a time, and never in the event loop."""
        async with self._reading:
            return await run_in_threadpool(read, self._api.deciding().log, of)

    def drafts(self, request: Request) -> dict[str, Any]:
        """The newest drafts, without their text."""
        most, log = _limit(request), self._api.deciding().log
        return {"drafts": [summary(one) for one in islice(drafts(log), most)]}

    def draft_of(self, number: str) -> Draft:
        """A draft with its text. Raises NotFound, InvalidInput."""
        return draft_of(self._api.deciding().log, whole_number(number, "number"))

    def history(self, request: Request) -> dict[str, Any]:
        """What was in force, the newest first, without its text."""
        most, log = _limit(request), self._api.deciding().log
        return {"applied": [_facts(one, with_book=False) for one in islice(rules_applied(log), most)]}

    def _check(self, book: Book) -> str:
        """The version that decides, once it is known that the book can be read for all that may. Takes its time."""
        lineup = self._api.predictor.lineup
        if lineup is None:
            raise NotReady("No model can answer yet; rules are read for the one that does")
        for one in lineup.contenders:
            try:
                BookHits(book, one.bundle.manifest.plan.schema, one.names)
            except InvalidDefinition as error:
                raise InvalidInput(f"Expected a book that fits {one.version}: {error}", "$.book") from None
        return lineup.champion.version

    async def _read(self, request: Request, kind: type[Any]) -> Any:
        """A body with a book, of which the audit has no text."""
        body = await read_body(request, self._api.settings.max_body_bytes)
        try:
            asked = read_json(msgspec.json.Decoder(kind).decode, body)
            asked.book.check_texts()
        except InvalidDefinition as error:
            raise InvalidInput(f"Expected a book that can be meant: {error}", "$.book") from None
        return asked


def _facts(rules: RulesInForce, *, with_book: bool = True) -> dict[str, Any]:
    fields = msgspec.to_builtins(rules)
    return fields if with_book else {name: one for name, one in fields.items() if name not in ("book", "bands")}


def _in_force(deployment: Deployment) -> dict[str, Any]:
    assert deployment.rules is not None  # noqa: S101 - just applied
    return {"draft": deployment.rules.draft, "revision": deployment.revision}


def _limit(request: Request) -> int:
    most = whole_number(request.query_params.get("limit", "50"), "limit")
    if not 1 <= most <= _MOST_SHOWN:
        raise InvalidInput(f"Expected 1 to {_MOST_SHOWN}, got {most}", "$.limit")
    return most


def add_rules(app: FastAPI, calls: RuleCalls) -> None:
    """The calls under `/v1/rules`."""

    @app.get("/v1/rules", tags=["rules"])
    async def shown() -> Response:
        """The book in force, who applied it and why, and how often each rule has held since then."""
        return ok(calls.shown())

    @app.post("/v1/rules/check", openapi_extra=shown_body(CheckBody), tags=["rules"])
    async def check(request: Request) -> Response:
        """Whether a book can be read for the models that decide: 422 shows the place of what cannot."""
        return ok(await calls.check(request))

    @app.get("/v1/rules/drafts", tags=["rules"])
    def list_drafts(request: Request) -> Response:
        """The newest drafts, without their text; `limit` of them (50, at most 100)."""
        return ok(calls.drafts(request))

    @app.post("/v1/rules/drafts", openapi_extra=shown_body(DraftBody), tags=["rules"])
    async def draft(request: Request) -> Response:
        """Write a book down as a draft, which decides nothing until it is applied."""
        return ok(await calls.draft(request))

    @app.get("/v1/rules/drafts/{number}", tags=["rules"])
    def draft_of(number: str) -> Response:
        """A draft with its text."""
        return ok(calls.draft_of(number))

    @app.post("/v1/rules/apply", openapi_extra=shown_body(ApplyBody), tags=["rules"])
    async def apply(request: Request) -> Response:
        """Bring a draft in force, from the next decision on.

        409 where SENTINEL_RULES_NEED_TWO is set and its author asks.
        """
        return ok(await calls.apply(request))

    @app.post("/v1/rules/rollback", openapi_extra=shown_body(RollbackBody, required=False), tags=["rules"])
    async def rollback(request: Request) -> Response:
        """Bring the book in force again that was before this one; before the first one there were no rules: draft 0."""
        return ok(await calls.rollback(request))

    @app.get("/v1/rules/history", tags=["rules"])
    def history(request: Request) -> Response:
        """What was in force, the newest first: by whom, why, since when, what was demoted; `limit` as for drafts."""
        return ok(calls.history(request))
