"""`sentinel rules`: conditions that people write, and what they would have done."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from sentinel.cli.options import Home, Json, settings_of
from sentinel.cli.terminal import tell
from sentinel.cli.thresholds import Delay, From, GivenCosts, To, told_against, told_period

rules = typer.Typer(
    help="Check rules, and see what they would have done with a period of the log.", no_args_is_help=True
)
_File = Annotated[Path, typer.Argument(help="A YAML file with a list of `rules` (docs/rules.md).")]
_Version = Annotated[str | None, typer.Option("--version", help="For the features of this model [the champion].")]
_SHOWN = 3


@rules.command("check")
def check(file: _File, version: _Version = None, home: Home = None, as_json: Json = False) -> None:
    """Whether all rules of a file can be read: their names, texts and times, by the fields and features of a model.

    What cannot be read is shown in its place, and the command ends with 1.
    """
    from sentinel.commands.rules import check_rules

    book, fits = check_rules(settings_of(home), file, version)
    lines = [f"{rule.state:<7}{rule.do:<10}{rule.name}: {rule.when}" for rule in book.rules]
    tell({"fits": fits, "rules": book.rules}, [f"{len(book.rules)} rules fit {fits}:", *lines], as_json=as_json)


@rules.command("backtest")
def backtest(
    file: _File,
    since: From = None,
    until: To = None,
    version: _Version = None,
    label_delay: Delay = None,
    costs: GivenCosts = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """What the rules of a file would have done with a period of the log: by rule, in all, and by day.

    From stored features and scores, upon what was decided then; nothing is changed.
    """
    from sentinel.commands.rules import backtest_rules
    from sentinel.commands.thresholds import Period

    period = Period(since=since, until=until, label_delay=label_delay, now_us=time.time_ns() // 1000)
    found = backtest_rules(settings_of(home), file, version, costs, period)
    tell(found, _told(found), as_json=as_json)


def _told(found: Any) -> Iterator[str]:
    yield from told_period(found)
    yield (
        f"{'rule':<28}{'does':<11}{'hits':>9}{'alone':>9}{'frauds':>9}{'of known':>10}{'precision':>11}"
        f"{'approved frauds':>17}{'their amount':>14}{'most a day':>12}"
    )
    for rule in found.rules:
        does = rule.do if rule.state == "on" else f"({rule.state})"
        precision = "-" if rule.precision is None else f"{rule.precision:.3f}"
        yield (
            f"{rule.name[:27]:<28}{does:<11}{rule.hits:>9,}{rule.alone:>9,}{rule.frauds:>9,}{rule.judged:>10,}"
            f"{precision:>11}{rule.approved_frauds:>17,}{rule.approved_amount:>14,.2f}{rule.busiest_day:>12,}"
        )
    for rule in found.rules:
        most = sorted(rule.overlaps.items(), key=lambda one: -one[1])[:_SHOWN]
        if most:
            yield f"  {rule.name} shares hits with {', '.join(f'{name} ({count:,})' for name, count in most)}"
    yield from told_against(found)
