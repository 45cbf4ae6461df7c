"""Features in an analyst's words, made of their definitions; a detector's own words (`reasons`) come first."""

from collections.abc import Mapping, Sequence
from typing import Any

from sentinel.features.definitions import Feature
from sentinel.model.bundle import Manifest
from sentinel.transport.console.words import value_of

_UNITS = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week"}
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_OF_A_FIELD = {
    "total": "sum of {of}", "mean": "mean {of}", "std": "spread of {of}", "minimum": "smallest {of}",
    "maximum": "largest {of}", "distinct": "different {several}", "share": "share with the same {of}",
    "entropy": "variety of {of}", "top_share": "share of the most frequent {of}", "last": "{of} of the one before",
    "is_first": "first time with this {of}", "session_total": "sum of {of} in the session",
}  # fmt: skip
_ALONE = {
    "count": "transactions", "fraud_count": "known frauds", "fraud_rate": "known share of fraud",
    "distance_since_last": "kilometres from the last place", "speed_since_last": "km/h from the last place",
    "session_count": "transactions in the session", "session_seconds": "length of the session",
    "seconds_since_last": "time since the last one", "hour_of_day": "hour of the day",
    "day_of_week": "day of the week", "time_of_day": "time of the day", "is_weekend": "at the weekend",
    "is_night": "at night",
}  # fmt: skip
_SHARES = frozenset({"share", "top_share", "fraud_rate"})
_TIMES = frozenset({"seconds_since_last", "session_seconds", "seconds_between"})
_YES_OR_NO = frozenset({"is_weekend", "is_night", "is_round", "is_first"})


def words_of(feature: Feature) -> str:
    """What a feature is.

    >>> words_of(Feature(kind="count", name="n", by="card_id", over="10m"))
    'transactions of the card in 10 minutes'
    >>> words_of(Feature(kind="distinct", name="n", of="merchant_id", by=("card_id", "country"), over="1h"))
    'different merchants of the card and country in 1 hour'
    >>> words_of(Feature(kind="fraud_rate", name="n", by="merchant_id", over="30d", delay="1d"))
    'known share of fraud of the merchant in 30 days, as known 1 day before'
    """
    if feature.kind in ("ratio", "difference") and len(feature.parts) == 2:
        first, second = map(words_of, feature.parts)
        return f"{first} {'against' if feature.kind == 'ratio' else 'less'} {second}"
    of = _plain(feature.of or "")
    if feature.kind in _OF_A_FIELD:
        said = _OF_A_FIELD[feature.kind].format(of=of, several=_several(of))
    elif feature.kind in _ALONE:
        said = _ALONE[feature.kind]
    else:
        said = of if feature.kind in ("field", "category", "instant") and of else _plain(feature.name)
    if feature.event:
        said = f"{_plain(feature.event)}s" if feature.kind == "count" else f"{said}, {_plain(feature.event)}"
    if feature.key:
        said += f" of the {' and '.join(map(_plain, feature.key))}"
    if feature.over:
        said += f" in {_lasting(feature.over)}"
    if not feature.include_current:
        said += ", before this one"
    return said + (f", as known {_lasting(feature.delay)} before" if feature.delay else "")


def shown_value(feature: Feature | None, value: float | None, vocabulary: Sequence[str] = ()) -> str:
    """Its value, as people read one: a category's text, a share in percent, a time with its unit.

    >>> shown_value(Feature(kind="category", name="c", of="c"), 1.0, ("web", "chip"))
    'chip'
    >>> shown_value(Feature(kind="seconds_since_last", name="s", by="card"), 1966.0)
    '33 min'
    """
    if feature is None or value is None:
        return value_of(value)
    if feature.kind == "category":
        place = int(value)
        return vocabulary[place] if 0 <= place < len(vocabulary) else "a rare one"
    if feature.kind in _YES_OR_NO:
        return "yes" if value else "no"
    if feature.kind in _SHARES:
        return f"{value * 100:.3g}\u202f%"
    if feature.kind in _TIMES:
        return _spent(value)
    if feature.kind == "day_of_week" and 0 <= value < 7:
        return _DAYS[int(value)]
    if feature.kind == "ratio":
        return f"{value:.3g} times"
    return value_of(value)


def with_words(why: Mapping[str, Any] | None, manifest: Manifest) -> list[dict[str, Any]]:
    """The reasons of an explanation, the strongest for fraud first, each with its part of the largest."""
    if not why or not why.get("reasons"):
        return []
    features = {one.name: one for one in manifest.plan.features}
    largest = max(abs(one["contribution"]) for one in why["reasons"]) or 1.0
    shown = []
    for one in why["reasons"]:
        name, feature = one["feature"], features.get(one["feature"])
        words = one.get("words") or (words_of(feature) if feature else _plain(name))
        shown.append(
            {
                "words": words,
                "feature": name,
                "value": shown_value(feature, one["value"], manifest.plan.vocabulary.get(name, ())),
                "contribution": one["contribution"],
                "part": round(abs(one["contribution"]) / largest * 100),
            }
        )
    return sorted(shown, key=lambda one: -one["contribution"])


def _plain(name: str) -> str:
    return name.removesuffix("_id").replace("_", " ")


def _several(word: str) -> str:
    return f"{word[:-1]}ies" if word.endswith("y") and word[-2:-1] not in "aeou" else f"{word}s"


def _lasting(text: str) -> str:
    n, unit = text[:-1], _UNITS[text[-1]]
    return f"{n} {unit}{'' if n == '1' else 's'}"


def _spent(seconds: float) -> str:
    for unit, of in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if abs(seconds) >= 2 * of:
            return f"{seconds / of:.0f} {unit}"
    return f"{seconds:.0f} s"
