"""The picture of a sweep: cost, quality and work against a threshold."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sentinel.commands.thresholds import Sweep
from sentinel.errors import DataProblem

_LOADS = (("challenges_a_day", "challenged"), ("reviews_a_day", "reviewed"), ("blocks_a_day", "blocked"))


def plot_sweep(sweep: Sweep, out: Path) -> None:
    """Write it as a PNG. Raises DataProblem where that cannot be."""
    if out.suffix != ".png":
        raise DataProblem(f"{out}: plots are written as PNG; end the name in .png")
    rows = [row for row in sweep.rows if _at(sweep, row) > 0]
    at = [_at(sweep, row) for row in rows]
    figure = Figure(figsize=(9, 10), layout="constrained")
    money, quality, work = figure.subplots(3, sharex=True)
    figure.suptitle(f"{sweep.version}: the threshold of {sweep.moved}, on {sweep.measured_on}")
    money.step(at, [row.cost_a_day for row in rows], where="pre", color="tab:red")
    money.set_ylabel("cost a day")
    for name in ("precision", "recall", "f1"):
        points = [(x, getattr(row, name)) for x, row in zip(at, rows, strict=True) if getattr(row, name) is not None]
        quality.step(*zip(*points, strict=True), label=name) if points else None
    quality.set_ylabel("share")
    for name, label in _LOADS:
        work.plot(at, [getattr(row, name) for row in rows], label=f"{label} a day")
    work.set_yscale("symlog", linthresh=1)
    work.set_ylabel("transactions a day")
    work.set_xlabel(f"{sweep.moved} from this fraud probability on")
    for axes in (money, quality, work):
        _mark(axes, sweep)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, dpi=110)
    except OSError as error:
        raise DataProblem(f"{out} cannot be written: {error.strerror}; choose another place") from error


def _mark(axes: Axes, sweep: Sweep) -> None:
    """Where the threshold is, and where it would cost least."""
    axes.set_xscale("log")
    axes.grid(alpha=0.3)
    for row, style, label in ((sweep.now, "--", "as it is"), (sweep.cheapest, ":", "cheapest")):
        if _at(sweep, row) > 0:
            axes.axvline(_at(sweep, row), color="black", linestyle=style, label=label)
    axes.legend(loc="best", fontsize="small")


def _at(sweep: Sweep, row: object) -> float:
    return getattr(row.thresholds, sweep.moved) or 0.0  # type: ignore[attr-defined]
