"""Commands that make and measure models: from a history to a version that is proven."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer

from sentinel.cli.options import DataFile, DetectorName, Home, Json, Port, reads_history, settings_of
from sentinel.cli.terminal import print_json, tell, terminal
from sentinel.cli.verdict import verdict_lines
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
    transactions: Annotated[int | None, typer.Option("--transactions", "-n", help="How many [100,000].")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same bytes.")] = 42,
    detector: Annotated[
        str, typer.Option("--detector", "-d", help="Whose fields to write: payments, velocity or creditcard.")
    ] = "payments",
    legit: Annotated[
        int | None, typer.Option("--legit", help="Draw so many legitimate rows on their own (velocity, creditcard).")
    ] = None,
    fraud: Annotated[int | None, typer.Option("--fraud", help="And so many frauds.")] = None,
    events_out: Annotated[
        Path | None, typer.Option("--events-out", help="File for the logins and changes of passwords beside them.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make card payments with seven kinds of fraud, outcomes that arrive late, and the logins beside them.

    With --legit and --fraud, rows that have nothing to do with each other: the numbers of `velocity` by the
    distributions of Sentinel-Stream, or a file of the shape of the European card data.
    """
    from sentinel.commands.simulate import draw_to_file, simulate_to_file

    if legit is None and fraud is None:
        facts = simulate_to_file(out, 100_000 if transactions is None else transactions, seed, detector, events_out)
    elif legit is None or fraud is None or transactions is not None or events_out is not None:
        raise InvalidDefinition(
            "--legit and --fraud belong together, and leave no place for --transactions or --events-out"
        )
    else:
        facts = draw_to_file(out, legit, fraud, seed, detector)
    said = f"{facts['transactions']:,} transactions, {facts['frauds']:,} of them fraud, in {out}"
    beside = [] if events_out is None else [f"{facts['events']:,} context events in {events_out}"]
    tell(facts, [said, *beside], as_json=as_json)


@features.command("build")
@reads_history
def features_build(
    data: DataFile,
    out: Annotated[Path, typer.Option("--out", help="Parquet file to write: the id and a column per feature.")],
    detector: DetectorName = "payments",
    checkpoint_rows: Annotated[
        int, typer.Option("--checkpoint-rows", help="Rows after which a build that is stopped goes on from there.")
    ] = 5_000_000,
    restart: Annotated[bool, typer.Option("--restart", help="Forget a build that was stopped.")] = False,
    engine: Annotated[
        Literal["local", "spark"], typer.Option("--engine", help="This machine, or Spark: then --out becomes a folder.")
    ] = "local",
    master: Annotated[
        str, typer.Option("--master", help="Where Spark runs: local[*], or a cluster's address.")
    ] = "local[*]",
    as_json: Json = False,
    *,
    reading: Reading,
) -> None:
    """Replay a history and write the features of every transaction, as the live service would compute them.

    A build of Parquet files that was stopped goes on where it was, with the same command.
    """
    if engine == "spark":
        facts = _built_on_spark(data, out, detector, reading, master)
        tell(facts, [f"{facts['transactions']:,} rows of {facts['features']} features in {out}"], as_json=as_json)
        return
    from sentinel.commands.backfill.build import build_features

    facts = build_features(settings_of(None), detector, data, out, reading, checkpoint_rows, restart=restart)
    tell(facts, [f"{facts['transactions']:,} rows of {facts['features']} features in {out}"], as_json=as_json)


def _built_on_spark(data: Path, out: Path, detector: str, reading: Reading, master: str) -> dict[str, object]:
    from sentinel.commands.backfill.spark_environment import has_spark, run_with_spark

    if not has_spark():
        raise typer.Exit(run_with_spark(settings_of(None), sys.argv[1:]))
    from sentinel.commands.backfill.on_spark import build_features_on_spark

    return build_features_on_spark(settings_of(None), detector, data, out, reading, master)


