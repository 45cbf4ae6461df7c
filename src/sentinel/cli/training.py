"""Commands that make and measure models: from a history to a version that is proven."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from sentinel.cli.options import DataFile, DetectorName, Home, Json, Port, reads_history, settings_of
from sentinel.cli.terminal import print_json, tell, terminal
from sentinel.config import DEFAULT_HOME
from sentinel.errors import InvalidDefinition
from sentinel.events.reading import Reading

features = typer.Typer(help="Compute the features of a history.", no_args_is_help=True)
benchmark = typer.Typer(help="Measure against published results.", no_args_is_help=True)


@reads_history
def demo(
    data: Annotated[Path | None, typer.Option("--data", help="Your history instead of simulated payments.")] = None,
    detector: DetectorName = "payments",
    seconds: Annotated[float | None, typer.Option("--seconds", help="End after so long instead of at Ctrl-C.")] = None,
    home: Home = None,
    port: Port = None,
    rate: Annotated[float, typer.Option("--rate", help="Transactions a second to send.")] = 1000.0,
    transactions: Annotated[int, typer.Option("--transactions", help="How many to simulate.")] = 250_000,
    *,
    reading: Reading,
) -> None:
    """Simulate, train, certify, serve, and watch live decisions: the whole product in one command."""
    from sentinel.commands.demo import run_demo

    settings = settings_of(home, port=port)
    if settings.home == DEFAULT_HOME:
        settings = settings_of(DEFAULT_HOME / "demo", port=port)
    view = run_demo(settings, detector, data, reading, seconds=seconds, rate=rate, transactions=transactions)
    print_json(view.summary())


def simulate(
    out: Annotated[Path, typer.Option("--out", help="File to write: .parquet, .csv or .jsonl.")],
    transactions: Annotated[int, typer.Option("--transactions", "-n", help="How many.")] = 100_000,
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same bytes.")] = 42,
    detector: Annotated[
        str, typer.Option("--detector", "-d", help="Whose fields to write: payments or velocity.")
    ] = "payments",
    events_out: Annotated[
        Path | None, typer.Option("--events-out", help="File for the logins and changes of passwords beside them.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make card payments with seven kinds of fraud, outcomes that arrive late, and the logins beside them."""
    from sentinel.commands.simulate import simulate_to_file

    facts = simulate_to_file(out, transactions, seed, detector, events_out)
    said = f"{facts['transactions']:,} transactions, {facts['frauds']:,} of them fraud, in {out}"
    beside = [] if events_out is None else [f"{facts['events']:,} context events in {events_out}"]
    tell(facts, [said, *beside], as_json=as_json)


@features.command("build")
@reads_history
def features_build(
    data: DataFile,
    out: Annotated[Path, typer.Option("--out", help="Parquet file to write: the id and a column per feature.")],
    detector: DetectorName = "payments",
    as_json: Json = False,
    *,
    reading: Reading,
) -> None:
    """Replay a history and write the features of every transaction, as the live service would compute them."""
    from sentinel.commands.history import build_features

    facts = build_features(settings_of(None), detector, data, out, reading)
    tell(facts, [f"{facts['transactions']:,} rows of {facts['features']} features in {out}"], as_json=as_json)


@reads_history
def train(
    data: DataFile,
    detector: DetectorName = "payments",
    home: Home = None,
    promote: Annotated[bool, typer.Option("--promote", help="Promote it even when there is a champion.")] = False,
    as_json: Json = False,
    *,
    reading: Reading,
) -> None:
    """Train on a history, prove the model, and write it as a new version."""
    from sentinel.commands.history import train_detector

    settings = settings_of(home)
    manifest, champion = train_detector(settings, detector, data, reading, promote=promote)
    shown = {"version": manifest.version, "champion": champion, "metrics": manifest.metrics}
    lines = metric_lines(manifest.version, manifest.metrics)
    if champion != manifest.version:
        lines.append(f"{champion} stays champion; `sentinel models promote {manifest.version}` changes that")
    tell({**shown, "thresholds": manifest.thresholds, "certificate": manifest.certificate}, lines, as_json=as_json)
    warn_of(manifest.version, manifest.metrics)


