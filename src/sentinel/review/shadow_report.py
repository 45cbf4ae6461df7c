"""The shadow report: how a challenger's answers differ from those that were given, and which were better."""

from collections import Counter
from collections.abc import Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.policy.thresholds import Action
from sentinel.record.views import View
from sentinel.review.average_precision import average_precision
from sentinel.review.drift_bounds import psi
from sentinel.review.shadow_scores import ShadowScore, ShadowScores

LARGEST = 200_000
BINS = 20
ACTIONS = tuple(action.value for action in Action)
_UNKNOWN = -1

Floats = NDArray[np.float64]


class Distribution(msgspec.Struct, frozen=True):
    """Both sets of scores in 20 bins of equal width; `edges` are the 21 bounds, a score on one is in the bin above.

    `psi` is the population stability index of the shadow's scores over the twentieths of the live ones, where most
    bins are among the small scores; None when nothing was compared.
    """

    edges: tuple[float, ...]
    live: tuple[int, ...]
    shadow: tuple[int, ...]
    psi: float | None


class Judgement(msgspec.Struct, frozen=True):
    """How good one side was on the labelled transactions, an alarm being any answer but approve.

    `precision` is None without an alarm, `recall` and `average_precision` without a fraud.
    """

    alarms: int
    caught: int
    precision: float | None
    recall: float | None
    average_precision: float | None


class ShadowReport(msgspec.Struct, frozen=True, kw_only=True):
    """A shadow beside what was answered, over its newest transactions.

    - `compared`: those with a score from both. Left out are `failed`, where the shadow gave no probability, and
      `degraded`, where rules answered instead of a model.
    - `matrix`: how often a live decision met each decision of the shadow; `agreement` the share on the diagonal.
    - `correlation`: Pearson's, None where one side is constant. Differences are shadow minus live.
    - `live_decisions`, `shadow_decisions`: the mix of what was decided, and of what the shadow would have decided.
    - `labelled`, `frauds`: compared transactions with a known outcome; `live` and `shadow` are judged on these.
    """

    version: str
    since_us: int | None
    first_us: int | None
    last_us: int | None
    compared: int
    failed: int
    degraded: int
    live_versions: dict[str, int]
    agreement: float | None
    matrix: dict[str, dict[str, int]]
    live_decisions: dict[str, int]
    shadow_decisions: dict[str, int]
    correlation: float | None
    mean_difference: float | None
    mean_absolute_difference: float | None
    distribution: Distribution
    labelled: int
    frauds: int
    live: Judgement
    shadow: Judgement


def shadow_report(
    view: View, scores: ShadowScores, since_us: int | None = None, version: str | None = None
) -> ShadowReport:
    """Compare what was decided since `since_us` (microseconds since 1970), the newest 200,000 at most.

    `version` is the shadow, by default the one that was at work last. Takes about a second for 200,000; call it from
    a thread that may wait. Raises StorageProblem when the scores cannot be read.
    """
    if version is None:
        latest = scores.latest()
        version = latest.model_version if latest else ""
    rows = _Rows()
    for page in _pages(scores, version, since_us):
        rows.take(page, view)
    return rows.report(version, since_us)


def _pages(scores: ShadowScores, version: str, since_us: int | None) -> Iterator[list[ShadowScore]]:
    seq, left = None, LARGEST
    while left and (page := scores.page_before(version, seq, since_us or 0)[:left]):
        yield page
        seq, left = page[-1].seq, left - len(page)


