"""Look-ups: what was decided. One decision is found by the log's own index, lists come from the view."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.errors import BundleProblem, InvalidInput, NotFound
from sentinel.events.card_numbers import quoted
from sentinel.events.columns import hash_text, hash_texts
from sentinel.events.context import event_schema
from sentinel.events.reader import TransactionReader
from sentinel.events.schema import Schema
from sentinel.events.secrets import Secrets
from sentinel.events.times import bound_us, iso
from sentinel.events.wire import EVENT_ID, HASHED_BEFORE
from sentinel.model.bundle import Manifest, read_explainer, read_manifest
from sentinel.model.reasons import Explainer, Explanation
from sentinel.model.registry import Registry, TrustedKeys
from sentinel.model.stored_rows import carried_over
from sentinel.policy.fallback import Fallback
from sentinel.policy.results import State
from sentinel.policy.stand_ins import CompiledFallback
from sentinel.policy.thresholds import Action, Thresholds
from sentinel.record.concluding import state_of
from sentinel.record.earlier_results import Earlier, earlier_results
from sentinel.record.entries import DecisionRow, Drawn, OutcomeRow, Ruled, revoked_in
from sentinel.record.erasure import personal_in
from sentinel.record.journal import Journal
from sentinel.record.results import ResultRow
from sentinel.record.subjects import SubjectKeys
from sentinel.record.views import DecisionQuery, ListedDecision, Page, merged
from sentinel.record.views.place import ViewPlace
from sentinel.record.views.unprojected import with_unprojected
from sentinel.review.shadow_scores import FILE, ShadowScores
from sentinel.serve.batch import FEATURES_STATE, features_state
from sentinel.serve.vectors.predictor import LIKELY
from sentinel.serve.worker import Worker
from sentinel.transport.http.queries import whole_number
from sentinel.transport.http.replies import Reply
from sentinel.transport.http.taken import Topic

_encode = msgspec.json.Encoder().encode
_MOST_OUTCOMES = 100
_MOST_EXPLAINERS = 4  # the models of champion, challenger and shadow, and one from before
_MOST_QUERIES = 16  # for one: each key of it has two hashes while a hash key follows another one
ERASED = "erased"
_NAMED = (
    "from",
    "to",
    "action",
    "model",
    "degraded",
    "least_amount",
    "most_amount",
    "rule",
    "state",
    "limit",
    "cursor",
)


class Lookups:
    """Finds decisions for people and programs; may be called from any thread, and may wait for a disk."""

    def __init__(
        self, home: Path, worker: Worker, secrets: Secrets, view: ViewPlace, trusted: TrustedKeys = frozenset(),
        topic: Callable[[], Topic | None] = lambda: None,
    ) -> None:  # fmt: skip
        """`topic` has what was handed in here, where that is not decided by this worker."""
        self._home, self._view, self._topic = home, view, topic
        self._worker = worker
        self._secrets = secrets
        self._registry = Registry(home / "models", trusted)
        self._manifests: dict[str, Manifest] = {}
        self._explainers: dict[str, Explainer | BundleProblem] = {}

    def decision(self, transaction_id: str, position: str | None = None) -> Reply:
        """The stored decision with its transaction, features by name, results, outcomes, what shadows said, and why.

        Of one that was handed in here and is not in this log: 202 while it is pending, then what Kafka says of it.
        `position` is what lists show: with it a decision is found whose id is no longer remembered.
        Raises NotFound, NotReady, InvalidInput.
        """
        journal = self._worker.ready_engine().journal
        try:
            row = self.stored(transaction_id, position)
        except NotFound:
            told = self._told_by_topic(transaction_id) if position is None else None
            if told is None:
                raise
            return told
        end, key = journal.log.durable, np.uint64(hash_text(row.transaction_id))
        outcomes = [one for one in journal.outcomes_of(row.transaction_id, key, _MOST_OUTCOMES) if one.position < end]
        of_it = journal.results_of(row.transaction_id, key, row.position, self.earlier(row))
        results = [one for one in of_it if one.position < end]
        return Reply(
            200,
            _encode(
                {
                    **self._shown(row, journal.subjects),
                    "state": state_of(row.decision, results),
                    "results": [_result(one) for one in results],
                    "outcomes": [_outcome(one, journal) for one in outcomes],
                    "shadow": self._shadow_scores(row.transaction_id),
                    "fallback": self._fallback(row),
                    **self._reasons(row, journal),
                }
            ),
        )

    def _told_by_topic(self, transaction_id: str) -> Reply | None:
        """That it is pending, or how it was decided elsewhere, for what was handed in here; else None."""
        topic, schema = self._topic(), self._worker.ready_engine().schema
        return (
            None
            if topic is None
            else topic.told_of(TransactionReader(schema, self._secrets).texts(schema.id, transaction_id))
        )

    def prediction(self, transaction_id: str) -> Reply:
        """What the champion says now of the features that were stored with a decision; nothing is stored or counted.

        Raises NotFound, NotReady, InvalidInput, and Conflict where the champion asks for features that are not stored.
        """
        champion = self._worker.ready_engine().lineup.champion
        row = self.stored(transaction_id, None)
        made_by, wanted = self._manifest(row.exact_decider.model_version).plan, champion.bundle.manifest.plan
        features = carried_over(row.exact_features, made_by, wanted, _sent_fields(row.content))
        score = float(champion.scorer.score(features[None])[0])
        shown = {
            "transaction_id": row.transaction_id,
            "is_fraud": score >= LIKELY,
            "fraud_probability": score,
            "status": "Success",
            "model_version": champion.version,
            "decision": champion.thresholds.action(score),
        }
        return Reply(200, _encode(shown))

    def stored(self, transaction_id: str, position: str | None) -> DecisionRow:
        """The newest decision of an id, or the one at a position. Raises NotFound, NotReady, InvalidInput."""
        engine = self._worker.ready_engine()
        journal, reader = engine.journal, TransactionReader(engine.schema, self._secrets)
        end, names = journal.log.durable, reader.texts(engine.schema.id, transaction_id)
        if position is None:
            found = journal.find(names, hash_texts(names))
        else:
            at = whole_number(position, "position")
            found = {name: row for name in names if (row := journal.decision_at(at, name)) is not None}
        transaction_id = next((name for name in names if name in found), names[0])
        row = found.get(transaction_id)
        if row is None or row.position >= end:
            raise NotFound(
                f"No decision is stored for transaction {quoted(transaction_id, 200)}"
                + (
                    " or its id is no longer remembered: then ask with its `position` from the list, `?position=..`"
                    if position is None
                    else f" at position {position}"
                )
            )
        return row

    def earlier(self, row: DecisionRow) -> Earlier:
        """What was told of a decision and is no longer found by its id. Raises NotReady, StorageProblem."""
        return earlier_results(self._view, row, self._worker.ready_engine().journal.remembered_from)

    def event(self, event_id: str) -> Reply:
        """The stored context event. Raises NotFound, NotReady, InvalidInput."""
        engine = self._worker.ready_engine()
        journal, names = engine.journal, _texts_of_event(engine.schema, self._secrets, event_id)
        found = journal.context_of(names, hash_texts(names))
        row = next((found[name] for name in names if name in found), None)
        if row is None or row.position >= journal.log.durable:
            raise NotFound(
                f"No event {quoted(event_id, 200)} is stored here, as far as is remembered; it is found by the "
                "`event_id` that it was sent with, or was answered with"
            )
        shown = {
            "event_id": row.event_id,
            "told_by": row.told_by,
            "received_at": iso(row.received_us),
            "position": row.position,
            "event": _stored_fields(row.content, engine.schema, journal.subjects),
        }
        return Reply(200, _encode(shown))

    def _shown(self, row: DecisionRow, subjects: SubjectKeys | None) -> dict[str, Any]:
        decider = row.decider
        plan = self._manifest(decider.model_version).plan
        transaction = _fields_of(row, plan.schema, subjects)
        return {
            "transaction_id": row.transaction_id,
            "decision": row.decision,
            "fraud_probability": row.fraud_probability,
            "thresholds": Thresholds(decider.review, decider.block, decider.challenge),
            "model_version": decider.model_version,
            "detector": row.detector,
            "features_state": features_state(row),
            "batch_size": row.batch_size,
            "latency_us": row.latency_us,
            "degraded": decider.degraded,
            "decided_by": decider.decided_by,
            "circuit_breaker_state": decider.circuit,
            "holdout": None if row.drawn is None else _draw(row.drawn),
            "rules": None if row.ruled is None else _rules(row.ruled),
            "experiment": decider.experiment,
            "variant": decider.variant,
            "decided_at": iso(row.received_us),
            "position": row.position,
            "transaction": transaction,
            "features": self._named(row.exact_decider.model_version, row.exact_features),
            **self._given(row),
        }

    def _given(self, row: DecisionRow) -> dict[str, Any]:
        """Where a front has decided, what it knew, and what exact features call for."""
        exact = row.exact
        if exact is None:
            return {}
        return {
            "profiles_age_ms": exact.profiles_age_ms,
            "given_features": self._named(row.decider.model_version, row.features),
            "exact": {
                "decision": exact.decision,
                "fraud_probability": exact.fraud_probability,
                "model_version": exact.decider.model_version,
            },
        }

    def _named(self, version: str, features: NDArray[np.float64]) -> dict[str, float | None]:
        """Features of a model by their names; null where missing. None of them where they are not the model's.

        What a front is said to have had is kept as it came.
        """
        names = self._manifest(version).plan.names
        if len(features) != len(names):
            return {}
        values = (None if math.isnan(value) else value for value in features.tolist())
        return dict(zip(names, values, strict=True))

    def _manifest(self, version: str) -> Manifest:
        if version not in self._manifests:
            self._manifests[version] = read_manifest(self._registry.path(version))
        return self._manifests[version]

    def _why(self, row: DecisionRow) -> Explanation | None:
        """Why the model came to its score; None where rules decided, or the model cannot be explained."""
        version = row.decider.model_version
        if row.decider.degraded is not None:
            return None
        explainer = self._explainers.get(version)
        if explainer is None:
            try:
                explainer = read_explainer(self._registry.path(version), self._registry.trusted)
            except BundleProblem as problem:
                explainer = problem
            if len(self._explainers) >= _MOST_EXPLAINERS:
                self._explainers.clear()
            self._explainers[version] = explainer
        if isinstance(explainer, BundleProblem) or len(row.features) != explainer.n_features:
            return None
        return explainer.explain(row.features)

    def _fallback(self, row: DecisionRow) -> dict[str, Any] | None:
        """What made the score where the detector's rules stood in for the model; None where they did not."""
        decider, plan = row.decider, self._manifest(row.decider.model_version).plan
        if decider.decided_by != "rules" or len(row.features) != len(plan.names):
            return None
        declared = msgspec.convert(self._manifest(decider.model_version).fallback, Fallback)
        return {"base": declared.base, "rules": CompiledFallback(declared, plan.names).held(row.features)}

    def _reasons(self, row: DecisionRow, journal: Journal) -> dict[str, Any]:
        """Why the model came to its score, stored or else computed now, which is the same; and where it is stored."""
        key = np.uint64(hash_text(row.transaction_id))
        stored = journal.reasons_of(row.transaction_id, key, row.position)
        if stored is None or stored[0] >= journal.log.durable:
            return {"why": self._why(row), "why_position": None}
        return {"why": msgspec.Raw(stored[1]), "why_position": stored[0]}

    def _shadow_scores(self, transaction_id: str) -> list[dict[str, Any]]:
        if not (self._home / FILE).exists():
            return []
        with closing(ShadowScores(self._home / FILE)) as scores:
            return [
                {
                    "model_version": one.model_version,
                    "fraud_probability": one.fraud_probability,
                    "decision": one.decision,
                }
                for one in scores.scores_of(transaction_id)
            ]

    def search(self, asked: Mapping[str, str]) -> Reply:
        """A page of the newest decisions that fit. Raises InvalidInput, NotReady, StorageProblem."""
        engine = self._worker.ready_engine()
        reader = TransactionReader(engine.schema, self._secrets)
        hidden = {name: reader.texts(name, asked[name]) for name in engine.schema.keys if name in asked}
        each = [dict(zip(hidden, values, strict=True)) for values in product(*hidden.values())]
        if len(each) > _MOST_QUERIES:
            raise InvalidInput("Expected fewer keys: each may be stored under two hashes while the hash key is changed")
        queries = [_query({**asked, **values}, engine.schema.keys) for values in each]
        with closing(self._view.open()) as view:
            pages = [view.search(query) for query in queries]
        log = engine.journal.log
        found = [with_unprojected(*one, log, engine.schema) for one in zip(pages, queries, strict=True)]
        return Reply(200, _encode(_listed(merged(found, queries[0].limit))))


