"""What a draft of rules changes, over HTTP: rule by rule, list by list, and of thresholds."""

import msgspec
from fastapi import FastAPI, Request, Response

from sentinel.policy.deployment import NO_DRAFT
from sentinel.policy.rules.book import Book
from sentinel.policy.rules.changes import Changes as BookChanges
from sentinel.policy.rules.changes import changes_between
from sentinel.policy.thresholds import Thresholds
from sentinel.record.log import LogReader
from sentinel.record.rules_history import Draft, draft_of
from sentinel.transport.http.admin.changes import Changes
from sentinel.transport.http.queries import whole_number
from sentinel.transport.http.replies import ok


class ThresholdsChanged(msgspec.Struct, frozen=True):
    """Thresholds of a version as they are in force, and as a draft has them."""

    version: str
    before: Thresholds
    after: Thresholds


class Changed(msgspec.Struct, frozen=True):
    """What differs between two books, and the same in sentences; and what becomes of thresholds, None for nothing.

    `listed` is how many entries a draft brings, by list.
    """

    changes: BookChanges
    sentences: list[str]
    thresholds: ThresholdsChanged | None = None
    listed: dict[str, int] = {}


class RuleDiffs:
    """Compares drafts with each other and with what is in force."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes

    def diff(self, request: Request) -> Changed:
        """What a draft changes against another, or what is in force. Raises NotFound, InvalidInput."""
        log, asked = self._changes.api.deciding().log, request.query_params
        before, after = (self._book(log, asked.get(name)) for name in ("against", "draft"))
        changes = changes_between(before, after)
        draft = _draft(log, asked.get("draft"))
        listed = {} if draft is None else {one.list: len(one.entries) for one in draft.listed}
        thresholds = None if draft is None else self._thresholds(draft)
        entries = [
            f"list {name}: {n:,} {'entry' if n == 1 else 'entries'} told with the draft" for name, n in listed.items()
        ]
        return Changed(changes, [*changes.sentences, *entries, *_said(thresholds)], thresholds, listed)

    def _thresholds(self, draft: Draft) -> ThresholdsChanged | None:
        """What becomes of the champion's thresholds, where a draft brings others than those in force."""
        lineup = self._changes.api.predictor.lineup
        if lineup is None or draft.thresholds is None or draft.thresholds.thresholds == lineup.champion.thresholds:
            return None
        return ThresholdsChanged(draft.thresholds.version, lineup.champion.thresholds, draft.thresholds.thresholds)

    def _book(self, log: LogReader, number: str | None) -> Book:
        """That of a draft, empty for 0; without a number the one in force, which is empty before there was any."""
        if number is None:
            rules = self._changes.rollout.deployment.rules
            return Book() if rules is None else rules.book
        draft = _draft(log, number)
        return Book() if draft is None else draft.book


def _draft(log: LogReader, number: str | None) -> Draft | None:
    """The draft of a number; None without one, and for 0, which is no rules. Raises NotFound, InvalidInput."""
    wanted = NO_DRAFT if number is None else whole_number(number, "draft")
    return None if wanted == NO_DRAFT else draft_of(log, wanted)


def _said(changed: ThresholdsChanged | None) -> list[str]:
    """The same in sentences."""
    if changed is None:
        return []
    pairs = [
        (name, getattr(changed.before, name), getattr(changed.after, name)) for name in Thresholds.__struct_fields__
    ]
    parts = [
        f"{name} from {_shown(after)}, and not from {_shown(before)}"
        for name, before, after in pairs
        if before != after
    ]
    return [f"thresholds of {changed.version}: {'; '.join(parts)}"]


def _shown(threshold: float | None) -> str:
    return "never" if threshold is None else f"{threshold:g}"


def add_rule_diffs(app: FastAPI, diffs: RuleDiffs) -> None:
    """The call `/v1/rules/diff`."""

    @app.get("/v1/rules/diff", tags=["rules"])
    def diff(request: Request) -> Response:
        """What `draft` changes against the draft `against`, rule by rule; without a number it is what is in force.

        Draft 0 is no rules.
        """
        return ok(diffs.diff(request))
