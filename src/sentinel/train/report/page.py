"""The page that stands beside a bundle: one file that needs nothing else."""

from collections.abc import Iterator
from html import escape

from sentinel.events.times import iso
from sentinel.inspect.html_parts import facts_box, whole_page
from sentinel.model.bundle import Bundle
from sentinel.model.reasons import Explainer
from sentinel.train.figures.effects import costs_of
from sentinel.train.figures.evaluate import Metrics, baselines, evaluate
from sentinel.train.judging.doubts import doubts
from sentinel.train.report.inputs import drift, importance, worst_misses
from sentinel.train.report.money import cost_and_capacity
from sentinel.train.report.quality import by_segment, histogram, other_thresholds, ranking_and_calibration
from sentinel.train.rows.measured import Measured

_STYLE = """<style>
.two { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem } figure { margin: 0 }
figcaption { font-size: 13px; color: #445; min-height: 1.2em }
</style>"""


def report_of(bundle: Bundle, measured: Measured, explainer: Explainer | str) -> str:
    """The report of a bundle on rows that it did not learn from, as HTML.

    `explainer` may be a text: why the model cannot be explained.
    """
    plan, thresholds = bundle.manifest.plan, bundle.thresholds
    rankings = baselines(plan, measured.rows)
    metrics = evaluate(measured.scores, measured.labels, thresholds, rankings, measured.cards)
    parts = [_STYLE, *_head(bundle, measured, metrics)]
    parts += ranking_and_calibration(measured, thresholds, rankings)
    parts += cost_and_capacity(measured, thresholds, costs_of(bundle.manifest))
    parts += [*histogram(measured), *other_thresholds(measured, thresholds)]
    parts += by_segment(measured, plan, thresholds.review)
    parts += drift(measured, bundle.reference)
    if isinstance(explainer, str):
        parts.append(f'<h2>Importance</h2><p class="note">{escape(explainer)}</p>')
    else:
        parts += importance(measured, bundle.reference, explainer)
    parts += worst_misses(measured, plan.names, None if isinstance(explainer, str) else explainer)
    return whole_page(f"{bundle.manifest.version} of {bundle.manifest.detector}", parts)


def _head(bundle: Bundle, measured: Measured, metrics: Metrics) -> Iterator[str]:
    manifest = bundle.manifest
    yield f"<h1>{escape(manifest.version)} of {escape(manifest.detector)}</h1>"
    named = (
        ("average precision", metrics.average_precision), ("AUC ROC", metrics.auc_roc),
        ("recall at 1 % false alarms", metrics.recall_at_1pct_fpr),
    )  # fmt: skip
    facts = [(f"{one.value:.3f}", f"{name}, 95 %: {one.low:.3f} to {one.high:.3f}") for name, one in named]
    facts += [
        (f"{metrics.frauds:,} of {metrics.transactions:,}", f"frauds, of {metrics.cards:,} cards"),
        (f"{metrics.expected_frauds:,.1f}", "frauds expected by the scores"),
        (f"{metrics.calibration_error:.5f}", "calibration error"),
    ]
    yield facts_box(facts)
    first, last = (iso(int(measured.time_us[n]))[:16] for n in (0, -1))
    yield f"<p>Measured on {escape(measured.said)}: {first} to {last}. Trained {escape(manifest.created_at)} on "
    yield f"{manifest.history.transactions:,} transactions. Intervals are of a bootstrap over cards.</p>"
    yield from (f'<p class="warn">{escape(one)}</p>' for one in doubts(metrics, manifest.training))
