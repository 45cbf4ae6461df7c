"""Try it: a transaction of the detector's schema, filled in or written as JSON, sent to the server as any other."""

import json
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Form, Request, Response

from sentinel.errors import NotReady
from sentinel.events.card_numbers import masked
from sentinel.events.times import clock_us
from sentinel.events.wire import read_json
from sentinel.transport.console.drawing import page, part
from sentinel.transport.console.pages.logging_in import by_person
from sentinel.transport.console.server import Server
from sentinel.transport.console.stored import Stored
from sentinel.transport.http.addresses import address_below
from sentinel.transport.people.people import People

_MOST = 65_536
_object = msgspec.json.Decoder(dict[str, Any]).decode


def try_pages(server: Server, stored: Stored, people: People, prefix: str) -> APIRouter:
    """`/try`, and what is sent from there."""
    router = APIRouter()

    @router.get("/try")
    def form(request: Request) -> Response:
        shape, example = described(server.get("/openapi.json").json, prefix)
        fields = [_field(name, kind, shape, example.get(name)) for name, kind in shape["properties"].items()]
        text = json.dumps(example, indent=2, ensure_ascii=False)
        return page(
            request, "try_it.html", {"fields": fields, "text": text, "id_field": next(iter(shape["properties"]))}
        )

    @router.post("/try/send")
    def send(request: Request, transaction: Annotated[str, Form(max_length=_MOST)] = "") -> Response:
        content = read_json(_object, transaction.encode())
        asked = content.get(stored.champion().plan.schema.id, "")
        people.note(by_person(request, "try a transaction", masked(str(asked))[:200]), clock_us())
        answer = server.post("/v1/score", transaction.encode())
        shown = json.dumps(answer.json, indent=2)
        return part(request, "try_answer.html", {"answer": answer.json, "took_ms": answer.took_ms, "text": shown})

    return router


def described(description: dict[str, Any], prefix: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The shape of a transaction and an example, as the server describes them. Raises NotReady while none decides."""
    shape = description["components"]["schemas"].get("Transaction")
    if shape is None:
        raise NotReady("No model decides yet, so nobody knows what a transaction looks like; train one")
    call = description["paths"][address_below(prefix, "/v1/score")]["post"]
    return shape, call["requestBody"]["content"]["application/json"]["example"]


def _field(name: str, kind: dict[str, Any], shape: dict[str, Any], example: Any) -> dict[str, Any]:
    kinds = kind["type"] if isinstance(kind["type"], list) else [kind["type"]]
    is_number = "number" in kinds and "string" not in kinds
    limits = f"{kind['minimum']:g} to {kind['maximum']:g}" if "minimum" in kind else ""
    return {
        "name": name, "is_number": is_number, "is_needed": name in shape.get("required", ()), "limits": limits,
        "value": "" if example is None else str(example),
    }  # fmt: skip
