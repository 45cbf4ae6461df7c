"""Cases in an analyst's words: how long something waits, and what was done."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))
_SAID = {
    "opened": "opened", "joined": "another payment joined", "taken": "taken", "released": "put back",
    "handed over": "handed over to {to}", "escalated": "escalated to {to}", "decided": "decided: {outcome}",
    "closed": "closed", "reopened": "reopened", "overdue": "the deadline has passed", "noted": "noted",
    "linked": "link attached", "outcome": "{source} says {word}",
}  # fmt: skip


def lasting(seconds: float) -> str:
    """A stretch of time in its largest unit.

    >>> lasting(42), lasting(7_300), lasting(90_000), lasting(1_000)
    ('42 s', '2 h 1 min', '1 d 1 h', '16 min')
    """
    for n, (of, unit) in enumerate(_UNITS):
        if seconds >= of:
            whole, rest = divmod(int(seconds), of)
            smaller = _UNITS[n + 1] if n + 1 < len(_UNITS) else None
            part = rest // smaller[0] if smaller else 0
            return f"{whole} {unit}" + (f" {part} {smaller[1]}" if smaller and part and whole < 10 else "")
    return f"{int(seconds)} s"


def as_seen(case: Mapping[str, Any], now: str) -> dict[str, Any]:
    """A case as the server tells of it, with `waits` and `due` in words."""
    at = datetime.fromisoformat(now)
    waits_s = (at - datetime.fromisoformat(case["opened_at"])).total_seconds()
    due_s = (datetime.fromisoformat(case["due_at"]) - at).total_seconds()
    due = f"{lasting(-due_s)} overdue" if due_s < 0 else f"due in {lasting(due_s)}"
    return {**case, "waits": lasting(max(waits_s, 0)), "due": due}


def said_of(event: Mapping[str, Any]) -> str:
    """What was done to a case.

    >>> said_of({"what": "escalated", "details": {"to": "operator"}})
    'escalated to operator'
    >>> said_of({"what": "outcome", "details": {"source": None, "is_fraud": None}})
    'another source says nothing any more'
    """
    details = dict(event["details"])
    if event["what"] == "outcome":
        is_fraud = details.get("is_fraud")
        word = "nothing any more" if is_fraud is None else "fraud" if is_fraud else "legitimate"
        details = {"source": details.get("source") or "another source", "word": word}
    said: str = _SAID.get(event["what"], event["what"])
    return said.format_map(_Given(details))


def sign_in_words(sign: str, features: Mapping[str, str]) -> str:
    """What two cases have in common; `features` says what each feature is.

    >>> sign_in_words("feature n", {"n": "transactions of the card"}), sign_in_words("rule night", {})
    ('transactions of the card', 'rule night')
    """
    kind, _, name = sign.partition(" ")
    if kind == "feature":
        return features.get(name, name.replace("_", " "))
    return sign if kind == "rule" else f"largest {sign.replace('1 digits', '1 digit')}"


class _Given(dict[str, Any]):
    """What is given; nothing in the place of what is not."""

    def __missing__(self, key: str) -> str:
        return ""
