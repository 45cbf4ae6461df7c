"""`GET /v1/entities`: what a key was part of, where and when, which keys stand beside it, and who shares those."""

from collections.abc import Mapping
from contextlib import closing
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool

from sentinel.errors import InvalidInput, NotFound
from sentinel.events.card_numbers import quoted
from sentinel.events.reader import TransactionReader
from sentinel.events.schema import Schema
from sentinel.events.secrets import Secrets
from sentinel.events.times import clock_us, iso
from sentinel.record.audit import By, Change
from sentinel.record.views import ListedDecision
from sentinel.record.views.place import ViewPlace
from sentinel.review.surroundings import ROWS, Asked, Linked, Neighbour, Surroundings, surroundings
from sentinel.review.whereabouts import Journey
from sentinel.serve.worker import Worker
from sentinel.transport.http.admin.changes import by_caller
from sentinel.transport.http.lookups import listed_row, time_asked
from sentinel.transport.http.queries import whole_number
from sentinel.transport.http.replies import Reply, response_of

_NAMED = ("from", "to", "limit")
_encode = msgspec.json.Encoder().encode


class EntityLookups:
    """Reads the view; may be called from any thread, and may wait for a disk."""

    def __init__(self, worker: Worker, secrets: Secrets, view: ViewPlace) -> None:
        self._worker, self._secrets, self._view = worker, secrets, view

    def asked(self, key: str, value: str, query: Mapping[str, str]) -> Asked:
        """What is asked for. Raises NotFound for no key of the schema, InvalidInput, NotReady."""
        return asked_of(key, value, query, self._worker.ready_engine().schema, self._secrets)

    def note(self, asked: Asked, by: By) -> None:
        """Have the look in the audit, from the event loop: nothing is shown without that. Raises StorageProblem."""
        said = {"key": asked.key, "value": asked.texts[0]}
        self._worker.note(Change.of(by, {}, said, clock_us()))

    def entity(self, asked: Asked) -> Reply:
        """What is around a key. Raises NotReady, StorageProblem."""
        with closing(self._view.open()) as view:
            found = surroundings(view, asked, self._worker.ready_engine().schema)
        return Reply(200, _encode(_shown(found)))


def asked_of(key: str, value: str, query: Mapping[str, str], schema: Schema, secrets: Secrets) -> Asked:
    """What an address asks for. Raises NotFound for no key of the schema, InvalidInput."""
    if key not in schema.keys:
        raise NotFound(f"{quoted(key, 200)} is no key of the schema; there are {', '.join(schema.keys) or 'none'}")
    unknown = [name for name in query if name not in _NAMED]
    if unknown:
        raise InvalidInput(f"Expected {', '.join(_NAMED)}, got {quoted(unknown[0], 200)}", "$")
    return Asked(
        key=key,
        texts=tuple(TransactionReader(schema, secrets).texts(key, value)),
        from_us=time_asked(query, "from"),
        to_us=time_asked(query, "to"),
        limit=whole_number(query.get("limit", str(ROWS)), "limit"),
    )


def add_entities(app: FastAPI, lookups: EntityLookups) -> None:
    """The call `/v1/entities/{key}/{value}`."""

    @app.get("/v1/entities/{key}/{value:any_text}", tags=["decisions"])
    async def entity(request: Request, key: str, value: str) -> Response:
        """What a key of the schema was part of, which other keys stand beside it there, and who shares those with it.

        `decisions` are its newest (`limit`, 200, at most 500), each with `happened_at`, `place` in degrees and
        `is_fraud` (null while not known). `journeys` lie between two of these that are far from each other and have
        the same first key. `linked` are the keys beside it, the most telling first; `neighbours` are other values of
        the same key over linked ones that few share. `from` and `to`, when it was decided, bound all of it. What the
        view lacks is not in it. Each look is in the audit.
        """
        asked = lookups.asked(key, value, dict(request.query_params))
        by = by_caller(request)
        lookups.note(asked, By(by.who, by.where, "GET /v1/entities", ""))  # as it was typed the value may be secret
        return response_of(await run_in_threadpool(lookups.entity, asked))


def _shown(found: Surroundings) -> dict[str, Any]:
    ids = {one.position: one.transaction_id for one in found.page.rows}
    return {
        "key": found.key,
        "values": found.values,
        "tally": found.tally,
        "decisions": [_decision(one, found) for one in found.page.rows],
        "next": found.page.next,
        "journeys": [_journey(one, ids) for one in found.journeys],
        "linked": [_linked(one) for one in found.linked],
        "linked_left_out": found.linked_left_out,
        "neighbours": [_neighbour(one) for one in found.neighbours],
        "neighbours_left_out": found.neighbours_left_out,
        "position": found.page.position,
    }


def _decision(one: ListedDecision, found: Surroundings) -> dict[str, Any]:
    moment = found.moments[one.position]
    more = {"happened_at": iso(moment.at_us), "place": moment.place, "is_fraud": found.frauds.get(one.position)}
    return listed_row(one) | more


def _journey(one: Journey, ids: Mapping[int, str]) -> dict[str, Any]:
    """A journey; `kmh` is null where both ends happened at once."""
    return {
        "from": ids[one.begin.position], "to": ids[one.end.position], "km": round(one.km, 1), "kmh": one.kmh,
        "impossible": one.is_impossible,
    }  # fmt: skip


def _linked(one: Linked) -> dict[str, Any]:
    return {
        "key": one.key, "value": one.value, "together": one.together, "tally": one.tally, "has_more": one.has_more,
        "shared_by": len(one.shared_by), "tells": one.tells, "first": iso(one.first_us), "last": iso(one.last_us),
    }  # fmt: skip


def _neighbour(one: Neighbour) -> dict[str, Any]:
    over = [{"key": key, "value": value} for key, value in one.over]
    return {"value": one.value, "over": over, "tally": one.tally}
