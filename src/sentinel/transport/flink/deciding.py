"""The end of the way: features become a score, an action, and the entry that is written to the topic `decisions`."""

from typing import Any

import msgspec
import numpy as np

from sentinel.events.times import iso
from sentinel.features.event_cells import EventCells
from sentinel.features.store import MemoryStore
from sentinel.model.bundle import Bundle
from sentinel.policy.thresholds import ACTIONS, Thresholds
from sentinel.serve.batch import Given
from sentinel.transport.flink.reading import Travelling, decode_given


class Exact(msgspec.Struct, frozen=True):
    """What the exact features call for, where a front has decided by others."""

    decision: str
    fraud_probability: float


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A decision in the topic `decisions`: what `sentinel consume` writes of one, and what a replay needs.

    `sequence` says by the names of the keys which event of its key it was (0: it has no such key), so whoever takes
    the events of each key in that order gets the same features to the last bit. `features` are in the model's order,
    null where missing; `transaction` is as it was read, secrets hidden.

    Where a front has answered before, `decision` and all that led to it are what it gave, `given_features` among them,
    and `exact` is what the features here call for.
    """

    kind: str
    transaction_id: str
    decision: str
    fraud_probability: float
    threshold: float
    thresholds: Thresholds
    model_version: str
    detector: str
    degraded: str | None
    decided_by: str
    variant: str | None
    decided_at: str
    position: int | None
    features_state: str
    received_us: int
    sequence: dict[str, int]
    features: list[float]
    transaction: msgspec.Raw
    profiles_age_ms: float | None = None
    given_features: list[float | None] | None = None
    exact: Exact | None = None


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """An outcome in the topic `decisions`; `known` is false where its transaction was not seen here."""

    kind: str = "outcome"
    known: bool
    received_us: int
    sequence: dict[str, int]
    outcome: msgspec.Raw


class Decider:
    """Writes the entry of an event that has passed every group of a bundle's features."""

    def __init__(self, bundle: Bundle, thresholds: Thresholds) -> None:
        plan = bundle.manifest.plan
        store = MemoryStore(plan)
        self._groups, self._cells = store.groups, EventCells(plan, store)
        self._bundle, self._thresholds = bundle, thresholds
        self._encode = msgspec.json.Encoder().encode

    def entry(self, event: Travelling) -> bytes:
        """The entry as JSON."""
        cells = self._cells
        cells.read(event.packed)
        passed = len(event.numbers) == len(self._groups)
        sequence = dict(zip(self._groups, event.numbers, strict=True)) if passed else {}
        if not cells.is_transaction:
            told = Told(
                known=event.known, received_us=cells.received, sequence=sequence, outcome=msgspec.Raw(event.content)
            )
            return self._encode(told)
        return self._encode(self._decided(event, sequence))

    def _decided(self, event: Travelling, sequence: dict[str, int]) -> Entry:
        rows: Any = self._cells.features()
        [score] = self._bundle.scorer.score(rows).astype(np.float64).tolist()
        thresholds, manifest = self._thresholds, self._bundle.manifest
        decided = Entry(
            kind="decided",
            transaction_id=event.id,
            decision=str(ACTIONS[thresholds.level(score)]),
            fraud_probability=score,
            threshold=thresholds.alarm,
            thresholds=thresholds,
            model_version=manifest.version,
            detector=manifest.detector,
            degraded=None,
            decided_by="model",
            variant=None,
            decided_at=iso(self._cells.received),
            position=None,
            features_state="late" if self._cells.late[0] else "fresh",
            received_us=self._cells.received,
            sequence=sequence,
            features=rows[0].tolist(),
            transaction=msgspec.Raw(event.content),
        )
        return _as_given(decided, decode_given(event.given)) if event.given else decided


def _as_given(decided: Entry, given: Given) -> Entry:
    """The decision that a front gave, in the place of the one that is called for here."""
    answer = given.answer
    return msgspec.structs.replace(
        decided,
        **{name: getattr(answer, name) for name in _OF_THE_ANSWER},
        given_features=given.features,
        exact=Exact(decided.decision, decided.fraud_probability),
    )


_OF_THE_ANSWER = (
    "decision", "fraud_probability", "threshold", "thresholds", "model_version", "degraded", "decided_by", "variant",
    "features_state", "profiles_age_ms",
)  # fmt: skip
