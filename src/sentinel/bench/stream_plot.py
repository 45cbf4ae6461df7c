"""The picture of `sentinel bench stream`: latency against offered load, by system."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from sentinel.bench.stream_benchmark import StreamReport
from sentinel.errors import DataProblem

_LINES = (("p50", "-"), ("p99", "--"))
_COLOURS = ("#6b7280", "#1f5fa8", "#c2410c", "#a16207")


def draw_stream(report: StreamReport, path: Path) -> None:
    """Write a PNG. Raises DataProblem when it cannot be written."""
    with mpl.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
        axes = figure.subplots()
        for system, colour in zip(report.systems, _COLOURS, strict=False):
            for key, style in _LINES:
                axes.plot(
                    [one.rate for one in system.loads], [one.latency_ms[key] for one in system.loads], style,
                    color=colour, marker="o", markersize=3,
                    label=f"{system.name} ({system.promises}): {key}",
                )  # fmt: skip
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("offered load, messages a second (open loop, Poisson arrivals)")
        axes.set_ylabel("from due to read, ms")
        axes.xaxis.set_major_formatter("{x:,g}")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_title(f"From Kafka to Kafka - {report.conditions['machine']}, {report.conditions['date']}", fontsize=9)
        axes.grid(visible=True, which="major", alpha=0.3)
        figure.legend(fontsize=8, frameon=False, loc="outside lower center", ncols=2)  # beside the lines, not on them
        try:
            figure.savefig(path)
        except OSError as error:
            raise DataProblem(f"{path} cannot be written: {error}") from error
