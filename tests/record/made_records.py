"""Records of the log from a few words: decisions of a shop with the keys `card` and `shop`, and outcomes about them."""

import json

import numpy as np

from sentinel.events.columns import OPERATOR, hash_texts
from sentinel.events.schema import Schema
from sentinel.policy.thresholds import ACTIONS
from sentinel.record.entries import (
    Decided,
    Decider,
    Outcomes,
    Revocation,
    Revoked,
    Standing,
    body_of,
    schema_id,
)
from sentinel.record.log import Kind, Record
from sentinel.record.results import Results

SCHEMA = Schema(keys=("card", "shop"), optional=("card", "shop"))
SCHEMAS = {schema_id(SCHEMA): SCHEMA}
_DEFAULTS = {
    "card": "c1", "shop": "s1", "amount": 5.25, "action": "approve", "score": 0.5, "version": "v1",
    "degraded": None, "variant": None, "experiment": None, "late": False,
}  # fmt: skip


_BEGINS = {"approve": "approved", "challenge": "challenged", "review": "in_review", "block": "declined"}


def results_record(position: int, told: list[dict], received_us: int = 1) -> Record:
    """A record of results: each is `about` a position, with the `id` there, and has a `result` and a `state`."""
    ids = [one["id"] for one in told]
    body = body_of(
        Results(
            ids=ids, hashes=hash_texts(ids).tobytes(), about=np.array([one["about"] for one in told], "<i8").tobytes(),
            results=[one["result"] for one in told], states=[one["state"] for one in told],
            told_by=[one.get("told_by", "key") for one in told], reasons=[""] * len(told),
        )
    )  # fmt: skip
    return Record(position, Kind.RESULTS, len(told), received_us, body, b"chain")


def decided(rows: list[dict], schema: str = schema_id(SCHEMA)) -> bytes:
    """The body of a batch; each row has an `id`, and of `_DEFAULTS` what is different. The amount is its one feature."""
    rows = [_DEFAULTS | row for row in rows]
    whose = [tuple(row[name] for name in ("version", "degraded", "variant", "experiment")) for row in rows]
    who = sorted(set(whose), key=repr)
    deciders = tuple(Decider(version, "state", 1, 0.6, 0.9, "closed", *rest) for version, *rest in who)
    ids = [row["id"] for row in rows]
    return body_of(
        Decided(
            schema_id=schema, revision=1, detector="shop", deciders=deciders,
            by=bytes(map(who.index, whose)),
            ids=ids, hashes=hash_texts(ids).tobytes(),
            contents=[content(row) for row in rows],
            features=tuple(
                np.array([row["amount"] for row, one in zip(rows, whose, strict=True) if one == each]).tobytes()
                for each in who
            ),
            scores=np.array([row["score"] for row in rows]).tobytes(),
            levels=bytes(list(map(str, ACTIONS)).index(row["action"]) for row in rows),
            late=bytes(row["late"] for row in rows),
            latencies_us=np.full(len(rows), 7, "<u4").tobytes(),
        )
    )  # fmt: skip


def content(row: dict) -> bytes:
    given = {"transaction_id": row["id"], "event_time": 1750000000, "amount": row["amount"]}
    given |= {name: row[name] for name in ("card", "shop") if row[name] is not None}
    given |= {name: row[name] for name in ("event_time", "latitude", "longitude") if name in row}
    return json.dumps(given).encode()


def outcomes(rows: list[dict]) -> bytes:
    """The body of some outcomes; each row has `id`, `is_fraud` and `about`, and `told_by` if it was told with a key."""
    ids = [row["id"] for row in rows]
    keys = [row.get("told_by", OPERATOR) for row in rows]
    return body_of(
        Outcomes(
            ids=ids, hashes=hash_texts(ids).tobytes(), is_fraud=bytes(row["is_fraud"] for row in rows),
            times_us=np.full(len(rows), 9, "<i8").tobytes(),
            about=np.array([row["about"] for row in rows], "<i8").tobytes(),
            **({} if set(keys) == {OPERATOR} else {"sources": keys, "told_by": keys, "reasons": [""] * len(keys)}),
        )
    )  # fmt: skip


def revoked(rows: list[dict], told_by: str, before: int, span: tuple[int, int] = (0, 2**62)) -> bytes:
    """The body of a revocation; each row has `id` and `about`, and in `left` what the operator says of it, if anything."""
    ids = [row["id"] for row in rows]
    return body_of(
        Revoked(
            revocation=Revocation(told_by, "stolen", *span, before), ids=ids, hashes=hash_texts(ids).tobytes(),
            about=np.array([row["about"] for row in rows], "<i8").tobytes(), sources=[(told_by,)] * len(rows),
            standing=[(Standing(OPERATOR, row["left"], 9),) if "left" in row else () for row in rows],
        )
    )  # fmt: skip


def decided_record(position: int, rows: list[dict], received_us: int = 1, **given: str) -> Record:
    return Record(position, Kind.DECIDED, len(rows), received_us, decided(rows, **given), b"chain")


def outcomes_record(position: int, rows: list[dict], received_us: int = 1) -> Record:
    return Record(position, Kind.OUTCOMES, len(rows), received_us, outcomes(rows), b"chain")


def revoked_record(position: int, rows: list[dict], told_by: str, **given) -> Record:
    body = revoked(rows, told_by, **{"before": position, **given})
    return Record(position, Kind.REVOKED, len(rows), 1, body, b"chain")


def listed(row: dict) -> dict:
    """What a list shows of a decision, apart from its position and its time."""
    row = _DEFAULTS | row
    return {
        "transaction_id": row["id"], "amount": row["amount"], "decision": row["action"],
        "fraud_probability": row["score"], "model_version": row["version"], "degraded": row["degraded"],
        "keys": {name: row[name] for name in ("card", "shop") if row[name] is not None}, "late": row["late"],
        "variant": row["variant"], "state": _BEGINS[row["action"]],
    }  # fmt: skip
