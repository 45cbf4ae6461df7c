"""Drift: whether payments still look like those that the model learned from, which features moved, and how."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from sentinel.errors import BundleProblem
from sentinel.features.definitions import Feature
from sentinel.transport.console.drawing import page
from sentinel.transport.console.feature_words import shown_value, words_of
from sentinel.transport.console.server import Server, path_of
from sentinel.transport.console.stored import Stored

_TOP = 10
_MOST_BARS = 24
_TESTS = (("z_score", "z_threshold", "mean"), ("psi", "psi_threshold", "shape"), ("ks", "ks_threshold", "distance"))
_WHY = {
    "mean": "its mean moved", "psi": "its shape changed", "ks": "its values lie elsewhere",
    "missing": "it is missing more or less often", "other": "values came that were rare or unknown",
}  # fmt: skip


def drift_pages(server: Server, stored: Stored) -> APIRouter:
    """`/drift`, which shows what `GET /admin/drift` says, and one feature of it in full."""
    router = APIRouter()

    @router.get("/drift")
    def drift(request: Request, feature: str = "", all: str = "") -> Response:  # noqa: A002 - the name in the address
        report = server.get("/admin/drift").json
        features, words = _features(stored)
        since = report.get("drifting_since", {})
        columns = [*report.get("per_feature", ()), *([report["score"]] if "score" in report else [])]
        rows = sorted(
            (_row(one, words, since, features) for one in columns), key=lambda one: (-one["drifted"], -one["strength"])
        )
        chosen = feature or (rows[0]["name"] if rows else "")
        values: dict[str, Any] = {
            "report": report, "rows": rows if all else rows[:_TOP], "hidden": 0 if all else max(len(rows) - _TOP, 0),
            "have": report.get("current_count", 0), "window": report.get("window", 0),
            "needed": report.get("least_rows", 0), "enough": report.get("enough_data", False), "chosen": chosen,
            "one": None, "name": words.get(chosen, chosen), "fraud": report.get("matured_fraud"),
            "others": urlencode({"all": "yes", **({"feature": feature} if feature else {})}),
        }  # fmt: skip
        if chosen:
            found = server.get(path_of("admin", "drift", chosen)).json
            values["one"] = _shown(found, features.get(chosen))
        return page(request, "drift.html", values)

    return router


def _features(stored: Stored) -> tuple[dict[str, Feature], dict[str, str]]:
    """The features of the champion, and what they are called."""
    try:
        manifest = stored.champion()
    except BundleProblem:
        return {}, {}
    features = {one.name: one for one in manifest.plan.features}
    words = {name: manifest.reasons.get(name) or words_of(one) for name, one in features.items()}
    return features, {"score": "the model's score", **words}


def _row(
    one: Mapping[str, Any], words: Mapping[str, str], since: Mapping[str, str], features: Mapping[str, Feature]
) -> dict[str, Any]:
    tests = [
        (abs(one[value]) / one[limit], name) for value, limit, name in _TESTS if one[value] is not None and one[limit]
    ]
    strength = max(tests, default=(0.0, ""))[0]
    return {
        "name": one["name"], "words": words.get(one["name"], one["name"]), "drifted": one["drifted"],
        "why": [_WHY[reason] for reason in one["reasons"]], "since": since.get(one["name"]), "strength": strength,
        "part": round(min(strength, 2.0) * 50),
        "then": _value(one["baseline_mean"], features.get(one["name"]), ()),
        "now": _value(one["current_mean"], features.get(one["name"]), ()),
    }  # fmt: skip


def _shown(found: Mapping[str, Any], feature: Feature | None) -> dict[str, Any]:
    """A distribution, its bins as pairs of bars and as words."""
    bins = _merged(found["bins"])
    tallest = max((max(one["then"], one["now"] or 0.0) for one in bins), default=0.0) or 1.0
    words = found["words"]
    above = None
    shown = []
    for n, one in enumerate(bins):
        text = _bin_words(one, above, feature, words)
        above = one["value"] if one["what"] == "upto" else above
        bars = {name: round((one[name] or 0.0) / tallest * 100, 2) for name in ("then", "now")}
        shown.append({"words": text, "then": one["then"], "now": one["now"], "bars": bars, "x": n * 10})
    return {**found, "bins": shown, "wide": len(shown) * 10, "quantiles": [
        {"share": one["share"], "then": _value(one["then"], feature, words), "now": _value(one["now"], feature, words)}
        for one in found["quantiles"]
    ]}  # fmt: skip


def _merged(bins: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """No bars of what there neither was nor is any, at the end."""
    rest = [one for one in bins if one["what"] in ("upto", "value") or one["then"] or one["now"]]
    return rest[:_MOST_BARS] + [one for one in rest[_MOST_BARS:] if one["what"] in ("rest", "missing")]


def _bin_words(one: Mapping[str, Any], above: float | None, feature: Feature | None, words: Sequence[str]) -> str:
    if one["what"] == "missing":
        return "missing"
    if one["what"] == "rest":
        return "any other" if above is None else f"above {_value(above, feature, words)}"
    if one["what"] == "value":
        return _value(one["value"], feature, words)
    return f"up to {_value(one['value'], feature, words)}"


def _value(value: float | None, feature: Feature | None, words: Sequence[str]) -> str:
    return "\u2013" if value is None else shown_value(feature, value, words)
