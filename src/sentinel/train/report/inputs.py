"""What the model looks at: which features matter, how, where they have drifted, and what it got most wrong."""

from collections.abc import Iterator, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from sentinel.inspect.charts import CALM, LOUD, meter
from sentinel.inspect.html_parts import table
from sentinel.model.reasons import Explainer
from sentinel.model.reference import ColumnReference, Kind, Reference, bin_counts, ordered_values
from sentinel.review.drift_bounds import psi
from sentinel.train.report.curves import GREEN, swarm
from sentinel.train.rows.measured import Measured

_EXPLAINED, _DOTS = 800, 140
_SHOWN, _SWARMED, _MISSES, _REASONS = 20, 12, 8, 4
_MISSING = "#c9ced6"


def importance(measured: Measured, reference: Reference, explainer: Explainer, seed: int = 42) -> Iterator[str]:
    """How much each feature moves the log-odds on average, and in which direction its values do."""
    names, kinds = [one.name for one in reference.features], [one.kind for one in reference.features]
    chosen = _some(measured, seed)
    rows = measured.rows[chosen]
    added = explainer.contributions(rows)
    weight = np.abs(added).mean(axis=0)
    order = [int(n) for n in np.argsort(-weight, kind="stable") if weight[n] > 0]
    yield "<h2>Importance</h2>"
    yield f"<p>Shapley values of the model's own trees, exact, on {len(chosen):,} of the rows, frauds among them.</p>"
    most = max(float(weight.max(initial=0.0)), 1e-12)
    shown = [
        (f"{meter(weight[n] / most)}{weight[n]:.4f}", f"<b>{escape(names[n])}</b>") for n in order[:_SHOWN]
    ]  # fmt: skip
    yield table(("moves the log-odds by", "feature"), shown)
    yield "<p>Each dot is a row: to the right it spoke for fraud. "
    yield f'<span class="key" style="background:{CALM}"></span>low values'
    yield f'<span class="key" style="background:{LOUD}"></span>high values'
    yield f'<span class="key" style="background:{GREEN}"></span>a category, which is neither'
    yield f'<span class="key" style="background:{_MISSING}"></span>missing</p>'
    few = slice(None, None, max(len(chosen) // _DOTS, 1))
    top = order[:_SWARMED]
    colours = [_shades(rows[few, n], kinds[n]) for n in top]
    yield swarm([names[n] for n in top], [added[few, n] for n in top], colours, "log-odds")


def drift(measured: Measured, reference: Reference) -> Iterator[str]:
    """How the rows differ from those that were learned from, by the population stability index."""
    found = [(_psi(column, measured.rows[:, n]), column) for n, column in enumerate(reference.features)]
    found.append((_psi(reference.score, measured.scores), reference.score))
    found = sorted((one for one in found if one[1].kind != "time"), key=lambda one: -one[0])
    yield "<h2>Drift</h2><p>Population stability index of these rows against what the model learned from; of the "
    yield "score, against the part of its history after that. Above 0.1 something has moved, above 0.25 it is another "
    yield "distribution.</p>"
    rows = [
        (
            f"{meter(value / 0.5, LOUD if value > 0.25 else CALM)}{value:.4f}", _usual(column),
            f"<b>{escape(column.name)}</b>",
        )
        for value, column in found[:_SHOWN]
    ]  # fmt: skip
    yield table(("PSI", "mean in learning", "feature"), rows)


def worst_misses(measured: Measured, names: Sequence[str], explainer: Explainer | None) -> Iterator[str]:
    """The frauds with the lowest scores and the others with the highest: features and score, and nobody's name."""
    measured = measured.once()
    yield "<h2>Worst misses</h2>"
    for kind, told, sign in ((1, "Frauds with the lowest scores", 1), (0, "Legitimate rows with the highest", -1)):
        where = np.flatnonzero(measured.labels == kind)
        worst = where[np.argsort(sign * measured.scores[where], kind="stable")[:_MISSES]]
        rows = [(f"{measured.scores[n]:.6f}", _why(measured.rows[n], names, explainer)) for n in worst]
        yield f"<p>{told}</p>{table(('score', 'what moved it most'), rows, numbers=1)}"


def _why(row: NDArray[np.float32], names: Sequence[str], explainer: Explainer | None) -> str:
    if explainer is None:
        return "; ".join(
            f"{escape(name)} = {value:.5g}" for name, value in list(zip(names, row, strict=True))[:_REASONS]
        )
    reasons = explainer.explain(row.astype(np.float64), _REASONS).reasons
    return "; ".join(
        f"{escape(one.feature)} = {'missing' if one.value is None else f'{one.value:.5g}'} ({one.contribution:+.2f})"
        for one in reasons
    )


def _some(measured: Measured, seed: int) -> NDArray[np.int64]:
    """Rows to explain: half of them frauds, where there are so many."""
    rng, chosen = np.random.default_rng(seed), []
    for kind in (1, 0):
        where = np.flatnonzero(measured.labels == kind)
        chosen.append(rng.choice(where, min(_EXPLAINED // 2, len(where)), replace=False))
    return rng.permutation(np.concatenate(chosen))


def _shades(values: NDArray[np.float32], kind: Kind) -> list[str]:
    """A colour for each value, by its rank among the others; equal values are in the middle of their ranks.

    Codes of a category have no order: all of them have one colour.
    """
    if kind == "categorical":
        return [_MISSING if np.isnan(value) else GREEN for value in values]
    present = np.sort(values[~np.isnan(values)])
    below, upto = (np.searchsorted(present, values, side=side) for side in ("left", "right"))
    ranks = (below + upto) / 2 / max(len(present), 1)
    return [_MISSING if np.isnan(value) else _between(rank) for value, rank in zip(values, ranks, strict=True)]


def _between(share: float) -> str:
    low, high = ([int(colour[n : n + 2], 16) for n in (1, 3, 5)] for colour in (CALM, LOUD))
    mixed = (round(a + (b - a) * share) for a, b in zip(low, high, strict=True))
    return "#" + "".join(f"{one:02x}" for one in mixed)


def _psi(column: ColumnReference, values: NDArray[np.float32]) -> float:
    ordered, missing = ordered_values(values)
    counts = bin_counts(column.kind, ordered, missing, np.array(column.edges, np.float32))
    base = np.array(column.counts, np.int64)
    return psi(counts, base) if len(counts) == len(base) else 0.0


def _usual(column: ColumnReference) -> str:
    return f"{column.moments.mean:.4g}" if column.moments is not None else ""
