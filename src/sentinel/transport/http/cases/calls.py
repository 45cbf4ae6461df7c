"""The calls below `/v1/cases`, as what they do."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from sentinel.errors import NotFound, SentinelError
from sentinel.events.card_numbers import masked, quoted
from sentinel.events.columns import hash_texts
from sentinel.events.times import clock_us
from sentinel.policy.results import Result
from sentinel.record.audit import Change
from sentinel.record.concluding import Telling
from sentinel.record.written.written_database import OpenedLate
from sentinel.review.case_store.asking import BY_HAND, Asking
from sentinel.review.case_store.case import Case, Payment, case_of, events_of, payments_of, teller_of
from sentinel.review.case_store.desk import Desk
from sentinel.review.case_store.figures import figures
from sentinel.review.case_store.queue import page_of
from sentinel.review.case_store.similar import MOST_SIMILAR, similar_to
from sentinel.review.case_store.telling import Begun
from sentinel.review.case_store.watching import asking
from sentinel.review.cases.deadlines import read_deadlines
from sentinel.review.cases.moves import Analyst, Outcome
from sentinel.transport.http.api import Api
from sentinel.transport.http.cases.asked import asked_filters, period_us
from sentinel.transport.http.cases.bodies import (
    ActBody,
    DecideBody,
    EscalateBody,
    ForBody,
    HandOverBody,
    LinkBody,
    NoteBody,
    OpenBody,
    ReasonBody,
    by_analyst,
    read_act,
    role_named,
    who_acts,
)
from sentinel.transport.http.cases.outcomes import take_back, tell_payments
from sentinel.transport.http.cases.reviews import conclude_reviews
from sentinel.transport.http.cases.shown import shown_case, shown_figures, shown_page, shown_whole
from sentinel.transport.http.cases.turns import CaseTurns
from sentinel.transport.http.lookups import Lookups
from sentinel.transport.http.queries import whole_number

_IS_FRAUD = {Outcome.FRAUD: True, Outcome.LEGITIMATE: False}
_COMES_TO = {True: Result.REVIEW_DECLINED, False: Result.REVIEW_APPROVED}


class CaseCalls:
    """Shows cases, and does what people do with them: one act at a time on each, so that outcomes and cases agree.

    Acts raise BadBody, InvalidInput, NotFound, Conflict, Forbidden, StorageProblem, and Overloaded where too many are
    not done yet.
    """

    def __init__(self, api: Api, lookups: Lookups) -> None:
        self._api, self._lookups = api, lookups
        self._deadlines = read_deadlines(api.settings.case_deadlines)
        self._written = OpenedLate(api.settings.home, api.settings.database_url)
        self._turns = CaseTurns()

    def queue(self, request: Request) -> dict[str, Any]:
        """A page of cases."""
        asked = dict(request.query_params)
        limit, cursor = whole_number(asked.pop("limit", "50"), "limit"), asked.pop("cursor", None)
        filters = asked_filters(asked, self._api)
        with self._written.get().reading() as reader:
            return shown_page(page_of(reader, filters, clock_us(), limit, cursor))

    def figures(self, request: Request) -> dict[str, Any]:
        """The figures of the work in so many `days`."""
        asked = period_us(request.query_params)
        with self._written.get().reading() as reader:
            return shown_figures(figures(reader, clock_us(), asked))

    def one(self, number: str) -> dict[str, Any]:
        """A case with its payments, its history, and decided ones that are like it."""
        named = whole_number(number, "number")
        with self._written.get().reading() as reader:
            case = case_of(reader, named)
            found = payments_of(reader, named), events_of(reader, named), similar_to(reader, named, MOST_SIMILAR)
            return shown_whole(case, *found, clock_us())

    async def open(self, request: Request) -> dict[str, Any]:
        """Open a case about a decision by hand."""
        asked: OpenBody = await read_act(request, OpenBody)
        who = who_acts(request, asked)
        why = masked(f"{BY_HAND}: {asked.reason}" if asked.reason else BY_HAND)
        one = await run_in_threadpool(self._asking, asked.transaction_id, why)
        async with self._turns.any():
            after = await run_in_threadpool(lambda: self._desk().open(one, who, clock_us()))
        return self._audited(request, who, None, after)

    async def next(self, request: Request) -> dict[str, Any]:
        """Take the most urgent case. Raises NotFound where none waits for who asks."""
        who = who_acts(request, await read_act(request, ForBody))

        def take(desk: Desk) -> Case:
            found = desk.take_next(who, clock_us())
            if found is None:
                raise NotFound("No case waits for you: all are in hand, done, or wait for another role")
            return found

        async with self._turns.any():
            after = await run_in_threadpool(lambda: take(self._desk()))
            await self._wait_for(after, who)
        return self._audited(request, who, None, after)

    async def take(self, request: Request, number: str) -> dict[str, Any]:
        """Have a case that waits."""
        named, asked, who = await self._read(request, number, ActBody)
        return await self._taken(request, named, who, lambda desk: desk.take(named, asked.version, who, clock_us()))

    async def release(self, request: Request, number: str) -> dict[str, Any]:
        """Put a case back."""
        named, asked, who = await self._read(request, number, ActBody)
        return await self._act(request, named, who, lambda desk: desk.release(named, asked.version, who, clock_us()))

    async def hand_over(self, request: Request, number: str) -> dict[str, Any]:
        """Give a case to another person."""
        named, asked, who = await self._read(request, number, HandOverBody)
        to = masked(asked.to)
        return await self._taken(
            request, named, who, lambda desk: desk.hand_over(named, asked.version, to, who, clock_us())
        )

    async def escalate(self, request: Request, number: str) -> dict[str, Any]:
        """Have a case wait for a role."""
        named, asked, who = await self._read(request, number, EscalateBody)
        role = role_named(asked.to)
        return await self._act(
            request, named, who, lambda desk: desk.escalate(named, asked.version, role, asked.reason, who, clock_us())
        )

    async def note(self, request: Request, number: str) -> dict[str, Any]:
        """Write something down about a case."""
        named, asked, who = await self._read(request, number, NoteBody)
        return await self._act(
            request, named, who, lambda desk: desk.note(named, asked.text, who, clock_us(), asked.version)
        )

    async def link(self, request: Request, number: str) -> dict[str, Any]:
        """Attach an address to a case."""
        named, asked, who = await self._read(request, number, LinkBody)
        return await self._act(
            request,
            named,
            who,
            lambda desk: desk.link(named, asked.address, asked.title, who, clock_us(), asked.version),
        )

    async def close(self, request: Request, number: str) -> dict[str, Any]:
        """End a case without a word about its payments."""
        named, asked, who = await self._read(request, number, ReasonBody)
        return await self._act(
            request, named, who, lambda desk: desk.close(named, asked.version, asked.reason, who, clock_us())
        )

    async def decide(self, request: Request, number: str) -> dict[str, Any]:
        """Tell what the payments of a case were; once that is durable, the case is decided."""
        named, asked, who = await self._read(request, number, DecideBody)
        is_fraud = _IS_FRAUD.get(asked.outcome)
        async with self._turns.on(named):
            begun = await run_in_threadpool(lambda: self._desk().to_decide(named, asked.version, who, clock_us()))
            told = {} if is_fraud is None else {one.position: is_fraud for one in begun.payments}
            async with self._giving_up(begun):
                if is_fraud is not None:
                    await tell_payments(self._api, named, begun.payments, is_fraud=is_fraud, who=who.name)
                    await self._conclude(named, begun.payments, _COMES_TO[is_fraud], who)
                after = await run_in_threadpool(self._desk().decide, begun, asked.outcome, told, who, clock_us())
        return self._audited(request, who, begun.case, after)

    async def reopen(self, request: Request, number: str) -> dict[str, Any]:
        """Take back what a case said of its payments; once that is durable, the case is work again."""
        named, asked, who = await self._read(request, number, ReasonBody)
        async with self._turns.on(named):
            begun = await run_in_threadpool(lambda: self._desk().to_reopen(named, asked.version, who, clock_us()))
            async with self._giving_up(begun):
                if begun.case.outcome in _IS_FRAUD:
                    await take_back(self._api, begun.case, f"case {named} is reopened", by_analyst(request, who))
                after = await run_in_threadpool(self._desk().reopen, begun, asked.reason, who, clock_us())
        return self._audited(request, who, begun.case, after)

    @asynccontextmanager
    async def _giving_up(self, begun: Begun) -> AsyncIterator[None]:
        """Have others act on a case again where this does not come to its end."""
        try:
            yield
        except BaseException:
            with suppress(SentinelError):  # then it is held for a minute
                await run_in_threadpool(self._desk().give_up, begun)
            raise

    async def _read(self, request: Request, number: str, kind: type[Any]) -> tuple[int, Any, Analyst]:
        named, asked = whole_number(number, "number"), await read_act(request, kind)
        return named, asked, who_acts(request, asked)

    async def _taken(
        self, request: Request, number: int, who: Analyst, take: Callable[[Desk], Case]
    ) -> dict[str, Any]:  # fmt: skip
        """Have somebody have a case."""
        async with self._turns.on(number):
            after = await run_in_threadpool(lambda: take(self._desk()))
            await self._wait_for(after, who)
        return self._audited(request, who, None, after)

    async def _wait_for(self, case: Case, who: Analyst) -> None:
        """What is to be reviewed in a case is looked at from now on, and waits for whoever has it."""
        payments = await run_in_threadpool(self._payments, case.number)
        await self._conclude(case.number, payments, Result.REVIEW_TAKEN, who)

    def _payments(self, number: int) -> list[Payment]:
        with self._written.get().reading() as reader:
            return payments_of(reader, number, None)

    async def _conclude(self, number: int, payments: Sequence[Payment], result: Result, who: Analyst) -> None:
        telling = Telling(result, teller_of(number), f"case {number}, {who.name}")
        await conclude_reviews(self._api.deciding(), self._lookups, payments, telling, self._turns.result)

    async def _act(
        self, request: Request, number: int, who: Analyst, act: Callable[[Desk], Case]
    ) -> dict[str, Any]:  # fmt: skip
        async with self._turns.on(number):
            after = await run_in_threadpool(lambda: act(self._desk()))
        return self._audited(request, who, None, after)

    def _audited(self, request: Request, who: Analyst, before: Case | None, after: Case) -> dict[str, Any]:
        was = {} if before is None else {"case": before.number, "state": before.state}
        is_now = {"case": after.number, "state": after.state, "version": after.version, "outcome": after.outcome}
        now_us = clock_us()
        self._api.deciding().note(Change.of(by_analyst(request, who), was, is_now, now_us))
        return shown_case(after, now_us)

    def _asking(self, transaction_id: str, why: str) -> Asking:
        engine = self._api.deciding().ready_engine()
        names = self._api.reader(engine).texts(engine.schema.id, transaction_id)
        found = engine.journal.find(names, hash_texts(names))
        row = next((found[name] for name in names if name in found), None)
        if row is None or row.position >= engine.journal.log.durable:
            raise NotFound(
                f"No decision is stored for transaction {quoted(transaction_id, 200)}, or no longer remembered"
            )
        return asking(row, why, engine.schema, self._api.settings.cases_by)

    def _desk(self) -> Desk:
        return Desk(self._written.get(), self._deadlines)
