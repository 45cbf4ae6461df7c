"""`sentinel rules draft`, `apply` and `rollback`: books come in force, by the server or in its place."""

from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from sentinel.commands.owner import ask_owner
from sentinel.commands.registry_of_home import registry_of
from sentinel.commands.rules import backtest_rules, check_rules
from sentinel.commands.thresholds import Period
from sentinel.config import Settings
from sentinel.errors import DeploymentRefused, InvalidDefinition, InvalidInput
from sentinel.events.times import SECOND_US, clock_us, iso
from sentinel.model.bundle import read_manifest
from sentinel.policy.deployment import LEAST_OF_A_BAND, Deployment, RulesInForce
from sentinel.policy.rules.book import Book, read_book
from sentinel.policy.rules.changes import Changes, changes_between
from sentinel.policy.rules.hits import BookHits
from sentinel.record.applied import Change, HomeDeployment, by_this_user
from sentinel.record.audit import By
from sentinel.record.file_log import FileLog
from sentinel.record.home_reader import open_log
from sentinel.record.log import LogReader
from sentinel.record.rules_applying import Bands, bringing_back, bringing_in, summary, write_draft
from sentinel.record.rules_history import Draft, draft_of, drafts, rules_applied

TRIED_DAYS = 28
"""How far back a draft is tried, to learn how often its rules hold."""


class Drafted(msgspec.Struct, frozen=True):
    """A draft that was written down: its number, and by rule the lowest and the highest share of a day's decisions."""

    draft: int
    bands: Bands


def draft_rules(settings: Settings, path: Path, note: str) -> Drafted:
    """Write the book of a file down as a draft, tried on the newest decisions where there are any.

    Raises InvalidDefinition for what cannot be read, or holds for far more than its band says, DeploymentRefused when
    the server that owns the log says no.
    """
    book, version = check_rules(settings, path, None)
    bands = _bands(settings, path, version)
    _check_bands(book, bands)
    asked = {"book": msgspec.to_builtins(book), "note": note, "bands": bands}
    answer = ask_owner(settings, "/v1/rules/drafts", asked)
    if answer is not None:
        return Drafted(int(answer["draft"]), bands)
    by = by_this_user("rules draft", note)

    def write(log: FileLog, now_us: int) -> Draft:
        return write_draft(log, book, by, note, bands, now_us)[0]

    return Drafted(HomeDeployment(settings.home).as_writer(write).number, bands)


def apply_draft(settings: Settings, number: int, note: str) -> int:
    """Make a draft the book in force; its number. Raises NotFound, DeploymentRefused, InvalidDefinition."""
    answer = ask_owner(settings, "/v1/rules/apply", {"draft": number, "note": note})
    if answer is not None:
        return int(answer["draft"])

    def change(log: LogReader, by: By, now_us: int) -> Change:
        if draft_of(log, number).listed:
            raise DeploymentRefused(f"draft {number} has entries of lists; apply it while a server runs")
        return bringing_in(log, number, by, note, now_us, needs_two=settings.rules_need_two)

    return _change(settings, "rules apply", note, change)


def roll_back_rules(settings: Settings, note: str) -> int:
    """Make the book before the one in force the book in force again; its draft. Raises DeploymentRefused."""
    answer = ask_owner(settings, "/v1/rules/rollback", {"note": note})
    if answer is not None:
        return int(answer["draft"])

    def change(log: LogReader, by: By, now_us: int) -> Change:
        return bringing_back(log, by, note, now_us, needs_two=settings.rules_need_two)

    return _change(settings, "rules rollback", note, change)


def diff_rules(settings: Settings, path: Path | None, number: int | None, against: int | None) -> Changes:
    """What a file, or a draft, changes against another draft, or against what is in force.

    Raises InvalidDefinition for a file that cannot be read, NotFound for a draft that there is not.
    """

    def book_of(draft: int | None) -> Book:
        rules = None if draft is not None else rules_in_force(settings)
        if draft is None:
            return Book() if rules is None else rules.book
        return shown_draft(settings, draft).book

    after = book_of(number) if path is None else read_book(path)
    return changes_between(book_of(against), after)


def _change(settings: Settings, what: str, note: str, how: Any) -> int:
    """The same without a server: with the writer's lock nobody else changes anything meanwhile."""
    home, by = HomeDeployment(settings.home), by_this_user(what, note)
    with closing(open_log(settings.home)) as log:
        change: Change = how(log, by, clock_us())

    def checked(before: Deployment) -> Deployment:
        after = change(before)
        assert after.rules is not None  # noqa: S101 - there are some after either change
        _check_fits(settings, after.rules.book, before.champion)
        return after

    rules = home.change(checked, by).rules
    assert rules is not None  # noqa: S101 - just applied
    return rules.draft


def _check_fits(settings: Settings, book: Book, champion: str | None) -> None:
    if champion is not None:
        plan = read_manifest(registry_of(settings).path(champion)).plan
        BookHits(book, plan.schema, plan.names)


def rules_in_force(settings: Settings) -> RulesInForce | None:
    """The book in force; None before there ever was one."""
    return HomeDeployment(settings.home).read().rules


def shown_draft(settings: Settings, number: int) -> Draft:
    """A draft with its text. Raises NotFound."""
    with closing(open_log(settings.home)) as log:
        return draft_of(log, number)


def rules_history(settings: Settings, most: int) -> dict[str, list[dict[str, Any]]]:
    """What was in force and what was drafted, the newest first, as far as the log is kept."""
    with closing(open_log(settings.home)) as log:
        applied = [msgspec.to_builtins(one) for one in islice(rules_applied(log), most)]
        return {
            "applied": [{name: one[name] for name in one if name not in ("book", "bands")} for one in applied],
            "drafts": [dict(summary(one)) for one in islice(drafts(log), most)],
        }


def _bands(settings: Settings, path: Path, version: str) -> Bands:
    """How often each rule held lately, by day; of nothing where nothing was decided lately."""
    now_us = clock_us()
    since = iso(now_us - TRIED_DAYS * 86_400 * SECOND_US)
    period = Period(since=since, until=None, label_delay=None, now_us=now_us)
    try:
        found = backtest_rules(settings, path, version, None, period)
    except InvalidInput:  # nothing was decided then
        return {}
    return {one.name: one.band for one in found.rules if one.band is not None}


def _check_bands(book: Book, bands: Bands) -> None:
    """Raise InvalidDefinition for a rule that would be a shadow at once."""
    for rule in book.rules:
        tried = bands.get(rule.name)
        if rule.band is None or tried is None:
            continue
        if tried[1] > max(rule.band[1], LEAST_OF_A_BAND) * book.demote_at:
            raise InvalidDefinition(
                f"rule {rule.name!r} would have held for up to {tried[1]:.2%} of a day's decisions, and its band says "
                f"at most {rule.band[1]:.2%}: is a number in it right? If it is meant, change the band"
            )
