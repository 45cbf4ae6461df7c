"""`sentinel replay` and `sentinel explain`: stored decisions are computed again from their features, and explained."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.commands.progress import Stage
from sentinel.commands.registry_of_home import registry_of
from sentinel.commands.tables import tables_in
from sentinel.config import Settings
from sentinel.errors import BundleProblem, NotFound
from sentinel.events.card_numbers import may_hold_card_number
from sentinel.events.reader import TransactionReader
from sentinel.events.times import instant_us
from sentinel.model.bundle import Bundle, load_bundle, read_explainer, read_manifest
from sentinel.model.reasons import Explanation
from sentinel.policy.holdout import Holdout
from sentinel.policy.thresholds import ACTIONS, Action, Thresholds
from sentinel.record.applied import HomeDeployment
from sentinel.record.entries import Decider, DecisionRow, decided_in, decision_rows
from sentinel.record.erasure import personal_in
from sentinel.record.home_reader import open_log
from sentinel.record.log import Follower, Kind, Record
from sentinel.record.reasons import reasons_in
from sentinel.record.subjects import SubjectKeys
from sentinel.review.rules_again import RulesAgain

_AT_ONCE = 8_192  # decisions that are computed together
_SHOWN = 10
_decode_why = msgspec.json.Decoder(Explanation).decode


class Judged(NamedTuple):
    """What a decision comes to: the fraud probability, the action, and the rules that fired, shadows too."""

    fraud_probability: float
    decision: str
    rules: tuple[str, ...] = ()


class Receipt(msgspec.Struct, frozen=True):
    """A stored decision, and what its features come to now; `same` when not one bit of it differs.

    `replayed` is None when it cannot be computed, and `problem` says why. `erased` are the fields of the transaction
    that can be read by nobody any more. Where a front has answered, `exact` is what exact features call for: that is
    computed again as well.
    """

    transaction_id: str
    position: int
    model_version: str
    degraded: str | None
    stored: Judged
    replayed: Judged | None
    same: bool
    problem: str | None = None
    erased: Sequence[str] = ()
    exact: Judged | None = None


class ReplayReport(msgspec.Struct, frozen=True):
    """How many decisions were looked at, how many differ, how many could not be computed again, the first of both."""

    decisions: int
    differing: int
    impossible: int
    first: Sequence[Receipt]


def replay_one(settings: Settings, transaction_id: str) -> Receipt:
    """The newest decision of a transaction, computed again. Raises NotFound, LogDamaged, StorageProblem.

    An id with a card number in it is found by what is stored in its place.
    """
    replay = _Replay(settings)
    rows = [_newest_decision(settings, replay.stored_id(transaction_id))]
    return replay.shown(rows, replay.receipts(rows))[0]


class Explained(msgspec.Struct, frozen=True):
    """A stored decision of a model, and why its score is what it is.

    `why_position` is where the log has that, as the server recorded it; None where it was computed now.
    """

    transaction_id: str
    position: int
    model_version: str
    fraud_probability: float
    decision: str
    why: Explanation
    why_position: int | None


def explain_one(settings: Settings, transaction_id: str) -> Explained:
    """The newest decision of a transaction, explained: by the log where that has its reasons, else by its model.

    Raises NotFound, BundleProblem where that model is not there or cannot be explained, or rules decided.
    """
    replay = _Replay(settings)
    row = _newest_decision(settings, replay.stored_id(transaction_id))
    if row.decider.degraded is not None:
        raise BundleProblem(
            f"no model decided {row.transaction_id!r} but the rules of {row.decider.model_version} did "
            f"({row.decider.degraded}): they are in the detector, under `fallback`"
        )
    position, why = stored_why(settings.home, row) or (None, None)
    if why is None:
        registry = replay.registry
        why = read_explainer(registry.path(row.decider.model_version), registry.trusted).explain(row.features)
    return Explained(
        row.transaction_id, row.position, row.decider.model_version, row.fraud_probability, row.decision, why, position
    )  # fmt: skip


def stored_why(home: Path, row: DecisionRow) -> tuple[int, Explanation] | None:
    """The newest reasons that the log has of a decision, and where; None where it has none."""
    found = None
    with closing(open_log(home)) as log:
        for record in chain.from_iterable(Follower(log, row.position).rest()):
            if record.kind == Kind.REASONS:
                rows = reasons_in(record).rows(record.position)
                found = next(((at, why) for at, about, why in rows if about == row.position), found)
    return found and (found[0], _decode_why(found[1]))


def _newest_decision(settings: Settings, transaction_id: str) -> DecisionRow:
    with closing(open_log(settings.home)) as log:
        named, found = transaction_id.encode(errors="surrogatepass"), None
        for record in log.chained_from(log.first):
            if record.kind == Kind.DECIDED and named in record.body and transaction_id in decided_in(record).ids:
                found = record
        if found is None:
            raise NotFound(f"the log has no decision of {transaction_id!r}; was it pruned, or is this another --home?")
        return next(row for row in decision_rows(found) if row.transaction_id == transaction_id)


def replay_all(settings: Settings, since: str | None, most: int | None, stage: Stage) -> ReplayReport:
    """Every decision that was received since a moment (ISO 8601), so many of them at most, computed again.

    Raises InvalidInput, LogDamaged, StorageProblem.
    """
    replay, total, differing, impossible = _Replay(settings), 0, 0, 0
    first: list[Receipt] = []
    with closing(open_log(settings.home)) as log:
        begin = log.first if since is None else log.first_after(instant_us(since) - 1)
        end = log.durable
        for rows in _pages(islice(_decisions(log.chained_from(begin), begin), most)):
            receipts = replay.receipts(rows)
            total += len(rows)
            differing += sum(not one.same and one.replayed is not None for one in receipts)
            impossible += sum(one.replayed is None for one in receipts)
            odd = [n for n, one in enumerate(receipts) if not one.same][: _SHOWN - len(first)]
            first += replay.shown([rows[n] for n in odd], [receipts[n] for n in odd])
            stage("positions", rows[-1].position - begin, end - begin)
    return ReplayReport(total, differing, impossible, first)


def _decisions(records: Iterator[Record], begin: int) -> Iterator[DecisionRow]:
    for record in records:
        if record.kind == Kind.DECIDED and record.position + record.rows > begin:
            yield from (row for row in decision_rows(record) if row.position >= begin)


def _pages(rows: Iterator[DecisionRow]) -> Iterator[list[DecisionRow]]:
    while page := list(islice(rows, _AT_ONCE)):
        yield page


class _Replay:
    """Computes decisions again with the models of a home folder."""

    def __init__(self, settings: Settings) -> None:
        self.registry = registry_of(settings)
        self._bundles: dict[str, Bundle | BundleProblem] = {}
        self._settings = settings
        with closing(open_log(settings.home)) as log:
            self._rules = RulesAgain(log, tables_in(settings))

    def stored_id(self, transaction_id: str) -> str:
        """The text that stands for this id in the log, by the champion's schema. Raises InvalidInput."""
        if not may_hold_card_number(transaction_id.encode(errors="surrogatepass")):
            return transaction_id
        try:
            champion = HomeDeployment(self._settings.home).champion()
            schema = read_manifest(self.registry.path(champion)).plan.schema
        except BundleProblem:
            return transaction_id
        return TransactionReader(schema, self._settings.secrets()).text(schema.id, transaction_id)

    def shown(self, rows: Sequence[DecisionRow], receipts: Sequence[Receipt]) -> list[Receipt]:
        """The receipts of these decisions, with what was erased of them."""
        with closing(SubjectKeys(self._settings.home)) as subjects:
            return [
                msgspec.structs.replace(one, erased=self._erased(row, subjects))
                for row, one in zip(rows, receipts, strict=True)
            ]

    def _erased(self, row: DecisionRow, subjects: SubjectKeys) -> list[str]:
        try:
            schema = self._bundle(row.decider.model_version).manifest.plan.schema
            found = personal_in(msgspec.json.decode(row.content, type=dict[str, Any]), schema, subjects)
        except (BundleProblem, msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError):
            return []  # what its fields are is not known
        return [name for name, text in found.items() if text is None]

    def receipts(self, rows: Sequence[DecisionRow]) -> list[Receipt]:
        """One for each of these decisions, in their order."""
        found = self._receipts(rows)
        places = [n for n, row in enumerate(rows) if row.exact is not None]
        for n, exact in zip(places, self._receipts([_exact_of(rows[n]) for n in places]), strict=True):
            found[n] = _with_exact(found[n], exact)
        return found

    def _receipts(self, rows: Sequence[DecisionRow]) -> list[Receipt]:
        groups: dict[tuple[Decider, int, bool], list[int]] = {}
        for n, row in enumerate(rows):
            groups.setdefault((row.decider, row.revision, row.exact is None), []).append(n)
        found: dict[int, Receipt] = {}
        for (decider, _, _), places in groups.items():
            of_it = [rows[n] for n in places]
            found.update(zip(places, self._of_one(decider, of_it), strict=True))
        return [found[n] for n in range(len(rows))]

    def _of_one(self, decider: Decider, rows: Sequence[DecisionRow]) -> list[Receipt]:
        try:
            thresholds, scores = self._judge(decider, np.stack([row.features for row in rows]))
            manifest = self._bundle(decider.model_version).manifest
            own = thresholds.levels(scores)
            is_given = rows[0].exact is not None
            levels, fired = (
                self._rules.given(manifest, rows, own) if is_given else self._rules.ruled(manifest, rows, scores, own)
            )
        except BundleProblem as missing:
            return [_receipt(row, None, str(missing)) for row in rows]
        called_for = [str(ACTIONS[level]) for level in levels]
        actions = map(_after_holdout, called_for, rows, repeat(self._bundle(decider.model_version).holdout))
        judged = map(Judged, scores.tolist(), actions, fired)
        stored = Thresholds(decider.review, decider.block, decider.challenge)
        problem = None if stored == thresholds else f"the rules' thresholds are {thresholds}, and {stored} is stored"
        return [_receipt(row, one, problem) for row, one in zip(rows, judged, strict=True)]

    def _judge(self, decider: Decider, features: NDArray[np.float64]) -> tuple[Thresholds, NDArray[np.float64]]:
        """As the engine does: by the model and the stored thresholds, or by the rules and theirs."""
        bundle = self._bundle(decider.model_version)
        if decider.degraded is None:
            return Thresholds(decider.review, decider.block, decider.challenge), bundle.scorer.score(features).astype(
                np.float64
            )
        rules, _ = bundle.on_fault.stand_in(decider.degraded)
        return rules.thresholds, rules.score(features)

    def _bundle(self, version: str) -> Bundle:
        if version not in self._bundles:
            try:
                self._bundles[version] = load_bundle(self.registry.path(version), self.registry.trusted)
            except BundleProblem as missing:
                self._bundles[version] = missing
        found = self._bundles[version]
        if isinstance(found, BundleProblem):
            raise found
        return found


