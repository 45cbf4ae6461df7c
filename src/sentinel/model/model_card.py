"""The model card: eleven sections about a version, as its manifest says; what only people know is left to them.

The sections are those of the model risk rules for banks (SR 11-7) as fraud teams use them: what it is, what it is for,
data, features, methodology, how it does offline and online, fairness, monitoring, limitations, and who approves it.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from sentinel.events.times import iso
from sentinel.features.definitions import Feature
from sentinel.model.bundle import Manifest

ASKED = "To be filled in: "
"""Begins what people have to write."""

_PARAMETERS_LEFT_OUT = ("rows",)
_OF_A_THRESHOLD = ("precision", "recall", "false_positive_rate")


class Table(NamedTuple):
    """A table with a row of heads."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Section(NamedTuple):
    """A section of the card: paragraphs and tables in their order."""

    title: str
    parts: tuple[str | Table, ...]


def card_of(manifest: Manifest) -> tuple[Section, ...]:
    """The eleven sections."""
    sections = (
        ("Identification", _identification),
        ("Business and risk context", _context),
        ("Data", _data),
        ("Features", _features),
        ("Methodology", _methodology),
        ("Offline performance", _offline),
        ("Online performance", _online),
        ("Ethics and fairness", _fairness),
        ("Monitoring and incidents", _monitoring),
        ("Limitations", _limitations),
        ("Approvals", _approvals),
    )
    return tuple(Section(f"{n}. {title}", tuple(write(manifest))) for n, (title, write) in enumerate(sections, 1))


def _identification(one: Manifest) -> Iterator[str | Table]:
    lineage = one.lineage
    facts = {
        "Version": one.version,
        "Detector": one.detector,
        "Trained": one.created_at,
        "Champion at that time": lineage.parent or "none",
        "Commit of the code": one.git_commit or lineage.github_sha or "not in a checkout",
        "Run": " ".join(filter(None, (lineage.github_workflow, lineage.github_run_id))) or "none of GitHub's",
        "SHA-256 of the model": one.files.get("model.onnx", ""),
        "SHA-256 of the feature plan": one.plan_sha256,
    }
    yield Table(("What", ""), tuple(facts.items()))
    yield f"{ASKED}owner, and how the owner is reached."


def _context(one: Manifest) -> Iterator[str | Table]:
    thresholds = sorted((value, name) for name, value in one.thresholds.items() if value is not None)
    lowest = thresholds[0][0] if thresholds else None
    yield (
        "It gives every transaction a probability of fraud in the moment of its decision. "
        + (f"Below {lowest:g} a transaction is approved." if lowest is not None else "Every transaction is approved.")
    )
    yield Table(("From this probability on", "it is"), tuple((f"{value:g}", name) for value, name in thresholds))
    never = [name for name, value in one.thresholds.items() if value is None]
    if never:
        yield f"It never leads to: {', '.join(never)}."
    yield f"{ASKED}what an error costs, both ways; who is affected; the risk tier of this model."


def _data(one: Manifest) -> Iterator[str | Table]:
    history, rows = one.history, one.training.get("rows", {})
    share = f"{history.frauds / history.transactions:.3%}" if history.transactions else "-"
    facts = {
        "Transactions": f"{history.transactions:,}",
        "Known frauds": f"{history.frauds:,} ({share})",
        "From": iso(history.first_us),
        "To": iso(history.last_us),
        "SHA-256 of every field of every row": history.sha256,
        **{f"Labelled rows of the {name} part": f"{n:,}" for name, n in rows.items()},
        **{f"Rows of the table {name}": f"{table.rows:,}" for name, table in history.tables.items()},
        **{f"Left out: {reason}": f"{n:,}" for reason, n in history.skipped.items()},
    }
    yield Table(("What", ""), tuple(facts.items()))
    yield "In time order: the oldest part is learned from, the next one chooses, the newest is only reported on."
    yield f"{ASKED}where labels come from, how late they are, and what is known to be wrong with them."


def _features(one: Manifest) -> Iterator[str | Table]:
    plan = one.plan
    yield Table(
        ("Feature", "Kind", "Of", "By", "Window", "Known after"),
        tuple(_feature_row(feature) for feature in plan.features),
    )
    yield (
        "Staleness: none. Features are computed with the transaction itself, from everything that was decided or told "
        "before it, by the code that computed them for training. Those with a delay know outcomes only after it."
    )
    yield f"A key that is silent is remembered for its longest window, or {plan.forget_after} where a feature has none."
    secret = sorted({*plan.schema.secret, *plan.schema.personal})
    yield f"Hidden by a keyed hash before anything sees them: {', '.join(secret) or 'no field'}."


def _feature_row(feature: Feature) -> tuple[str, ...]:
    by = feature.by if isinstance(feature.by, str) else " x ".join(feature.by or ())
    return (feature.name, feature.kind, feature.of or "", by, feature.over or "", feature.delay or "at once")


