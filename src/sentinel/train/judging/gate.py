"""The gate: a model and what was found out about it, against the demands of a policy.

There are two. To be registered a model has to be good; to be promoted it has to have agreed with what was answered as a
shadow too, if the policy asks for that.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import msgspec

from sentinel.events.times import duration_us
from sentinel.features.plan import FeaturePlan
from sentinel.model.bundle import Manifest
from sentinel.model.certificate import LIMIT
from sentinel.model.gate_verdicts import Gate
from sentinel.policy.promotion_policy import PromotionPolicy, RecallAtFpr
from sentinel.policy.thresholds import Thresholds
from sentinel.review.average_precision import average_precision
from sentinel.train.figures.compare import Comparison
from sentinel.train.figures.costs import cost_per_transaction
from sentinel.train.figures.evaluate import auc_roc, recall_at_fpr
from sentinel.train.figures.reliability import calibration_error
from sentinel.train.figures.segments import segments
from sentinel.train.rows.dataset import NEWEST
from sentinel.train.rows.measured import Measured

DAY_US = 86_400_000_000
WITHOUT_DATA = "nothing was measured: give --data FILE"
_OF_PROMOTION = frozenset({"min_shadow_agreement"})


class ShadowFacts(NamedTuple):
    """How many transactions a shadow was compared on, and in what share it would have decided the same."""

    compared: int
    agreement: float | None


class Evidence(NamedTuple):
    """All that is known about a model. What is a text says why the fact is not there.

    `measured` are rows that it did not learn from; with None the figures of the manifest count, where it has them.
    `comparison` is the champion (first) beside it (second).
    `latency_us` is a row through the exported model, and `now_us` the moment, microseconds since 1970.
    """

    manifest: Manifest
    thresholds: Thresholds
    now_us: int
    measured: Measured | str | None
    comparison: Comparison | str
    latency_us: float | str
    shadow: ShadowFacts | str


class Check(msgspec.Struct, frozen=True):
    """One demand: what is wanted and what was found. Of a `missing` one it is not known whether it holds."""

    name: str
    wanted: str
    found: str
    status: Literal["passed", "failed", "missing"]

    @property
    def said(self) -> str:
        """The demand and what was found, as a sentence for people."""
        return f"{self.name}: wanted {self.wanted}, found {self.found}"


class _Missing(Exception):
    """The fact that a demand is about is not there; the text says why."""


_Found = tuple[str, str, bool]  # wanted, found, whether that is enough
_Judge = Callable[[Any, Evidence], _Found]


def judge(policy: PromotionPolicy, evidence: Evidence, gate: Gate) -> list[Check]:
    """Every demand of the policy that this gate asks for, in the order of its fields."""
    return [
        _check(name, getattr(policy, name), evidence)
        for name in policy.demands
        if gate == "promote" or name not in _OF_PROMOTION
    ]


def _check(name: str, wanted: Any, evidence: Evidence) -> Check:
    try:
        shown, found, holds = _JUDGES[name](wanted, evidence)
    except _Missing as missing:
        return Check(name, _shown(wanted), str(missing), "missing")
    return Check(name, shown, found, "passed" if holds else "failed")


def _shown(wanted: Any) -> str:
    return msgspec.json.encode(wanted).decode()


def _rows(evidence: Evidence) -> Measured:
    if not isinstance(evidence.measured, Measured):
        raise _Missing(evidence.measured or WITHOUT_DATA)
    return evidence.measured


def _figure(evidence: Evidence, name: str, of_rows: Callable[[Measured], float]) -> float:
    """A figure of the rows that were measured; of the test part, as the manifest has it, where none were."""
    if evidence.measured is not None:
        return of_rows(_rows(evidence))
    try:
        found = evidence.manifest.metrics[name]
        value = found["value"] if isinstance(found, dict) else found
    except (KeyError, TypeError):
        value = None
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise _Missing(f"the manifest has no {name}; give --data FILE")
    return float(value)


def _least(name: str, of_rows: Callable[[Measured], float]) -> _Judge:
    def check(wanted: float, evidence: Evidence) -> _Found:
        found = _figure(evidence, name, of_rows)
        return f"at least {wanted:g}", f"{found:.6g}", found >= wanted

    return check


def _frauds(wanted: int, evidence: Evidence) -> _Found:
    """On all rows that something is judged by: those that are compared with the champion may be fewer."""
    found, where = _figure(evidence, "frauds", lambda rows: rows.frauds_seen), ""
    compared = evidence.comparison
    if isinstance(compared, Comparison) and compared.frauds < found:
        found, where = compared.frauds, f" on the rows that are compared with {compared.first}"
    return f"at least {wanted}", f"{found:g}{where}", found >= wanted


def _recall(wanted: RecallAtFpr, evidence: Evidence) -> _Found:
    rows = _rows(evidence)
    found = recall_at_fpr(rows.scores, rows.labels, wanted.fpr)
    return (
        f"at least {wanted.recall:g} at a false-positive rate of {wanted.fpr:g}",
        f"{found:.4f}",
        found >= wanted.recall,
    )


def _cost(wanted: Any, evidence: Evidence) -> _Found:
    rows = _rows(evidence)
    found = cost_per_transaction(rows.scores, rows.labels, rows.amounts, evidence.thresholds, wanted.costs)
    return f"at most {wanted.per_transaction:g} a transaction", f"{found:.4f}", found <= wanted.per_transaction


def _calibration(wanted: float, evidence: Evidence) -> _Found:
    found = _figure(evidence, "calibration_error", lambda rows: calibration_error(rows.scores, rows.labels))
    return f"at most {wanted:g}", f"{found:.6f}", found <= wanted


def _latency(wanted: float, evidence: Evidence) -> _Found:
    found = evidence.latency_us
    if isinstance(found, str):
        raise _Missing(found)
    return f"at most {wanted:g} us a row", f"{found:.2f} us", found <= wanted


def _age(wanted: str, evidence: Evidence) -> _Found:
    newest = evidence.manifest.training.get(NEWEST)
    if not isinstance(newest, int):
        raise _Missing("the manifest does not say when the newest row is from that was learned; train anew")
    age_us = evidence.now_us - newest
    if age_us < -DAY_US:
        return f"at most {wanted}", f"a row that is {-age_us / DAY_US:.1f} days ahead of now", False
    return f"at most {wanted}", f"{age_us / DAY_US:.1f} days", age_us <= duration_us(wanted)


def _certificate(_: bool, evidence: Evidence) -> _Found:
    one = evidence.manifest.certificate
    found = f"{one.largest:.3g} on {one.test_rows:,} rows and both sides of {one.splits:,} splits"
    return f"at most {LIMIT:g} from the trained model", found, one.test_rows > 0 and one.largest <= LIMIT


def _compared(evidence: Evidence) -> Comparison:
    if isinstance(evidence.comparison, str):
        raise _Missing(evidence.comparison)
    return evidence.comparison


def _not_worse(_: bool, evidence: Evidence) -> _Found:
    one = _compared(evidence)
    difference = one.average_precision.difference
    return f"not below {one.first} for certain", _interval(one), difference.high >= 0


def _most_loss(wanted: float, evidence: Evidence) -> _Found:
    one = _compared(evidence)
    difference = one.average_precision.difference
    return f"at most {wanted:g} below {one.first}", _interval(one), difference.low >= -wanted


def _interval(one: Comparison) -> str:
    found = one.average_precision.difference
    return f"average precision {found.value:+.4f} (95 %: {found.low:+.4f} to {found.high:+.4f})"


def _segments(wanted: Any, evidence: Evidence) -> _Found:
    rows, plan = _rows(evidence), evidence.manifest.plan
    low = [said for floor in wanted for said in _below(floor, rows, plan, evidence.thresholds.review)]
    return "every segment at its floor", "; ".join(low) or "all are", not low


def _below(floor: Any, rows: Measured, plan: FeaturePlan, review: float) -> list[str]:
    """The segments that are below a floor, of which one has to have enough frauds at least."""
    recall: RecallAtFpr | None = floor.min_recall_at_fpr
    parts = segments(rows, plan.schema, floor.by, review, recall.fpr if recall else 0.01)
    judged = [one for one in parts if one.frauds >= floor.min_frauds and one.average_precision is not None]
    if not judged:
        raise _Missing(f"no segment by {floor.by} has {floor.min_frauds} frauds or more to be judged by")
    found = []
    for one in judged:
        if one.average_precision is None or one.recall_at_fpr is None:
            continue
        if floor.min_pr_auc_val is not None and one.average_precision < floor.min_pr_auc_val:
            found.append(f"{one.by} {one.value}: average precision {one.average_precision:.4f}")
        if recall is not None and one.recall_at_fpr < recall.recall:
            found.append(f"{one.by} {one.value}: recall {one.recall_at_fpr:.4f}")
    return found


def _agreement(wanted: Any, evidence: Evidence) -> _Found:
    found = evidence.shadow
    if isinstance(found, str):
        raise _Missing(found)
    if found.agreement is None or found.compared < wanted.min_compared:
        raise _Missing(f"as a shadow it was compared on {found.compared:,} transactions, of {wanted.min_compared:,}")
    said = f"{found.agreement:.4f} of {found.compared:,}"
    return (
        f"at least {wanted.agreement:g} of {wanted.min_compared:,} or more",
        said,
        found.agreement >= wanted.agreement,
    )


_JUDGES: dict[str, _Judge] = {
    "min_pr_auc_val": _least("average_precision", lambda rows: average_precision(rows.scores, rows.labels)),
    "min_roc_auc_val": _least("auc_roc", lambda rows: auc_roc(rows.scores, rows.labels)),
    "min_frauds": _frauds,
    "min_recall_at_fpr": _recall,
    "max_cost": _cost,
    "max_calibration_error": _calibration,
    "max_latency_us": _latency,
    "max_age": _age,
    "require_certificate": _certificate,
    "not_worse_than_champion": _not_worse,
    "max_loss_to_champion": _most_loss,
    "segments": _segments,
    "min_shadow_agreement": _agreement,
}
