"""Applying: a draft of rules is written down, comes in force, and the one before it again, with who and why."""

from itertools import takewhile
from typing import NamedTuple

import msgspec

from sentinel.errors import DeploymentRefused, NotFound
from sentinel.events.card_numbers import masked_ends
from sentinel.events.columns import OPERATOR
from sentinel.events.times import iso
from sentinel.policy.deployment import NO_DRAFT, Deployment, RulesInForce
from sentinel.policy.rules.book import Book
from sentinel.record import audit
from sentinel.record.applied import Change, deployment_in
from sentinel.record.audit import By, append_change
from sentinel.record.log import Log, LogReader
from sentinel.record.rules_history import (
    Draft,
    OfVersion,
    ToldOfList,
    append_draft,
    deployment_before,
    draft_of,
    drafts,
    next_number,
)

LONGEST_NOTE = 500
"""Characters of a note."""

UNNAMED = (OPERATOR, "admin-key", "anyone")
"""Callers that may be anybody at the machine."""

_MOST_NEWER = 100
VIA = " via "
"""Between a person's name and that of the key that speaks for it; neither has a space in it."""

Bands = dict[str, tuple[float, float]]


class Brings(NamedTuple):
    """What a draft brings beside its book."""

    thresholds: OfVersion | None = None
    listed: tuple[ToldOfList, ...] = ()


_NOTHING = Brings()


class Edited(NamedTuple):
    """Which draft was edited, and the newest that there was when that began."""

    after: int
    seen: int


def write_draft(
    log: Log, book: Book, by: By, note: str, bands: Bands, now_us: int, edited: Edited | None = None,
    brings: Brings = _NOTHING,
) -> tuple[Draft, int]:  # fmt: skip
    """Write a draft to the log after its entry of the audit; it, and its position.

    Raises DeploymentRefused where somebody has edited the same draft meanwhile, StorageProblem.
    """
    if edited is not None:
        _check_alone(log, edited)
    after = None if edited is None else edited.after
    draft = Draft(next_number(log), book, by.who, _told(note), iso(now_us), bands, after, *brings)
    said: dict[str, object] = {
        "draft": draft.number,
        "rules": len(book.rules),
        "lists": len(book.lists),
        "note": draft.note,
    }
    if brings.thresholds is not None:
        said["thresholds"] = msgspec.to_builtins(brings.thresholds)
    if brings.listed:
        said["entries"] = {one.list: len(one.entries) for one in brings.listed}
    append_change(log, audit.Change.of(by, {}, said, now_us), now_us)
    return draft, append_draft(log, draft, now_us)


def told_now(draft: Draft, now_us: int) -> list[ToldOfList]:
    """What a draft tells of lists if it comes in force now: what should have begun begins, what is over is left out."""
    found = []
    for told in draft.listed:
        entries = tuple(
            one._replace(from_us=None) if one.from_us is not None and one.from_us <= now_us else one
            for one in told.entries
            if one.until_us is None or one.until_us > now_us
        )
        found.append(ToldOfList(told.list, entries))
    return found


def _check_alone(log: LogReader, edited: Edited) -> None:
    if next_number(log) - 1 > edited.seen + _MOST_NEWER:  # no step of the log's writer is endless
        raise DeploymentRefused(f"more than {_MOST_NEWER} drafts were written since you began; open the newest one")
    newer = takewhile(lambda one: one.number > edited.seen, drafts(log))
    other = next((one for one in newer if one.after == edited.after), None)
    if other is not None:
        raise DeploymentRefused(
            f"{person_of(other.author)} has edited draft {edited.after} meanwhile, and that is draft {other.number}; "
            "nothing is overwritten: open it, and make your changes there"
        )


def bringing_in(
    log: LogReader, number: int, by: By, note: str, now_us: int, *, needs_two: bool, seen: int | None = None,
    bands: Bands | None = None,
) -> Change:  # fmt: skip
    """The change that makes a draft the book in force; `bands` are those of a later backtest than its own.

    Raises NotFound where there is none of that number, DeploymentRefused where `needs_two` and its author applies it,
    or whoever wrote or applies it is not known by name; and when it is made, where `seen` is no longer in force.
    """
    draft = draft_of(log, number)
    if needs_two:
        _check_two(draft, by)
    tried = draft if bands is None else msgspec.structs.replace(draft, bands=bands)
    rules = _in_force(tried, by, note, now_us)

    def change(before: Deployment) -> Deployment:
        _check_seen(before, seen)
        return _with_thresholds(before.with_rules(rules), draft)

    return change


def _with_thresholds(deployment: Deployment, draft: Draft) -> Deployment:
    """The same with the thresholds of a draft. Raises DeploymentRefused where they are of another champion."""
    given = draft.thresholds
    if given is None:
        return deployment
    if given.version != deployment.champion:
        raise DeploymentRefused(
            f"the thresholds of draft {draft.number} are of {given.version}, and {deployment.champion} decides by now; "
            "draft them anew"
        )
    return deployment.with_thresholds(given.thresholds, "a")


