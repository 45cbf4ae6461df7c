"""Plots of how scores tell frauds from the rest, as PNG. No transaction can be read in them."""

from collections.abc import Mapping
from io import BytesIO

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve

_CALM, _LOUD = "#4f77a8", "#c2413b"
_BINS = 40


def plots_of(
    scores: NDArray[np.float32], labels: NDArray[np.int8], thresholds: Mapping[str, float | None]
) -> dict[str, bytes]:
    """PNG files by name: precision against recall, and how scores are distributed, with the thresholds in both."""
    return {
        "precision_recall.png": _precision_recall(scores, labels, thresholds),
        "scores.png": _histogram(scores, labels, thresholds),
    }


def _precision_recall(
    scores: NDArray[np.float32], labels: NDArray[np.int8], thresholds: Mapping[str, float | None]
) -> bytes:
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.subplots()
    precision, recall, _ = precision_recall_curve(labels, scores)
    axes.step(recall, precision, where="post", color=_CALM)
    for name, threshold in thresholds.items():
        alarms = scores >= threshold if threshold is not None else np.zeros(len(scores), bool)
        caught = int(np.count_nonzero(alarms & (labels == 1)))
        if threshold is not None and caught:
            axes.plot(caught / np.count_nonzero(labels == 1), caught / np.count_nonzero(alarms), "o", label=name)
            axes.legend(loc="best")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title="Test part")
    return _png(figure)


def _histogram(scores: NDArray[np.float32], labels: NDArray[np.int8], thresholds: Mapping[str, float | None]) -> bytes:
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.subplots()
    edges = np.linspace(0.0, 1.0, _BINS + 1).tolist()
    for label, name, color in ((0, "legitimate", _CALM), (1, "fraud", _LOUD)):
        axes.hist(scores[labels == label], edges, histtype="step", color=color, label=name)
    for name, threshold in thresholds.items():
        if threshold is not None:
            axes.axvline(threshold, linestyle=":", color="black")
            axes.annotate(name, (threshold, 1.0), xycoords=("data", "axes fraction"), rotation=90, va="top", ha="right")
    axes.set(xlabel="score", ylabel="transactions", yscale="symlog", xlim=(0, 1), title="Test part")
    axes.legend(loc="upper right")
    return _png(figure)


def _png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    written = BytesIO()
    figure.savefig(written, format="png", dpi=110, metadata={"Software": None})
    return written.getvalue()
