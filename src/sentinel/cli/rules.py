"""`sentinel rules`: conditions that people write, what they would have done, and which of them are in force."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from sentinel.cli.options import Home, Json, settings_of
from sentinel.cli.terminal import tell
from sentinel.cli.thresholds import Delay, From, GivenCosts, To, told_against, told_period
from sentinel.commands.terminal import shown
from sentinel.errors import InvalidDefinition

rules = typer.Typer(help="Check rules, see what they would have done, and bring them in force.", no_args_is_help=True)
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
    lines = [f"{rule.state:<7}{rule.do:<10}{shown(rule.name)}: {shown(rule.when)}" for rule in book.rules]
    tell({"fits": fits, "rules": book.rules}, [f"{len(book.rules)} rules fit {fits}:", *lines], as_json=as_json)


@rules.command("backtest")
def backtest(
    file: _File,
    since: From = None,
    until: To = None,
    version: _Version = None,
    label_delay: Delay = None,
    costs: GivenCosts = None,
    in_lines: Annotated[bool, typer.Option("--progress-in-lines", hidden=True)] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """What the rules of a file would have done with a period of the log: by rule, in all, and by day.

    From stored features and scores, upon what was decided then; nothing is changed.
    """
    from sentinel.commands.progress import line_of_progress
    from sentinel.commands.rules import backtest_rules
    from sentinel.commands.thresholds import Period

    period = Period(since=since, until=until, label_delay=label_delay, now_us=time.time_ns() // 1000)
    stage = line_of_progress if in_lines else None
    found = backtest_rules(settings_of(home), file, version, costs, period, stage)
    tell(found, _told(found), as_json=as_json)


_Note = Annotated[str, typer.Option("--note", "-m", help="Why, in words for whoever looks at it later.")]


@rules.command("draft")
def draft(file: _File, note: _Note = "", home: Home = None, as_json: Json = False) -> None:
    """Write the rules of a file down as a draft, which decides nothing until it is applied.

    It is tried on the last four weeks of the log first: how often a rule held by day is its band.
    """
    from sentinel.commands.rules_in_force import draft_rules

    done = draft_rules(settings_of(home), file, note)
    tell(done, [f"draft {done.draft} is written; `sentinel rules apply --draft {done.draft}` brings it in force"],
         as_json=as_json)  # fmt: skip


@rules.command("apply")
def apply(
    file: Annotated[Path | None, typer.Argument(help="A YAML file, which is drafted and applied.")] = None,
    number: Annotated[int | None, typer.Option("--draft", help="A draft that was written before.")] = None,
    note: _Note = "",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Bring rules in force, from the next decision on: those of a file, or a draft."""
    from sentinel.commands.rules_in_force import apply_draft, draft_rules

    if (file is None) == (number is None):
        raise InvalidDefinition("give a file, or --draft with the number of one that was written before")
    settings = settings_of(home)
    chosen = draft_rules(settings, file, note).draft if file is not None else number
    done = apply_draft(settings, int(chosen or 0), note)
    tell({"draft": done}, [f"draft {done} is in force"], as_json=as_json)