def _draw(drawn: Drawn) -> dict[str, Any]:
    return {"approved": drawn.is_approved, "would_be": drawn.would_be, "propensity": drawn.propensity}


def _rules(ruled: Ruled) -> dict[str, Any]:
    return {"fired": ruled.fired, "shadow": ruled.shadow, "acted": ruled.acted, "would_be": ruled.would_be}


def _outcome(row: OutcomeRow, journal: Journal) -> dict[str, Any]:
    """An outcome, and when and why it was taken back; None while it counts."""
    revoked = None
    if row.revoked_at is not None:
        record = journal.log.at(row.revoked_at)
        revoked = {"at": iso(record.received_us), "reason": revoked_in(record).revocation.reason}
    return {
        "is_fraud": row.is_fraud, "time": iso(row.time_us), "source": row.source, "told_by": row.told_by,
        "reason": row.reason, "received_at": iso(row.received_us), "revoked": revoked,
    }  # fmt: skip


def _result(row: ResultRow) -> dict[str, Any]:
    """What became of a decision, and where its transaction stands after that."""
    return {
        "result": row.result, "state": row.state, "told_by": row.told_by, "reason": row.reason,
        "told_at": iso(row.received_us), "position": row.position,
    }  # fmt: skip


def _fields_of(row: DecisionRow, schema: Schema, subjects: SubjectKeys | None) -> Any:
    """The transaction with its time as text, and what is personal in it, unless that was erased.

    It is shown as it is kept, where it does not fit the schema.
    """
    return _stored_fields(row.content, schema, subjects)