def _check_seen(before: Deployment, seen: int | None) -> None:
    """Raise DeploymentRefused where another draft is in force than the one seen, 0 for none."""
    now = 0 if before.rules is None else before.rules.draft
    if seen is not None and now != seen:
        raise DeploymentRefused(
            f"draft {now} has come in force meanwhile, and draft {seen} was when you looked; see what changes now"
        )


def person_of(who: str) -> str:
    """Who it is, of a caller: people come by the console's key.

    >>> person_of("ana via console"), person_of("user ana"), person_of("ci")
    ('ana', 'ana', 'ci')
    """
    return who.partition(VIA)[0].removeprefix("user ")


def _check_two(draft: Draft, by: By) -> None:
    """Raise DeploymentRefused unless two people are known by their names: who wrote a draft, and who applies it.

    Who gives no key, or the operator's own, may be anybody: one person would be two by leaving the key out.
    """
    own, other = (person_of(name).casefold() for name in (draft.author, by.who))
    if own == other:
        raise DeploymentRefused(
            f"draft {draft.number} is {by.who}'s own, and somebody else has to apply it (SENTINEL_RULES_NEED_TWO)"
        )
    for name in (draft.author, by.who):
        if not set(name.split(VIA)).isdisjoint(UNNAMED):
            raise DeploymentRefused(
                f"draft {draft.number} needs two people known by name (SENTINEL_RULES_NEED_TWO), and {name} may be "
                "either: draft and apply it with a key for each, as `sentinel keys create` makes one; the console "
                "needs one of its own, too, in SENTINEL_KEY"
            )


def bringing_back(
    log: LogReader, by: By, note: str, now_us: int, *, needs_two: bool, seen: int | None = None
) -> Change:
    """The change that makes the book before the one in force the book in force again; no rules, before the first one.

    Nobody has written no rules: where `needs_two`, somebody else than the author of those in force takes them back.
    Raises DeploymentRefused where nothing was before, or the log no longer has it, and as `bringing_in` does.
    """
    rules = deployment_in(log).rules
    if rules is None or rules.back_to is None:
        raise DeploymentRefused("nothing was in force before these rules; a draft without any takes them out of force")
    draft = _no_rules(by) if rules.back_to == NO_DRAFT else _kept_draft(log, rules.back_to)
    if needs_two:
        _check_two(_kept_draft(log, rules.draft) if draft.number == NO_DRAFT else draft, by)
    undone = _undone(log, rules)
    back = _in_force(draft, by, note, now_us)

    def change(before: Deployment) -> Deployment:
        _check_seen(before, seen)
        after = before.with_rules_back(back)
        if undone is None or undone.champion != before.champion:
            return after
        return after.with_thresholds(undone.thresholds, "a")

    return change


def _no_rules(by: By) -> Draft:
    """What there is before the first draft, in force by whoever brings it back."""
    return Draft(NO_DRAFT, Book(), by.who, "no rules", "")


def _kept_draft(log: LogReader, number: int) -> Draft:
    """A draft. Raises DeploymentRefused where the log no longer has it."""
    try:
        return draft_of(log, number)
    except NotFound:
        raise DeploymentRefused(
            f"draft {number}, which was in force before, is no longer in the log; draft it anew"
        ) from None


def _undone(log: LogReader, rules: RulesInForce) -> Deployment | None:
    """What was in force before a draft that has brought thresholds; None for one that has not.

    Raises DeploymentRefused where the log no longer has it.
    """
    try:
        if draft_of(log, rules.draft).thresholds is None:
            return None
        found = deployment_before(log, rules)
    except NotFound:
        found = None
    if found is None:
        raise DeploymentRefused(
            f"the log no longer has draft {rules.draft}, or what was in force before it; draft the rules and the "
            "thresholds that you want"
        )
    return found


def _in_force(draft: Draft, by: By, note: str, now_us: int) -> RulesInForce:
    return RulesInForce(
        draft=draft.number, book=draft.book, author=draft.author, applied_by=by.who, note=_told(note) or draft.note,
        applied_at=iso(now_us), bands=draft.bands,
    )  # fmt: skip


def _told(note: str) -> str:
    """A note without card numbers, and without what would move a terminal."""
    return masked_ends("".join(one if one.isprintable() else " " for one in note).strip(), LONGEST_NOTE)


def summary(draft: Draft) -> dict[str, object]:
    """A draft for lists: what it is, without its text."""
    fields = msgspec.structs.asdict(draft)
    return {name: fields[name] for name in ("number", "author", "note", "drafted_at", "after")} | {
        "rules": len(draft.book.rules),
        "lists": len(draft.book.lists),
        "entries": sum(len(one.entries) for one in draft.listed),
    }