@reads_history
def evaluate(
    data: DataFile,
    detector: DetectorName = "payments",
    home: Home = None,
    model: Annotated[str | None, typer.Option("--model", help="Version; the champion when left out.")] = None,
    as_json: Json = False,
    *,
    reading: Reading,
) -> None:
    """Measure a trained model: on the test part of its own history, or on what is later than that in another file."""
    from sentinel.commands.history import evaluate_model

    report = evaluate_model(settings_of(home), detector, data, reading, version=model)
    version, metrics = str(report["version"]), msgspec.to_builtins(report["metrics"])
    tell(report, [f"measured on {report['measured_on']}", *metric_lines(version, metrics)], as_json=as_json)
    warn_of(version, metrics)


@reads_history
def parity(
    data: DataFile,
    detector: DetectorName = "payments",
    events: Annotated[int, typer.Option("--events", help="Transactions to send, the newest of the file.")] = 100_000,
    seed: Annotated[int, typer.Option("--seed", help="Of batch sizes, late and repeated transactions.")] = 42,
    as_json: Json = False,
    *,
    reading: Reading,
) -> None:
    """Prove that live and offline features are equal bit for bit, through a real server and a kill -9."""
    from sentinel.commands.history import prove_parity

    report = prove_parity(settings_of(None), detector, data, reading, events, seed)
    said = (
        f"{report.compared:,} feature values of {report.transactions:,} transactions compared "
        f"({report.late:,} late, {report.repeated:,} sent twice, {report.shed:,} shed, "
        f"{report.outcomes:,} outcomes, {report.events:,} context events, {report.killed} kill -9): "
        f"{report.differing:,} differ"
    )
    tell(report, [said, *(f"  {difference}" for difference in report.first_differences)], as_json=as_json)
    if report.differing:
        raise typer.Exit(1)


@benchmark.command("handbook")
def benchmark_handbook(
    data: DataFile,
    train_days: Annotated[
        str, typer.Option("--train-days", help="Days to learn from, or `all` before the delay.")
    ] = "7",
    as_json: Json = False,
) -> None:
    """The protocol of the fraud detection handbook: four test weeks, three published figures."""
    from sentinel.commands.history import run_handbook

    if train_days != "all" and not (train_days.isdigit() and int(train_days) > 0):
        raise InvalidDefinition(f"--train-days is {train_days!r}; give a number of days, or all")
    result = run_handbook(data, None if train_days == "all" else int(train_days))
    said = (
        f"AUC ROC {result.auc_roc:.3f}  average precision {result.average_precision:.3f}  "
        f"card precision@100 {result.card_precision_100:.3f}"
    )
    tell(result, [said], as_json=as_json)


def warn_of(version: str, metrics: dict[str, Any]) -> None:
    """What speaks against a version, in a frame; nothing where nothing does."""
    if metrics["warnings"]:
        terminal.warn(f"{version} can hardly work as it is", metrics["warnings"])


def metric_lines(version: str, metrics: dict[str, Any]) -> list[str]:
    """The metrics of a version for people: how it ranks, beside simple rankings, and where it draws its lines."""
    lines = [f"{version}: {metrics['frauds']:,} frauds among {metrics['transactions']:,} test transactions"]
    ranked = [(f"{name:<20}", metrics[name]) for name in ("average_precision", "auc_roc", "recall_at_1pct_fpr")]
    ranked += [(f"ranking by {name:<9}", one) for name, one in metrics["baselines"].items()]
    for name, one in ranked:
        lines.append(f"  {name} {one['value']:.4f}  (95 %: {one['low']:.4f} to {one['high']:.4f})")
    lowest = [metrics[name] and metrics[name]["threshold"] for name in ("review", "block")]
    for name in ("review", "block"):
        one = metrics[name]
        found = one and (
            f"from {told_apart(one['threshold'], lowest)}: precision {one['precision']:.3f}, recall {one['recall']:.3f}"
        )
        lines.append(f"  {name} {found}" if found else f"  {name}: never")
    return lines


def told_apart(value: float, among: Sequence[float | None]) -> str:
    """A number with 4 decimals, or as many as it takes to differ from the others where it does.

    >>> told_apart(0.01447, [0.01447, 0.01452]), told_apart(0.5, [0.5, None])
    ('0.01447', '0.5000')
    """
    others = [one for one in among if one is not None and one != value]
    for digits in range(4, 18):
        shown = f"{value:.{digits}f}"
        if shown not in [f"{one:.{digits}f}" for one in others]:
            return shown
    return repr(value)
