"""The receipt of one decision: what was decided, why, from what, by which versions; and what the champion says now."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from sentinel.events.card_numbers import masked
from sentinel.events.times import clock_us
from sentinel.model.bundle import Manifest
from sentinel.record.views.counted import CURRENCY
from sentinel.transport.console.drawing import page, part
from sentinel.transport.console.feature_words import shown_value, with_words
from sentinel.transport.console.pages.logging_in import by_person
from sentinel.transport.console.server import Server, path_of
from sentinel.transport.console.stored import Stored
from sentinel.transport.people.people import People


def receipt_pages(server: Server, stored: Stored, people: People) -> APIRouter:
    """`/decisions/{id}`, and its comparison with now."""
    router = APIRouter()

    @router.get("/again/{transaction_id:path}")
    def again(request: Request, transaction_id: str, then: float = 0.0, by: str = "") -> Response:
        people.note(by_person(request, "ask the champion again", masked(transaction_id)), clock_us())
        now = server.get(path_of("predict", transaction_id)).json
        same = now["fraud_probability"] == then
        return part(request, "receipt_again.html", {"now": now, "then": then, "by": by[:64], "same": same})

    @router.get("/decisions/{transaction_id:path}")
    def receipt(request: Request, transaction_id: str, position: str | None = None) -> Response:
        people.note(by_person(request, "look at a decision", masked(transaction_id)), clock_us())
        query = "" if position is None else "?" + urlencode({"position": position})
        found = server.get(path_of("v1", "decisions", transaction_id) + query).json
        manifest = stored.manifest(found["model_version"])
        schema = manifest.plan.schema
        transaction = found["transaction"] if isinstance(found["transaction"], dict) else {}
        reasons = with_words(found["why"], manifest)
        features = {one.name: one for one in manifest.plan.features}
        values: dict[str, Any] = {
            "one": found, "reasons": reasons, "transaction": transaction, "schema": schema,
            "amount": transaction.get(schema.amount), "digits": stored.amount_digits(schema),
            "keys": [name for name in schema.keys if transaction.get(name) is not None],
            "moved": {one["feature"]: one["contribution"] for one in reasons},
            "features": {
                name: shown_value(features.get(name), value, manifest.plan.vocabulary.get(name, ()))
                for name, value in found["features"].items()
            },
            "created_at": manifest.created_at, "currency": _currency(transaction, manifest),
        }  # fmt: skip
        return page(request, "receipt.html", values)

    return router


def _currency(transaction: Mapping[str, Any], manifest: Manifest) -> str | None:
    """What the transaction says itself, else what the detector declares."""
    said = transaction.get(CURRENCY)
    return said if isinstance(said, str) and said else manifest.currency