class _Rows:
    """The numbers of the rows so far; of a row itself nothing is kept."""

    def __init__(self) -> None:
        self._scores: list[Floats] = [np.zeros((0, 2))]  # live, shadow
        self._actions: list[NDArray[np.int8]] = [np.zeros((0, 2), np.int8)]
        self._labels: list[NDArray[np.int8]] = [np.zeros(0, np.int8)]
        self._times: list[int] = []
        self._versions: Counter[str] = Counter()
        self._failed = self._degraded = 0

    def take(self, page: list[ShadowScore], view: View) -> None:
        """Add a page of scores and what is known about their transactions by now."""
        given = [row for row in page if row.fraud_probability is not None]
        kept = [row for row in given if not row.live_degraded]
        self._failed += len(page) - len(given)
        self._degraded += len(given) - len(kept)
        if not kept:
            return
        columns = dict(zip(ShadowScore._fields, zip(*kept, strict=True), strict=True))
        truth = view.outcomes_about(columns["seq"])
        codes = {action: code for code, action in enumerate(ACTIONS)}
        answers = [[codes[action] for action in columns[name]] for name in ("live_decision", "decision")]
        labels = [truth.get(one, _UNKNOWN) for one in columns["seq"]]
        self._scores.append(np.array([columns["live_fraud_probability"], columns["fraud_probability"]]).T)
        self._actions.append(np.array(answers, np.int8).T)
        self._labels.append(np.array(labels, np.int8))
        self._versions.update(columns["live_version"])
        self._times += [kept[0].decided_at_us, kept[-1].decided_at_us]

    def report(self, version: str, since_us: int | None) -> ShadowReport:
        """All of it compared."""
        live, shadow = np.concatenate(self._scores).T
        actions, labels = np.concatenate(self._actions), np.concatenate(self._labels)
        matrix = np.zeros((len(ACTIONS), len(ACTIONS)), np.int64)
        np.add.at(matrix, (actions[:, 0], actions[:, 1]), 1)
        known = labels != _UNKNOWN
        n, difference = len(live), shadow - live
        return ShadowReport(
            version=version,
            since_us=since_us,
            first_us=min(self._times, default=None),
            last_us=max(self._times, default=None),
            compared=n,
            failed=self._failed,
            degraded=self._degraded,
            live_versions=dict(self._versions),
            agreement=float(np.trace(matrix)) / n if n else None,
            matrix={action: _mix(matrix[code]) for code, action in enumerate(ACTIONS)},
            live_decisions=_mix(matrix.sum(axis=1)),
            shadow_decisions=_mix(matrix.sum(axis=0)),
            correlation=_correlation(live, shadow),
            mean_difference=float(difference.mean()) if n else None,
            mean_absolute_difference=float(np.abs(difference).mean()) if n else None,
            distribution=_distribution(live, shadow),
            labelled=int(known.sum()),
            frauds=int((labels == 1).sum()),
            live=_judgement(live[known], actions[known, 0], labels[known]),
            shadow=_judgement(shadow[known], actions[known, 1], labels[known]),
        )


def _mix(counts: NDArray[np.int64]) -> dict[str, int]:
    return dict(zip(ACTIONS, counts.tolist(), strict=True))


def _correlation(live: Floats, shadow: Floats) -> float | None:
    if len(live) < 2 or np.ptp(live) == 0 or np.ptp(shadow) == 0:
        return None
    found = float(np.corrcoef(live, shadow)[0, 1])
    return found if np.isfinite(found) else None


def _distribution(live: Floats, shadow: Floats) -> Distribution:
    edges = np.linspace(0.0, 1.0, BINS + 1)
    counts = [tuple(np.histogram(side, edges)[0].tolist()) for side in (live, shadow)]
    return Distribution(edges=tuple(edges.tolist()), live=counts[0], shadow=counts[1], psi=_psi(live, shadow))


def _psi(live: Floats, shadow: Floats) -> float | None:
    if len(live) == 0:
        return None
    inner = np.unique(np.quantile(live, np.arange(1, BINS) / BINS, method="inverted_cdf"))
    counts = [np.bincount(np.searchsorted(inner, side), minlength=len(inner) + 1) for side in (live, shadow)]
    return psi(counts[1], counts[0])


def _judgement(scores: Floats, actions: NDArray[np.int8], labels: NDArray[np.int8]) -> Judgement:
    alarm, fraud = actions != ACTIONS.index(Action.APPROVE), labels == 1
    alarms, caught, frauds = (int(np.count_nonzero(one)) for one in (alarm, alarm & fraud, fraud))
    return Judgement(
        alarms=alarms,
        caught=caught,
        precision=caught / alarms if alarms else None,
        recall=caught / frauds if frauds else None,
        average_precision=average_precision(scores, labels) if frauds else None,
    )
