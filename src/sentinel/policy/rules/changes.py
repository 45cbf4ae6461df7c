"""Changes from one book to another, rule by rule and list by list, in sentences."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from sentinel.policy.rules.book import Book, BookList, BookRule

_What = Literal["new", "changed", "gone"]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one rule or list: `said` has a sentence for each field that differs, none where all of it does.

    `before` and `after` are it as a whole; None where it is not there.
    """

    name: str
    what: _What
    said: list[str]
    before: BookRule | BookList | None
    after: BookRule | BookList | None


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What differs between two books: `order` where rules stand in another order, `demote_at` before and after."""

    rules: list[Change]
    lists: list[Change]
    order: bool = False
    demote_at: tuple[float, float] | None = None

    @property
    def sentences(self) -> list[str]:
        """All of it, a line each."""
        lines = [
            f"{kind} {one.name}: {'; '.join(one.said) or one.what}"
            for kind, changes in (("rule", self.rules), ("list", self.lists))
            for one in changes
        ]
        if self.order:
            lines.append("the order in which reasons are told is another one")
        if self.demote_at is not None:
            lines.append(f"a rule becomes a shadow at {self.demote_at[1]:g} times its band, not {self.demote_at[0]:g}")
        return lines


def changes_between(before: Book, after: Book) -> Changes:
    """What differs, in the order of the later book; what is gone comes last.

    >>> from sentinel.policy.rules.book import Deed
    >>> one = BookRule(name="large", when="amount > 800", do=Deed.REVIEW, reason="large")
    >>> other = msgspec.structs.replace(one, when="amount > 900")
    >>> changes_between(Book((one,)), Book((other,))).sentences
    ['rule large: holds when amount > 900, and not when amount > 800']
    """
    kept_before = [one.name for one in before.rules if any(one.name == two.name for two in after.rules)]
    kept_after = [one.name for one in after.rules if one.name in set(kept_before)]
    return Changes(
        rules=_changes(before.rules, after.rules),
        lists=_changes(before.lists, after.lists),
        order=kept_before != kept_after,
        demote_at=None if before.demote_at == after.demote_at else (before.demote_at, after.demote_at),
    )


def _changes(before: Sequence[BookRule | BookList], after: Sequence[BookRule | BookList]) -> list[Change]:
    earlier, later = {one.name: one for one in before}, {one.name: one for one in after}
    found = []
    for name, one in later.items():
        was = earlier.get(name)
        if was is None:
            found.append(Change(name=name, what="new", said=[], before=None, after=one))
        elif was != one:
            found.append(Change(name=name, what="changed", said=_said(was, one), before=was, after=one))
    gone = [Change(name=name, what="gone", said=[], before=one, after=None) for name, one in earlier.items()
            if name not in later]  # fmt: skip
    return found + gone


_SENTENCES: Mapping[str, str] = {
    "when": "holds when {after}, and not when {before}",
    "do": "does {after}, and not {before}",
    "reason": 'says "{after}", and not "{before}"',
    "owner": "is of {after}, and not of {before}",
    "state": "is {after}, and was {before}",
    "since": "holds from {after} on, and not from {before}",
    "until": "holds until {after}, and not until {before}",
    "band": "is expected for {after} of a day's decisions, and not for {before}",
    "kind": "is a list of the kind {after}, and was {before}",
    "by": "has values of {after}, and not of {before}",
}


def _said(before: BookRule | BookList, after: BookRule | BookList) -> list[str]:
    fields = [name for name in before.__struct_fields__ if getattr(before, name) != getattr(after, name)]
    return [
        _SENTENCES[name].format(before=_shown(name, getattr(before, name)), after=_shown(name, getattr(after, name)))
        for name in fields
    ]


def _shown(name: str, value: Any) -> str:
    if name == "band" and value is not None:
        return f"{value[0]:.2%} to {value[1]:.2%}"
    return {"owner": "nobody", "reason": ""}.get(name, "ever") if value in (None, "") else str(value)
