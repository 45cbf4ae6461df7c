"""The routes below `/v1/cases`."""

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool

from sentinel.transport.http.bodies import shown_body
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
)
from sentinel.transport.http.cases.calls import CaseCalls
from sentinel.transport.http.replies import ok


def add_cases(app: FastAPI, calls: CaseCalls) -> None:
    """The calls under `/v1/cases`."""
    _add_looks(app, calls)
    _add_acts(app, calls)
    _add_ends(app, calls)


def _add_looks(app: FastAPI, calls: CaseCalls) -> None:
    @app.get("/v1/cases", tags=["cases"])
    async def queue(request: Request) -> Response:
        """Cases: what is work by urgency, what is `done` by when. Filters are `state`, `holder`, `priority`, `overdue`.

        And `transaction_id`, or a key of the schema by its name. Pages follow each other with `cursor`.
        """
        return ok(await run_in_threadpool(calls.queue, request))

    @app.post("/v1/cases", openapi_extra=shown_body(OpenBody), tags=["cases"])
    async def open_case(request: Request) -> Response:
        """Open a case about a stored decision, or add it to the one of its key; 409 where it is in one already."""
        return ok(await calls.open(request))

    @app.post("/v1/cases/next", openapi_extra=shown_body(ForBody, required=False), tags=["cases"])
    async def take_next(request: Request) -> Response:
        """Take the most urgent case that waits; 404 where none does."""
        return ok(await calls.next(request))

    @app.get("/v1/cases/figures", tags=["cases"])
    async def figures(request: Request) -> Response:
        """How much waits and how old it is, and what was done in the last `days`, by whom and how quickly."""
        return ok(await run_in_threadpool(calls.figures, request))

    @app.get("/v1/cases/{number}", tags=["cases"])
    async def one(number: str) -> Response:
        """A case with its transactions, its history, and decided cases that are like it."""
        return ok(await run_in_threadpool(calls.one, number))


def _add_acts(app: FastAPI, calls: CaseCalls) -> None:
    @app.post("/v1/cases/{number}/take", openapi_extra=shown_body(ActBody), tags=["cases"])
    async def take(request: Request, number: str) -> Response:
        """Have a case that nobody has; 409 says who was quicker."""
        return ok(await calls.take(request, number))

    @app.post("/v1/cases/{number}/release", openapi_extra=shown_body(ActBody), tags=["cases"])
    async def release(request: Request, number: str) -> Response:
        """Put a case back into the queue."""
        return ok(await calls.release(request, number))

    @app.post("/v1/cases/{number}/hand-over", openapi_extra=shown_body(HandOverBody), tags=["cases"])
    async def hand_over(request: Request, number: str) -> Response:
        """Give a case to another person."""
        return ok(await calls.hand_over(request, number))

    @app.post("/v1/cases/{number}/escalate", openapi_extra=shown_body(EscalateBody), tags=["cases"])
    async def escalate(request: Request, number: str) -> Response:
        """Have a case wait for somebody with a role."""
        return ok(await calls.escalate(request, number))

    @app.post("/v1/cases/{number}/notes", openapi_extra=shown_body(NoteBody), tags=["cases"])
    async def note(request: Request, number: str) -> Response:
        """Write something down about a case: up to 10,000 characters, without card numbers, for good."""
        return ok(await calls.note(request, number))

    @app.post("/v1/cases/{number}/links", openapi_extra=shown_body(LinkBody), tags=["cases"])
    async def link(request: Request, number: str) -> Response:
        """Attach an address to a case, `https://` or `http://`; what is there is not looked at."""
        return ok(await calls.link(request, number))


def _add_ends(app: FastAPI, calls: CaseCalls) -> None:
    @app.post("/v1/cases/{number}/decide", openapi_extra=shown_body(DecideBody), tags=["cases"])
    async def decide(request: Request, number: str) -> Response:
        """Say what the payments of a case were: `fraud`, `legitimate`, or `undecided`, of which nothing is told.

        The outcomes are durable before the case is decided; the same again tells nothing twice.
        """
        return ok(await calls.decide(request, number))

    @app.post("/v1/cases/{number}/close", openapi_extra=shown_body(ReasonBody), tags=["cases"])
    async def close(request: Request, number: str) -> Response:
        """End a case without a word about its payments."""
        return ok(await calls.close(request, number))

    @app.post("/v1/cases/{number}/reopen", openapi_extra=shown_body(ReasonBody), tags=["cases"])
    async def reopen(request: Request, number: str) -> Response:
        """Have a decided or closed case be work again; the outcomes that it told are taken back before."""
        return ok(await calls.reopen(request, number))