def _exact_of(row: DecisionRow) -> DecisionRow:
    """What exact features call for, as a decision of its own: which rules held there is not stored."""
    exact = row.exact
    assert exact is not None  # noqa: S101 - asked of these alone
    return row._replace(
        features=exact.features, fraud_probability=exact.fraud_probability, decision=exact.decision,
        decider=exact.decider, revision=exact.revision, exact=None, ruled=None, drawn=None,
    )  # fmt: skip


def _with_exact(given: Receipt, exact: Receipt) -> Receipt:
    """The receipt of what a front gave, which is right if what exact features call for is, too."""
    stored, again = (one and one._replace(rules=()) for one in (exact.stored, exact.replayed))
    same = exact.problem is None and again is not None and stored is not None and _bits(stored) == _bits(again)
    problem = given.problem or exact.problem
    if problem is None and not same:
        problem = f"exact features call for {again}, and {stored} is stored"
    return msgspec.structs.replace(given, same=given.same and same, problem=problem, exact=stored)


def _after_holdout(called_for: str, row: DecisionRow, holdout: Holdout | None) -> str:
    """The action that a stored draw leads to, drawn again; a draw that should not have been gives none."""
    drawn = row.drawn
    if drawn is None:
        return called_for
    if holdout is None or called_for not in holdout.actions:
        return f"{called_for}, and the model has no holdout of that"
    if (drawn.would_be, drawn.propensity) != (called_for, holdout.share):
        return f"{called_for} with {holdout.share}, and {drawn.would_be} with {drawn.propensity} is stored"
    return str(Action.APPROVE) if holdout.chooses(row.transaction_id) else called_for


def _receipt(row: DecisionRow, replayed: Judged | None, problem: str | None) -> Receipt:
    rules = () if row.ruled is None else (*row.ruled.fired, *row.ruled.shadow)
    stored = Judged(row.fraud_probability, row.decision, rules)
    return Receipt(
        row.transaction_id, row.position, row.decider.model_version, row.decider.degraded, stored, replayed,
        problem is None and replayed is not None and _bits(stored) == _bits(replayed), problem,
    )  # fmt: skip


def _bits(judged: Judged) -> tuple[bytes, str, list[str]]:
    return np.float64(judged.fraud_probability).tobytes(), judged.decision, sorted(judged.rules)
