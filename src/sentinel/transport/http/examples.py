"""Examples: a transaction of a detector that can be sent as it stands, and what is answered to it."""

import math
import shlex
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from sentinel.config import Settings
from sentinel.events.schema import Schema
from sentinel.events.times import SECOND_US, iso
from sentinel.events.wire import EVENT_ID, KIND, MAX_ID, MAX_TEXT
from sentinel.model.bundle import Manifest
from sentinel.model.reference import ColumnReference
from sentinel.serve.batch import Decision
from sentinel.serve.lineup import Contender
from sentinel.transport.http.addresses import address_below

_NUMBER = 12.5
_PLACE = (40.4168, -3.7038)
_A_YEAR_US = 365 * 86_400 * SECOND_US
_EVERYWHERE = ("//0.0.0.0:", "//[::]:")


class Example(NamedTuple):
    """What the description shows of one detector; all of it is plain JSON, `curl` and the like a line for a shell.

    The outcome is that of the transaction; there is no event where the detector declares none.
    """

    shape: dict[str, Any]
    transaction: dict[str, Any]
    answer: dict[str, Any]
    vector: dict[str, Any]
    outcome: dict[str, Any]
    event: dict[str, Any] | None
    curl: str
    outcome_curl: str
    event_curl: str | None


def example_of(champion: Contender, settings: Settings, prefix: str, now_us: int) -> Example:
    """The example of a detector whose addresses begin with `prefix`, at that moment: each second has another id."""
    manifest = champion.bundle.manifest
    schema, transaction = manifest.plan.schema, transaction_of(manifest, now_us)
    vector = {"features": {one.name: _usual(one) for one in champion.bundle.reference.features}}
    outcome = {"transaction_id": transaction[schema.id], "is_fraud": True, "reason": "the cardholder disputes it"}
    event = event_of(schema, transaction)

    def curl(path: str, body: dict[str, Any]) -> str:
        return _curl(settings, address_below(prefix, path), body)

    return Example(
        shape=shape_of(schema),
        transaction=transaction,
        answer=_answer_of(champion, transaction[schema.id]),
        vector=vector,
        outcome=outcome,
        event=event,
        curl=curl("/v1/score", transaction),
        outcome_curl=curl("/v1/outcomes", outcome),
        event_curl=None if event is None else curl("/v1/events", event),
    )


def event_of(schema: Schema, transaction: dict[str, Any]) -> dict[str, Any] | None:
    """A context event of the first kind that is declared, of the subjects of that transaction; None without kinds."""
    for kind, carried in schema.events.items():
        named = {KIND: kind, EVENT_ID: f"{kind}-{transaction[schema.id]}", schema.time: transaction[schema.time]}
        return named | {name: transaction[name] for name in carried}
    return None


def shape_of(schema: Schema) -> dict[str, Any]:
    """The JSON schema of what a caller sends."""
    fields = _sent(schema)
    shown: dict[str, Any] = {
        schema.id: {"type": ["string", "integer"], "maxLength": MAX_ID},
        schema.time: {"type": ["string", "number"], "description": "ISO 8601, or a Unix number"},
    }
    for name in (*schema.decimals, *schema.numbers):
        limits = schema.limits(name)
        shown[name] = {"type": "number"} | ({"minimum": limits[0], "maximum": limits[1]} if limits else {})
    instant = shown[schema.time]
    shown |= {name: dict(instant) for name in schema.times}
    for name in schema.keys + schema.categories:
        kinds = ["string", "integer"] if name in schema.keys else ["string", "integer", "boolean"]
        shown[name] = {"type": kinds, "maxLength": MAX_TEXT}
    for name in set(fields).intersection(schema.may_lack):
        shown[name]["type"] = [*_listed(shown[name]["type"]), "null"]
    required = [name for name in fields if name not in schema.may_lack]
    return {"type": "object", "properties": shown, "required": required, "additionalProperties": False}


def transaction_of(manifest: Manifest, now_us: int) -> dict[str, Any]:
    """A transaction with every field; its keys are nobody's."""
    plan = manifest.plan
    schema, second_us = plan.schema, now_us - now_us % SECOND_US
    moment = datetime.fromtimestamp(second_us / SECOND_US, UTC)
    found: dict[str, Any] = {schema.id: f"example-{moment:%m-%d-%H-%M-%S}", schema.time: iso(second_us)}
    for name in (*schema.decimals, *schema.numbers):
        found[name] = _number(schema, name)
    found |= {name: iso(second_us - _A_YEAR_US) for name in schema.times}
    for name in schema.keys + schema.categories:
        found[name] = (plan.vocabulary.get(name) or (f"example-{name}",))[0]
    return found


def _sent(schema: Schema) -> list[str]:
    return [name for name in schema.fields if name not in schema.taken]


def _listed(kinds: Any) -> list[str]:
    return kinds if isinstance(kinds, list) else [kinds]


def _number(schema: Schema, name: str) -> float:
    """A number that is accepted, with no more decimals than it may have."""
    usual = _NUMBER if schema.place is None or name not in schema.place else _PLACE[schema.place.index(name)]
    least, most = schema.limits(name) or (-math.inf, math.inf)
    within = min(max(usual, least), most)
    digits = schema.decimals.get(name)
    if digits is None:
        return within
    scale: int = 10**digits
    whole = math.ceil(within * scale) if math.ceil(within * scale) <= most * scale else math.floor(within * scale)
    return whole / scale


def _usual(column: ColumnReference) -> float | None:
    """What a feature usually is, shortly written; None where it has no numbers."""
    if column.moments is not None:
        return float(f"{column.moments.mean:.4g}")
    return column.edges[0] if column.edges else None


def _answer_of(champion: Contender, transaction_id: str) -> dict[str, Any]:
    manifest, thresholds = champion.bundle.manifest, champion.thresholds
    answer = Decision(
        transaction_id=transaction_id, decision="approve", fraud_probability=float(f"{thresholds.review / 4:.4g}"),
        threshold=thresholds.review, thresholds=thresholds, model_version=manifest.version, detector=manifest.detector,
        features_state="fresh", batch_size=1, latency_us=1234, replayed=False, degraded=None,
        circuit_breaker_state="closed", variant=None, decided_by="model",
    )  # fmt: skip
    shown: dict[str, Any] = msgspec.to_builtins(answer)
    return shown


def _curl(settings: Settings, path: str, content: dict[str, Any]) -> str:
    url = settings.url
    for everywhere in _EVERYWHERE:
        url = url.replace(everywhere, "//localhost:")
    key = ' -H "authorization: Bearer $SENTINEL_KEY"' if settings.needs_keys else ""
    body = shlex.quote(msgspec.json.encode(content).decode())
    return f"curl {url}{path} -H 'content-type: application/json'{key} -d {body}"
