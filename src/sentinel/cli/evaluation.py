"""`sentinel evaluate`: how good a model is on a file, and on parts of it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import msgspec
import typer

from sentinel.cli.options import DataFile, Home, Json, reads_history, settings_of
from sentinel.cli.terminal import tell
from sentinel.cli.training import metric_lines, warn_of
from sentinel.commands.terminal import shown
from sentinel.events.reading import Reading

LabelDelay = Annotated[
    str | None,
    typer.Option("--label-delay", help="How long labels take, as 7d: younger rows count as unknown."),
]


@reads_history
def evaluate(
    data: DataFile,
    version: Annotated[str | None, typer.Argument(help="Version; the champion when left out.")] = None,
    detector: Annotated[
        str | None, typer.Option("--detector", "-d", help="The one it was trained by; left out, as the model has it.")
    ] = None,
    home: Home = None,
    model: Annotated[str | None, typer.Option("--model", help="The version, in another place.")] = None,
    by: Annotated[
        list[str] | None, typer.Option("--by", help="Segments to look at: a category of the schema, or amount.")
    ] = None,
    label_delay: LabelDelay = None,
    known_after: Annotated[
        str | None, typer.Option("--known-after", help="Leave out cards whose first fraud is as old, as 7d.")
    ] = None,
    as_json: Json = False,
    *,
    reading: Reading,
) -> None:
    """Measure a trained model: on the test part of its own history, or on what is later than that in another file."""
    from sentinel.commands.evaluation import Source, chosen, evaluate_model

    settings = settings_of(home)
    version = chosen(settings, version, model)
    source = Source(data, reading, label_delay)
    report = evaluate_model(
        settings, version, source, detector_name=detector, by=by or (), known_after=known_after
    )  # fmt: skip
    told = msgspec.to_builtins(report)
    lines = [f"measured on {told['measured_on']}", *_left_out(told), *metric_lines(version, told["metrics"])]
    lines += [*confusion_lines(told["metrics"]), *_table_of(told["thresholds"])]
    for name, parts in told["segments"].items():
        lines += segment_lines(name, parts)
    tell(report, lines, as_json=as_json)
    warn_of(version, told["metrics"])


def _left_out(report: Mapping[str, Any]) -> Iterator[str]:
    if report["immature"]:
        yield f"{report['immature']:,} rows are younger than labels take: unknown, and left out"
    if report["of_known_cards"]:
        yield f"{report['of_known_cards']:,} rows are of cards that were known by then: left out"
    if report["unlabelled"]:
        yield f"{report['unlabelled']:,} rows have no label: left out"


def confusion_lines(metrics: Mapping[str, Any]) -> Iterator[str]:
    """The confusion of each threshold, the figures that go with it, and how far scores can be taken for shares."""
    for name in ("review", "block"):
        one = metrics[name]
        if one:
            (passed, alarms), (missed, caught) = one["confusion"]
            yield shown(
                f"  {name} [tn fp; fn tp] = [{passed:,} {alarms:,}; {missed:,} {caught:,}], F1 {one['f1']:.4f}, "
                f"accuracy {one['accuracy']:.4f}"
            )
    yield (
        f"  expected {metrics['expected_frauds']:,.1f} frauds, {metrics['frauds']:,} came; "
        f"calibration error {metrics['calibration_error']:.5f}; intervals by {metrics['cards']:,} cards"
    )


def _table_of(thresholds: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "  threshold      FPR  recall  precision      F1  accuracy  alarms"
    for one in thresholds:
        ranked = f"{one['false_positive_rate']:7.3%} {one['recall']:7.3f} {one['precision']:10.3f} {one['f1']:7.3f}"
        alarms = one["caught"] + one["false_alarms"]
        yield f"  {one['threshold']:9.6f} {ranked} {one['accuracy']:9.4f} {alarms:7,}"


def segment_lines(name: str, parts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A table of segments for people."""
    width = max((len(one["value"]) for one in parts), default=0)
    yield f"by {name}:"
    for one in parts:
        precision, recall = (
            "     -" if one[figure] is None else f"{one[figure]:.4f}"
            for figure in ("average_precision", "recall_at_fpr")
        )
        yield (
            f"  {one['value']:<{width}} {one['transactions']:>9,} rows {one['frauds']:>6,} frauds  average precision "
            f"{precision}  recall at 1 % FPR {recall}  {one['caught']:,} of {one['alarms']:,} alarms right"
        )
