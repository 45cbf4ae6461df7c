"""`sentinel models thresholds` and `what-if`: what thresholds do, in money and work."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from sentinel.cli.options import Home, Json, settings_of
from sentinel.cli.terminal import tell
from sentinel.cli.training import told_apart

_Version = Annotated[str, typer.Argument(help="Which model, as v3.")]
From = Annotated[str | None, typer.Option("--from", help="Of the log: received from then on (ISO 8601 or Unix).")]
To = Annotated[str | None, typer.Option("--to", help="Of the log: received before that.")]
Delay = Annotated[
    str | None,
    typer.Option("--label-delay", help="Of the log: what is older and nobody told of counts as legitimate, as 30d."),
]
GivenCosts = Annotated[
    str | None, typer.Option("--costs", help="Other costs than the policy's, as review=4,false_alarm=12.")
]


def thresholds(
    version: _Version,
    move: Annotated[
        str, typer.Option("--move", help="Which threshold to move: challenge, review or block.")
    ] = "review",
    since: From = None,
    until: To = None,
    label_delay: Delay = None,
    costs: GivenCosts = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="PNG file for the picture of it.")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """What each threshold would do: cost, precision, recall, and how many are challenged, reviewed and blocked a day.

    On the test part of the model's history, or with --from and --to on what the log has, as far as outcomes are known.
    """
    from sentinel.commands.thresholds import Period, fewer, sweep_thresholds

    period = Period(since=since, until=until, label_delay=label_delay, now_us=time.time_ns() // 1000)
    sweep = sweep_thresholds(settings_of(home), version, move, costs, period)
    if plot is not None:
        from sentinel.commands.threshold_plot import plot_sweep

        plot_sweep(sweep, plot)
    now, cheapest = sweep.now.thresholds, sweep.cheapest.thresholds
    others = [row for row in fewer(sweep) if row.thresholds != now]
    lines = [f"{version}, on {sweep.measured_on} ({sweep.days:.1f} days)", _COSTS.format(costs=sweep.costs), _HEAD]
    for row in sorted([*others, sweep.now], key=lambda row: _of(row, move)):
        marks = [text for text, one in (("as it is", now), ("cheapest", cheapest)) if row.thresholds == one]
        lines.append(_row(row, move, ", ".join(marks)))
    if plot is not None:
        lines.append(f"the picture is in {plot}")
    tell(sweep, lines, as_json=as_json)


def what_if(
    version: _Version,
    since: From = None,
    until: To = None,
    challenge: Annotated[float | None, typer.Option("--challenge", help="Challenge from this probability on.")] = None,
    review: Annotated[float | None, typer.Option("--review", help="Review from this probability on.")] = None,
    block: Annotated[float | None, typer.Option("--block", help="Block from this probability on.")] = None,
    label_delay: Delay = None,
    costs: GivenCosts = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """What other thresholds would have done with a period of the log: actions, money, and work by day.

    Its stored scores are compared with these thresholds; without any, with those that the model was trained with.
    """
    from sentinel.commands.thresholds import MOVABLE, Period, ask_what_if

    given = dict(zip(MOVABLE, (challenge, review, block), strict=True))
    period = Period(since=since, until=until, label_delay=label_delay, now_us=time.time_ns() // 1000)
    found = ask_what_if(settings_of(home), version, given, costs, period)
    tell(found, _told(found), as_json=as_json)


_COSTS = (
    "costs: a missed fraud {costs.missed_fraud_share:g} of its amount and {costs.missed_fraud:g}, a false alarm "
    "{costs.false_alarm:g}, a review {costs.review:g}, a challenge {costs.challenge:g} (loses "
    "{costs.challenge_lost:g} of customers, stops {costs.challenge_stops:g} of frauds)"
)
_HEAD = (
    f"{'from':>10}  {'cost a day':>12}  {'precision':>9}  {'recall':>6}  {'F1':>5}  "
    f"{'challenges':>10}  {'reviews':>8}  {'blocks':>8}  a day"
)


def _of(row: Any, move: str) -> float:
    return getattr(row.thresholds, move) or 0.0


def _row(row: Any, move: str, mark: str) -> str:
    at = getattr(row.thresholds, move)
    return (
        f"{'never' if at is None else told_apart(at, []):>10}  {row.cost_a_day:>12,.2f}  {_share(row.precision):>9}  "
        f"{_share(row.recall):>6}  {_share(row.f1):>5}  {row.challenges_a_day:>10,.1f}  {row.reviews_a_day:>8,.1f}  "
        f"{row.blocks_a_day:>8,.1f}  {mark}"
    )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _told(found: Any) -> Iterator[str]:
    yield from told_period(found)
    begins = {name: getattr(found.thresholds, name) for name in ("challenge", "review", "block")}
    shown = [f"{name} from {told_apart(at, list(begins.values()))}" for name, at in begins.items() if at is not None]
    yield f"with {', '.join(shown)}:"
    yield from told_against(found)


def told_period(found: Any) -> Iterator[str]:
    """Which transactions are spoken of, and what they cost, as lines."""
    yield (
        f"{found.transactions:,} transactions scored by {found.version} from {found.since} to {found.until}; outcome "
        f"and amount are known of {found.judged:,}, {found.frauds:,} of them fraud"
    )
    yield _COSTS.format(costs=found.costs)


def told_against(found: Any) -> Iterator[str]:
    """What was decided beside what would have been, as lines."""
    yield f"{'':<24}{'as it was':>14}{'would be':>14}"
    for action in found.was.decisions:
        yield f"{action:<24}{found.was.decisions[action]:>14,}{found.would_be.decisions[action]:>14,}"
    for name, text in (("caught", "frauds found"), ("missed", "frauds missed"), ("false_alarms", "false alarms")):
        yield f"{text:<24}{getattr(found.was, name):>14,}{getattr(found.would_be, name):>14,}"
    if found.judged:
        yield f"{'cost':<24}{found.was.cost:>14,.2f}{found.would_be.cost:>14,.2f}"
    busiest = [f"{day.review:,} on {day.date}" for day in (found.was.busiest, found.would_be.busiest)]
    yield f"most reviews in a day: {busiest[0]}, would be {busiest[1]}"
    yield f"{'':<12}{'challenged':>20}{'reviewed':>20}{'blocked':>20}   (was, would be)"
    for was, new in zip(found.was.days, found.would_be.days, strict=True):
        pairs = [f"{getattr(was, name):,}, {getattr(new, name):,}" for name in ("challenge", "review", "block")]
        yield f"{was.date:<12}" + "".join(f"{pair:>20}" for pair in pairs)
    if found.frauds == found.judged:
        yield (
            "note: no transaction is known to be legitimate, so false alarms cost nothing here, and the lower a "
            "threshold the better it looks: --label-delay 30d counts what is older and nobody told of as legitimate"
        )
    if found.blocked_unknown:
        yield (
            f"note: {found.blocked_unknown:,} were blocked and have no outcome: what milder decisions would have cost "
            "is told from the others"
        )
