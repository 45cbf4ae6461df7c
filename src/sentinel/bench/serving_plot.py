"""The picture of `sentinel bench serve`: latency against offered load."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from sentinel.bench.serving_benchmark import Measured, ServingReport
from sentinel.errors import DataProblem

_LINES = (("p50_ms", "-", "p50"), ("p99_ms", "--", "p99"), ("p99_9_ms", ":", "p99.9"))
_KINDS = (("predict distinct at", "/predict, all different", "#1f5fa8"), ("score at", "/v1/score, durable", "#c2410c"))


def draw_latency(report: ServingReport, path: Path) -> None:
    """Write a PNG. Raises DataProblem when it cannot be written."""
    with mpl.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
        axes = figure.subplots()
        for prefix, label, colour in _KINDS:
            loads = [one for one in report.loads if one.name.startswith(prefix)]
            for key, style, name in _LINES:
                axes.plot(
                    [_rate(one) / 1000 for one in loads], [one.figures[key] for one in loads],
                    style, color=colour, marker="o", markersize=3, label=f"{label}: {name}",
                )  # fmt: skip
        axes.set_yscale("log")
        axes.set_xlabel("offered load, thousand requests a second (open loop, Poisson arrivals)")
        axes.set_ylabel("latency from the intended time, ms")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_title(f"Server on one core - {report.conditions['machine']}, {report.conditions['date']}", fontsize=9)
        axes.grid(visible=True, which="major", alpha=0.3)
        figure.legend(fontsize=8, frameon=False, loc="outside lower center", ncols=2)  # beside the lines, not on them
        try:
            figure.savefig(path)
        except OSError as error:
            raise DataProblem(f"{path} cannot be written: {error}") from error


def _rate(load: Measured) -> float:
    return float(load.rate or 0)