@reads_history
def train(
    data: DataFile,
    detector: DetectorName = "payments",
    home: Home = None,
    budget: Annotated[
        str | None, typer.Option("--budget", help="Search for a better training for so long, as 10m.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One fit: no folds, no calibration, no refit.")] = False,
    seed: Annotated[int | None, typer.Option("--seed", help="Of every chance in training [the detector's].")] = None,
    target_fpr: Annotated[
        float | None, typer.Option("--target-fpr", help="Largest share of false alarms, as 0.01 [the detector's].")
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="`time`, or `random`: stratified 80/20, to compare [the detector's].")
    ] = None,
    refit: Annotated[
        str | None, typer.Option("--refit", help="What the model learns from in the end: none, validation, all.")
    ] = None,
    calibration: Annotated[
        str | None, typer.Option("--calibration", help="What makes scores probabilities: beta, isotonic, none [beta].")
    ] = None,
    promote: Annotated[bool, typer.Option("--promote", help="Promote it even when there is a champion.")] = False,
    learner: Annotated[
        str | None,
        typer.Option(
            "--learner",
            help="What to learn with instead of the detector's: xgboost, lightgbm, catboost, random_forest or "
            "logistic_regression.",
        ),
    ] = None,
    mlflow: Annotated[
        bool | None, typer.Option("--mlflow/--no-mlflow", help="Tell MLflow of it [if its address is given].")
    ] = None,
    mlflow_tracking_uri: Annotated[
        str | None,
        typer.Option("--mlflow-tracking-uri", help="Its address [$MLFLOW_TRACKING_URI, sqlite:///mlflow.db]."),
    ] = None,
    mlflow_experiment: Annotated[
        str | None, typer.Option("--mlflow-experiment", help="The experiment there [sentinel].")
    ] = None,
    gate: Annotated[
        bool, typer.Option("--gate", help="Write no version that misses promotion_policy.yaml of the home folder.")
    ] = False,
    as_json: Json = False,
    *,
    reading: Reading,
) -> None:
    """Train on a history, prove the model, and write it as a new version."""
    from sentinel.commands.experiment import asked_of, experiment_of, leaderboard_lines
    from sentinel.commands.history import train_detector
    from sentinel.commands.tracking import tracking_of

    settings, how = settings_of(home), experiment_of(budget, quick=quick, refit=refit, calibration=calibration)
    tracking = tracking_of(mlflow, mlflow_tracking_uri, mlflow_experiment)
    asked = asked_of(detector, learner=learner, seed=seed, target_fpr=target_fpr, split=split)
    manifest, champion, verdict, report = train_detector(
        settings, asked, data, reading, how, promote=promote, gate=gate, tracking=tracking
    )
    experiment = manifest.training["experiment"]
    board = experiment["leaderboard"]
    shown = {
        "version": manifest.version,
        "champion": champion,
        "gate": verdict,
        "report": str(report),
        "metrics": manifest.metrics,
        "leaderboard": board,
        "chosen": experiment["chosen"],
    }
    lines = [*leaderboard_lines(board, experiment["chosen"]), *metric_lines(manifest.version, manifest.metrics)]
    if verdict is not None:
        lines += verdict_lines(verdict)
    if champion != manifest.version:
        lines.append(who_stays(champion, manifest.version, passed=verdict is None or verdict.passed))
    lines.append(f"its report: {report}")
    tell({**shown, "thresholds": manifest.thresholds, "certificate": manifest.certificate}, lines, as_json=as_json)
    warn_of(manifest.version, manifest.metrics)


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
    actions = [name for name in ("challenge", "review", "block") if name != "challenge" or metrics.get(name)]
    lowest = [metrics[name] and metrics[name]["threshold"] for name in actions]
    for name in actions:
        one = metrics[name]
        found = one and (
            f"from {told_apart(one['threshold'], lowest)}: precision {one['precision']:.3f}, recall {one['recall']:.3f}"
        )
        lines.append(f"  {name} {found}" if found else f"  {name}: never")
    return [*lines, *_effect_lines(metrics["effects"])] if "effects" in metrics else lines


def _effect_lines(effects: dict[str, Any]) -> list[str]:
    """What the thresholds do a day, in money and in work."""
    cost, saved = effects["cost_a_day"], effects["saved_a_day"]
    work = [
        f"{name} {effects[f'{name}_a_day']['value']:,.1f} ({effects[f'{name}_a_day']['low']:,.1f} to "
        f"{effects[f'{name}_a_day']['high']:,.1f})"
        for name in ("challenges", "reviews", "blocks")
        if effects[f"{name}_a_day"]["value"]
    ]
    return [
        f"  cost a day           {cost['value']:,.2f}  (95 %: {cost['low']:,.2f} to {cost['high']:,.2f})",
        f"  saved a day          {saved['value']:,.2f}  (95 %: {saved['low']:,.2f} to {saved['high']:,.2f})",
        f"  work a day           {', '.join(work) or 'none'}",
    ]


def who_stays(champion: str | None, version: str, *, passed: bool) -> str:
    """Who decides after a training that promoted nobody, and the command that changes it.

    >>> who_stays("v1", "v2", passed=True)
    'v1 stays champion; `sentinel models promote v2` changes that'
    >>> who_stays(None, "v1", passed=False)
    'there is no champion; `sentinel models promote v1 --force --reason TEXT` changes that'
    """
    stays = f"{champion} stays champion" if champion else "there is no champion"
    return f"{stays}; `sentinel models promote {version}{'' if passed else ' --force --reason TEXT'}` changes that"


def told_apart(value: float, among: Sequence[float | None]) -> str:
    """A number with four significant digits, or as many as it takes to differ from the others where it does.

    >>> told_apart(0.01447, [0.01447, 0.014471]), told_apart(0.5, [0.5, None]), told_apart(0.0000123456, [])
    ('0.01447', '0.5', '0.00001235')
    """
    others = [one for one in among if one is not None and one != value]
    for digits in range(4, 18):
        shown = _significant(value, digits)
        if shown not in [_significant(one, digits) for one in others]:
            return shown
    return repr(value)


def _significant(value: float, digits: int) -> str:
    return np.format_float_positional(value, digits, fractional=False, trim="-")