def _methodology(one: Manifest) -> Iterator[str | Table]:
    given = {name: value for name, value in one.training.items() if name not in _PARAMETERS_LEFT_OUT}
    yield "A supervised classifier, exported to ONNX; these are the parameters that it was trained with."
    yield Table(("Parameter", "Value"), tuple(_flat(given)))
    proof = one.certificate
    yield (
        f"The exported model was compared with the trained one on {proof.test_rows:,} test rows and on both sides of "
        f"{proof.splits:,} splits: they differ by {proof.largest:.1e} at most, {proof.limit:g} is allowed."
    )
    yield Table(("Made with", "Version"), tuple(one.libraries.items()))


def _offline(one: Manifest) -> Iterator[str | Table]:
    metrics: Mapping[str, Any] = one.metrics if isinstance(one.metrics, dict) else {}
    measured, rows = metrics.get("transactions"), []
    if measured is not None:
        yield f"On {measured:,} transactions of the test part, {metrics.get('frauds', 0):,} of them fraud:"
    for name, value in _figures(metrics):
        rows.append((name, f"{value['value']:.4f}", f"{value['low']:.4f} to {value['high']:.4f}"))
    yield Table(("Figure", "Value", "95 % interval"), tuple(rows))
    actions = sorted(
        (at["threshold"], name, [f"{at[part]:.4f}" for part in _OF_A_THRESHOLD])
        for name, at in metrics.items()
        if isinstance(at, dict) and "threshold" in at
    )
    yield Table(
        ("Action", "From", "Precision", "Recall", "False-positive rate"),
        tuple((name, f"{threshold:g}", *parts) for threshold, name, parts in actions),
    )
    for warning in metrics.get("warnings", ()):
        yield f"Warning: {warning}."


def _figures(metrics: Mapping[str, Any], under: str = "") -> Iterator[tuple[str, Mapping[str, float]]]:
    """Every figure with an interval, those inside groups under the group's name."""
    for name, value in metrics.items():
        if not isinstance(value, dict):
            continue
        if value.keys() >= {"value", "low", "high"}:
            yield f"{under}{name}", value
        elif "threshold" not in value:
            yield from _figures(value, f"{under}{name} ")


def _online(_: Manifest) -> Iterator[str | Table]:
    yield "What it does live is not known when this card is written. A server shows:"
    yield Table(
        ("What", "Where"),
        (
            ("Share decided by rules in its place", "sentinel_on_fault_decisions_total of sentinel_requests_total"),
            ("p99 of an answer", "sentinel_latency_microseconds, and GET /metrics"),
            ("Actions taken", "sentinel_actions_total"),
            ("Agreement with the champion, as a shadow", "GET /admin/shadow/report"),
        ),
    )
    yield f"{ASKED}the figures of the first weeks, and the limits at which somebody is called."


def _fairness(one: Manifest) -> Iterator[str | Table]:
    categories = sorted({feature.of or "" for feature in one.plan.features if feature.kind == "category"})
    yield f"Categories that the model reads: {', '.join(categories) or 'none'}."
    yield (
        f"{ASKED}whether one of the features stands for origin, age, sex or another protected attribute; error rates "
        "by group; how somebody who was refused is heard."
    )


def _monitoring(_: Manifest) -> Iterator[str | Table]:
    yield (
        "Every live feature and score is compared with the training data (sentinel_drift_detected, GET /admin/drift). "
        "A model that is slow or fails is replaced by rules for that moment, and the decision says so. "
        "POST /admin/rollback restores the champion before it, POST /admin/fallback has the rules decide alone."
    )
    yield f"{ASKED}who is called, how soon, and who decides to roll back."


def _limitations(one: Manifest) -> Iterator[str | Table]:
    yield (
        f"It knows the past up to {iso(one.history.last_us)} and what it was told since; fraud of a kind that was not "
        "among the labels is not learned. Transactions that were blocked have no outcome, so the frauds it was "
        "measured on are those that got through or were told."
    )
    yield "A score is that of the parts of the history named here; for other products or countries it is not measured."
    yield f"{ASKED}known cases that it gets wrong."


def _approvals(_: Manifest) -> Iterator[str | Table]:
    roles = ("Model risk", "Compliance", "ML engineering")
    yield Table(("Role", "Name", "Date", "Decision"), tuple((role, "", "", "") for role in roles))
    yield "Sentinel approves nothing: `sentinel models promote` puts a version in charge; this page says who agreed."


def _flat(given: Mapping[str, Any], under: str = "") -> Iterable[tuple[str, str]]:
    for name, value in given.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{under}{name}.")
        else:
            yield f"{under}{name}", "none" if value is None else str(value)
