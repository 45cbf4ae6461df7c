"""How good the scores are: ranking, calibration, what frauds and others score, other thresholds, segments."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentinel.features.plan import FeaturePlan
from sentinel.inspect.charts import Bar, pairs
from sentinel.inspect.html_parts import table
from sentinel.policy.thresholds import Thresholds
from sentinel.train.figures.evaluate import AtThreshold, at_threshold
from sentinel.train.figures.reliability import reliability
from sentinel.train.figures.segments import AMOUNT, Segment, segments
from sentinel.train.figures.threshold_table import threshold_table
from sentinel.train.report.curves import CALM, GREY, LOUD, Axis, Curve, Mark, plot
from sentinel.train.rows.measured import Measured

_EDGES = (0, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0)
_MOST_CATEGORIES, _MOST_VALUES = 4, 12
Ranked = tuple[NDArray[np.float64], NDArray[np.float64]]


def ranked(scores: NDArray[Any], labels: NDArray[np.int8]) -> Ranked:
    """Recall and precision, each (k,), when the k highest scores are alarms."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(labels[order] == 1)
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    return hits[ends] / hits[-1], hits[ends] / (ends + 1)


def ranking_and_calibration(
    measured: Measured, thresholds: Thresholds, rankings: Mapping[str, NDArray[Any]]
) -> Iterator[str]:
    """The precision-recall curve beside the best simple ranking, and the calibration curve."""
    scores, labels = measured.scores, measured.labels
    curves = [Curve("model", *ranked(scores, labels))]
    curves += [Curve(f"by {name}", *ranked(one, labels), GREY) for name, one in rankings.items()]
    share = measured.frauds / len(labels)
    curves.append(Curve("chance", np.array([0.0, 1.0]), np.array([share, share]), LOUD, is_dashed=True))
    named = [("review", thresholds.review), ("block", thresholds.block)]
    marks = []
    for name, threshold in named:
        if threshold is not None:
            one = at_threshold(scores, labels, threshold)
            marks.append(Mark(name, one.recall, one.precision))
    yield "<h2>Ranking and calibration</h2><div class='two'>"
    yield plot(curves, Axis("recall", 0, 1), Axis("precision", 0, 1), marks)
    yield _calibration(scores, labels)
    yield "</div><p>Left: precision against recall as the threshold falls. Right: of the rows with scores like these, "
    yield "how many were frauds; a dot on the line is as was expected. Bins hold equally many expected frauds.</p>"


def _calibration(scores: NDArray[Any], labels: NDArray[np.int8]) -> str:
    bins = [one for one in reliability(scores, labels) if one.expected > 0]
    expected = np.array([one.expected / one.rows for one in bins])
    came = np.array([one.frauds / one.rows for one in bins])
    low = min(max(float(10.0 ** np.floor(np.log10(max(expected.min(initial=1.0), 1e-9)))), 1e-6), 0.1)
    ends = np.array([low, 1.0])
    axes = Axis("mean score", low, 1, is_log=True), Axis("share of fraud", low, 1, is_log=True)
    curves = [Curve("as expected", ends, ends, GREY, is_dashed=True), Curve("came", expected, came, CALM, is_dots=True)]
    return plot(curves, *axes)


def histogram(measured: Measured) -> Iterator[str]:
    """What frauds and others score, each class by itself."""
    places = []
    sides = [measured.scores[measured.labels == kind] for kind in (0, 1)]
    counts = [np.histogram(one, _EDGES)[0] for one in sides]
    for n, low in enumerate(_EDGES[:-1]):
        both = [
            Bar(100 * int(count[n]) / max(len(side), 1), f"{low:g}", f"from {low:g} to {_EDGES[n + 1]:g}: {count[n]:,}")
            for count, side in zip(counts, sides, strict=True)
        ]
        places.append((both[0], both[1]))
    yield "<h2>Scores</h2><p>Each class by itself; a bar begins at the score below it. "
    yield f'<span class="key" style="background:{CALM}"></span>legitimate'
    yield f'<span class="key" style="background:{LOUD}"></span>frauds</p>'
    yield pairs(places, "% of the class")


def other_thresholds(measured: Measured, thresholds: Thresholds) -> Iterator[str]:
    """The thresholds of the model, and what others would bring."""
    yield "<h2>Thresholds</h2>"
    named = [("review", thresholds.review), ("block", thresholds.block)]
    own = [(name, at_threshold(measured.scores, measured.labels, one)) for name, one in named if one is not None]
    rows = [_row(f"<b>{name}</b>", one) for name, one in own]
    rows += [_row("", one) for one in threshold_table(measured.scores, measured.labels)]
    head = ("", "threshold", "false-positive rate", "recall", "precision", "F1", "accuracy", "tn", "fp", "fn", "tp")
    yield table(head, rows, numbers=10, texts=1)


def _row(name: str, one: AtThreshold) -> Sequence[str]:
    (passed, alarms), (missed, caught) = one.confusion
    shares = (one.recall, one.precision, one.f1)
    counts = (passed, alarms, missed, caught)
    return (
        name, f"{one.threshold:.6f}", f"{one.false_positive_rate:.3%}", *(f"{share:.3f}" for share in shares),
        f"{one.accuracy:.4f}", *(f"{count:,}" for count in counts),
    )  # fmt: skip


def by_segment(measured: Measured, plan: FeaturePlan, review: float) -> Iterator[str]:
    """How the model does on parts: bands of the amount, and the first categories."""
    yield "<h2>Segments</h2>"
    for name in (AMOUNT, *plan.schema.categories[:_MOST_CATEGORIES]):
        parts = segments(measured, plan.schema, name, review, most=_MOST_VALUES)
        head = (name, "transactions", "frauds", "alarms", "of them right", "average precision", "recall at 1 % FPR")
        yield table(head, [_segment(one) for one in parts], numbers=6, texts=1) + "<p></p>"


def _segment(one: Segment) -> Sequence[str]:
    figures = ("-" if found is None else f"{found:.3f}" for found in (one.average_precision, one.recall_at_fpr))
    counts = (one.transactions, one.frauds, one.alarms, one.caught)
    return (escape(one.value), *(f"{count:,}" for count in counts), *figures)