@rules.command("diff")
def diff(
    file: Annotated[Path | None, typer.Argument(help="A YAML file.")] = None,
    number: Annotated[int | None, typer.Option("--draft", help="A draft, in the place of a file.")] = None,
    against: Annotated[int | None, typer.Option("--against", help="Another draft [what is in force].")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Say what a file or a draft changes, rule by rule, against what is in force or another draft."""
    from sentinel.commands.rules_in_force import diff_rules

    if (file is None) == (number is None):
        raise InvalidDefinition("give a file, or --draft with the number of one that was written before")
    found = diff_rules(settings_of(home), file, number, against)
    lines = [shown(one) for one in found.sentences]
    tell({"changes": found, "sentences": found.sentences}, lines or ["nothing changes"], as_json=as_json)


@rules.command("rollback")
def rollback(note: _Note = "", home: Home = None, as_json: Json = False) -> None:
    """Bring the rules back in force that were before these; before the first ones there were none."""
    from sentinel.commands.rules_in_force import roll_back_rules

    done = roll_back_rules(settings_of(home), note)
    tell({"draft": done}, [f"{_named(done)} {'is' if done else 'are'} in force again"], as_json=as_json)


@rules.command("show")
def show(
    number: Annotated[int | None, typer.Option("--draft", help="A draft [what is in force].")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show the rules in force, or a draft: what each does and when, its band, and whether it was demoted."""
    from sentinel.commands.rules_in_force import rules_in_force, shown_draft

    settings = settings_of(home)
    found = rules_in_force(settings) if number is None else shown_draft(settings, number)
    if found is not None and getattr(found, "draft", None) == 0:
        tell({"rules": found}, [f"no rules are in force: {shown(found.note)}"], as_json=as_json)
        return
    if found is None:
        tell({"rules": None}, ["no rules were ever in force"], as_json=as_json)
        return
    demoted = getattr(found, "demoted", {})
    lines = [f"draft {number or getattr(found, 'draft', '')}, by {shown(found.author)}: {shown(found.note) or '-'}"]
    for rule in found.book.all_rules:
        band = rule.band or found.bands.get(rule.name)
        told = f" [{band[0]:.2%} to {band[1]:.2%} of a day]" if band else ""
        lines.append(f"{rule.state:<7}{rule.do:<10}{shown(rule.name)}: {shown(rule.when)}{shown(told)}")
    lines += [f"[yellow]demoted:[/yellow] {shown(name)} {shown(why)}" for name, why in demoted.items()]
    tell({"rules": found}, lines, as_json=as_json)


@rules.command("history")
def history(
    most: Annotated[int, typer.Option("--limit", help="How many of each.", min=1)] = 20,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show what was in force and what was drafted, the newest first: by whom, when, and why."""
    from sentinel.commands.rules_in_force import rules_history

    found = rules_history(settings_of(home), most)
    lines = [
        f"{one['applied_at']}  {_named(one['draft'])} applied, "
        f"by {shown(one['applied_by'])}: {shown(one['note']) or '-'}"
        + (f"; demoted: {shown(', '.join(one['demoted']))}" if one["demoted"] else "")
        for one in found["applied"]
    ]
    lines += [
        f"{one['drafted_at']}  draft {one['number']} written, by {shown(one['author'])}: {shown(one['note']) or '-'}"
        for one in found["drafts"]
    ]
    tell(found, lines or ["there never were any rules"], as_json=as_json)


@rules.command("snooze")
def snooze(
    rule: Annotated[str, typer.Argument(help="A rule in force.")],
    by: Annotated[str, typer.Argument(help="A key of transactions, as card_id.")],
    value: Annotated[str, typer.Argument(help="Its value, in clear text.")],
    until: Annotated[str | None, typer.Option("--until", help="When it wakes again (ISO 8601).")] = None,
    wake: Annotated[bool, typer.Option("--wake", help="Wake it now.")] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why.")] = "",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Let a rule sleep for one key until a moment, or wake it: for all others it goes on."""
    from sentinel.commands.lists import snooze_rule
    from sentinel.record.list_files import Entry

    snooze_rule(settings_of(home), rule, by, Entry(value=value, reason=reason, until=until, remove=wake))
    said = "is awake" if wake else f"sleeps until {until}"
    tell({"rule": rule, "by": by, "awake": wake}, [f"{shown(rule)} {said} for {shown(by)} {shown(value)}"],
         as_json=as_json)  # fmt: skip


def _named(draft: int) -> str:
    return f"draft {draft}" if draft else "no rules"


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
            f"{shown(f'{rule.name[:27]:<28}')}{does:<11}{rule.hits:>9,}{rule.alone:>9,}{rule.frauds:>9,}{rule.judged:>10,}"
            f"{precision:>11}{rule.approved_frauds:>17,}{rule.approved_amount:>14,.2f}{rule.busiest_day:>12,}"
        )
    for rule in found.rules:
        most = sorted(rule.overlaps.items(), key=lambda one: -one[1])[:_SHOWN]
        if most:
            yield shown(f"  {rule.name} shares hits with {', '.join(f'{name} ({count:,})' for name, count in most)}")
    yield from told_against(found)
    if found.in_force is not None:
        yield (
            f"the book in force would have found {found.in_force.caught:,} frauds, missed "
            f"{found.in_force.missed:,} and disturbed {found.in_force.false_alarms:,} others, for "
            f"{found.in_force.cost:,.2f}"
        )