def _stored_fields(content: bytes, schema: Schema, subjects: SubjectKeys | None) -> Any:
    """The same of any content: of a transaction, or of a context event."""
    try:
        fields = msgspec.json.decode(content)
        fields.pop(HASHED_BEFORE, None)
        found = personal_in(fields, schema, subjects)
        personal = {name: ERASED if text is None else text for name, text in found.items()}
        kept = {name: value for name, value in fields.items() if name not in schema.sealed.values()}
        return kept | personal | {schema.time: iso(fields[schema.time])}
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        return content.decode("utf-8", "replace")


def _sent_fields(content: bytes) -> dict[str, Any]:
    """The fields of a transaction as they are kept; none where they do not fit."""
    try:
        return msgspec.json.decode(content, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return {}


def _texts_of_event(schema: Schema, secrets: Secrets, event_id: str) -> list[str]:
    """What an event is found by: its id as it is stored, with or without the hash of a card number in it."""
    if not schema.events:
        raise NotFound("This detector knows no context events: its schema declares none in `events`")
    reader = TransactionReader(event_schema(schema, next(iter(schema.events))), secrets)
    return reader.texts(EVENT_ID, event_id)


def _query(asked: Mapping[str, str], keys: Sequence[str]) -> DecisionQuery:
    unknown = [name for name in asked if name not in keys and name not in _NAMED]
    if unknown:
        raise InvalidInput(
            f"There is no search by {', '.join(unknown)}; give {', '.join((*keys, *_NAMED))}", f"$.{unknown[0]}"
        )
    action = asked.get("action")
    if action is not None and action not in tuple(map(str, Action)):
        raise InvalidInput(f"Expected one of {', '.join(map(str, Action))}, got {quoted(action)}", "$.action")
    state = asked.get("state")
    if state is not None and state not in tuple(map(str, State)):
        raise InvalidInput(f"Expected one of {', '.join(map(str, State))}, got {quoted(state)}", "$.state")
    degraded = asked.get("degraded", "false")
    if degraded not in ("true", "false"):
        raise InvalidInput(f"Expected true or false, got {quoted(degraded)}", "$.degraded")
    limit = asked.get("limit", "50")
    return DecisionQuery(
        keys={name: asked[name] for name in keys if name in asked},
        from_us=time_asked(asked, "from"),
        to_us=time_asked(asked, "to"),
        action=None if action is None else Action(action),
        model_version=asked.get("model"),
        degraded=degraded == "true",
        rule=asked.get("rule"),
        state=None if state is None else State(state),
        least_amount=_amount(asked, "least_amount"),
        most_amount=_amount(asked, "most_amount"),
        limit=whole_number(limit, "limit"),
        cursor=asked.get("cursor"),
    )


def _amount(asked: Mapping[str, str], name: str) -> float | None:
    given = asked.get(name)
    try:
        return None if given is None else float(given)
    except ValueError:
        raise InvalidInput(f"Expected a number, got {quoted(given or '')}", f"$.{name}") from None


def time_asked(asked: Mapping[str, str], name: str) -> int | None:
    """An ISO 8601 time, or Unix seconds, milliseconds or microseconds."""
    given = asked.get(name)
    if given is None:
        return None
    is_number = given.replace(".", "", 1).isdecimal()
    return bound_us(float(given[:20]) if is_number else given.replace(" ", "+"), f"$.{name}")


def _listed(page: Page) -> dict[str, Any]:
    return {"decisions": [listed_row(one) for one in page.rows], "next": page.next, "position": page.position}


def listed_row(one: ListedDecision) -> dict[str, Any]:
    """What a list shows of a decision."""
    return {
        "transaction_id": one.transaction_id,
        "decided_at": iso(one.received_us),
        "amount": one.amount,
        "decision": one.decision,
        "fraud_probability": one.fraud_probability,
        "model_version": one.model_version,
        "degraded": one.degraded,
        "features_state": FEATURES_STATE[one.late],
        "variant": one.variant,
        "state": one.state,
        "keys": one.keys,
        "position": one.position,
    }
