"""The command line: every command, its options and its help. What they do is elsewhere.

Training and its libraries are imported by the commands that train, so that `serve` starts without them.
"""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from sentinel import __version__
from sentinel.app import serve as run_server
from sentinel.config import DEFAULT_HOME, Settings, read_settings
from sentinel.errors import InvalidDefinition, SentinelError
from sentinel.model.bundle import read_manifest
from sentinel.model.registry import Registry
from sentinel.record.applied import HomeDeployment, log_folder
from sentinel.telemetry.logs import configure_logging

_terminal = Console(stderr=True, highlight=False)


class _ClearErrors(TyperGroup):
    """Shows what went wrong as a sentence, not as a traceback."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        try:
            return super().invoke(ctx)
        except SentinelError as error:
            _terminal.print(f"[red]error:[/red] {error}", soft_wrap=True, markup=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            _terminal.print("stopped")
            raise typer.Exit(130) from None


app = typer.Typer(
    name="sentinel",
    cls=_ClearErrors,
    help="Decide in the moment of a transaction whether to approve, review or block it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
features_app = typer.Typer(help="Compute the features of a history.", no_args_is_help=True)
models_app = typer.Typer(help="List the trained models, look at one, promote one.", no_args_is_help=True)
benchmark_app = typer.Typer(help="Measure against published results.", no_args_is_help=True)
app.add_typer(features_app, name="features")
app.add_typer(models_app, name="models")
log_app = typer.Typer(help="Look after the log, which holds every decision.", no_args_is_help=True)
views_app = typer.Typer(help="Look after the views, which are derived from the log.", no_args_is_help=True)
app.add_typer(log_app, name="log")
app.add_typer(views_app, name="views")
bench_app = typer.Typer(help="Measure the speed of this machine.", no_args_is_help=True)
app.add_typer(benchmark_app, name="benchmark")
app.add_typer(bench_app, name="bench")

DetectorName = Annotated[str, typer.Option("--detector", "-d", help="A preset, or a path to your detector's .py file.")]
DataFile = Annotated[Path, typer.Option("--data", help="History: .csv, .parquet, .jsonl or .ndjson.")]
Home = Annotated[
    Path | None, typer.Option("--home", help=f"Folder of models and log [$SENTINEL_HOME, {DEFAULT_HOME}].")
]
Renames = Annotated[str | None, typer.Option("--map", help="Columns of your file by field: COLUMN=FIELD,COLUMN=FIELD.")]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at rows that cannot be used instead of skipping them.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]
Port = Annotated[int | None, typer.Option("--port", "-p", help="Where to listen [$SENTINEL_PORT, 8000].")]


def main() -> None:
    """Run the command line; a SentinelError becomes one line and exit code 1."""
    configure_logging()
    # XGBoost's threads wait by spinning; on a busy machine that takes ten times as long. Read when it is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app()


def _print_json(value: Any) -> None:
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")


def _tell(value: Any, lines: Iterable[str], *, as_json: bool) -> None:
    """One JSON object on standard output for machines, or lines on standard error for people."""
    if as_json:
        _print_json(value)
        return
    for line in lines:
        _terminal.print(line)


def _renames(text: str | None) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in (text or "").split(",") if pair]
    wrong = [pair[0] for pair in pairs if not (pair[0] and pair[2])]
    if wrong:
        raise InvalidDefinition(f"--map: {wrong[0]!r} is no pair; write COLUMN=FIELD,COLUMN=FIELD")
    return {column.strip(): field.strip() for column, _, field in pairs}


def _settings(home: Path | None, **given: object) -> Settings:
    return read_settings({"home": home, **given})


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"sentinel {__version__}\n")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    del version


@app.command()
def demo(
    data: Annotated[Path | None, typer.Option("--data", help="Your history instead of simulated payments.")] = None,
    detector: DetectorName = "payments",
    seconds: Annotated[float | None, typer.Option("--seconds", help="End after so long instead of at Ctrl-C.")] = None,
    home: Home = None,
    port: Port = None,
    rate: Annotated[float, typer.Option("--rate", help="Transactions a second to send.")] = 1000.0,
    transactions: Annotated[int, typer.Option("--transactions", help="How many to simulate.")] = 250_000,
    renames: Renames = None,
) -> None:
    """Simulate, train, certify, serve, and watch live decisions: the whole product in one command."""
    from sentinel.commands.demo import run_demo

    settings = _settings(home, port=port)
    if settings.home == DEFAULT_HOME:
        settings = _settings(DEFAULT_HOME / "demo", port=port)
    view = run_demo(settings, detector, data, _renames(renames), seconds=seconds, rate=rate, transactions=transactions)
    _print_json(view.summary())


@app.command()
def simulate(
    out: Annotated[Path, typer.Option("--out", help="File to write: .parquet, .csv or .jsonl.")],
    transactions: Annotated[int, typer.Option("--transactions", "-n", help="How many.")] = 100_000,
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same bytes.")] = 42,
    detector: Annotated[
        str, typer.Option("--detector", "-d", help="Whose fields to write: payments or velocity.")
    ] = "payments",
    as_json: Json = False,
) -> None:
    """Make card payments with six kinds of fraud, and outcomes that arrive late."""
    from sentinel.commands.simulate import simulate_to_file

    facts = simulate_to_file(out, transactions, seed, detector)
    said = f"{facts['transactions']:,} transactions, {facts['frauds']:,} of them fraud, in {out}"
    _tell(facts, [said], as_json=as_json)


@features_app.command("build")
def features_build(
    data: DataFile,
    out: Annotated[Path, typer.Option("--out", help="Parquet file to write: the id and a column per feature.")],
    detector: DetectorName = "payments",
    renames: Renames = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Replay a history and write the features of every transaction, as the live service would compute them."""
    from sentinel.commands.history import build_features

    facts = build_features(detector, data, out, _renames(renames), strict=strict)
    _tell(facts, [f"{facts['transactions']:,} rows of {facts['features']} features in {out}"], as_json=as_json)


@app.command()
def train(
    data: DataFile,
    detector: DetectorName = "payments",
    home: Home = None,
    promote: Annotated[bool, typer.Option("--promote", help="Promote it even when there is a champion.")] = False,
    renames: Renames = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Train on a history, prove the model, and write it as a new version."""
    from sentinel.commands.history import train_detector

    settings = _settings(home)
    manifest, champion = train_detector(settings, detector, data, _renames(renames), strict=strict, promote=promote)
    shown = {"version": manifest.version, "champion": champion, "metrics": manifest.metrics}
    lines = _metric_lines(manifest.version, manifest.metrics)
    if champion != manifest.version:
        lines.append(f"{champion} stays champion; `sentinel models promote {manifest.version}` changes that")
    _tell({**shown, "thresholds": manifest.thresholds, "certificate": manifest.certificate}, lines, as_json=as_json)


@app.command()
def evaluate(
    data: DataFile,
    detector: DetectorName = "payments",
    home: Home = None,
    model: Annotated[str | None, typer.Option("--model", help="Version; the champion when left out.")] = None,
    renames: Renames = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Measure a trained model: on the test part of its own history, or on the whole of another file."""
    from sentinel.commands.history import evaluate_model

    report = evaluate_model(_settings(home), detector, data, _renames(renames), strict=strict, version=model)
    lines = _metric_lines(str(report["version"]), msgspec.to_builtins(report["metrics"]))
    _tell(report, [f"measured on {report['measured_on']}", *lines], as_json=as_json)


@app.command()
def parity(
    data: DataFile,
    detector: DetectorName = "payments",
    events: Annotated[int, typer.Option("--events", help="Transactions to send, the newest of the file.")] = 100_000,
    seed: Annotated[int, typer.Option("--seed", help="Of batch sizes, late and repeated transactions.")] = 42,
    renames: Renames = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Prove that live and offline features are equal bit for bit, through a real server and a kill -9."""
    from sentinel.commands.history import prove_parity

    report = prove_parity(detector, data, _renames(renames), events, seed, strict=strict)
    said = (
        f"{report.compared:,} feature values of {report.transactions:,} transactions compared "
        f"({report.late:,} late, {report.repeated:,} sent twice, {report.shed:,} shed, "
        f"{report.outcomes:,} outcomes, {report.killed} kill -9): {report.differing:,} differ"
    )
    _tell(report, [said, *(f"  {difference}" for difference in report.first_differences)], as_json=as_json)
    if report.differing:
        raise typer.Exit(1)


@app.command()
def serve(
    home: Home = None,
    port: Port = None,
    host: Annotated[
        str | None, typer.Option("--host", help="Address to listen on [$SENTINEL_HOST, 127.0.0.1].")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", help="Processes; more than one answers /predict only [$SENTINEL_WORKERS, 1]."),
    ] = None,
) -> None:
    """Answer transactions over HTTP until Ctrl-C or SIGTERM; see /docs once it runs."""
    settings = _settings(home, port=port, host=host, workers=workers)
    scheme = "https" if settings.tls_key else "http"
    _terminal.print(f"{scheme}://{settings.host}:{settings.port} (docs at /docs), home {settings.home}")
    run_server(settings)


@models_app.command("list")
def models_list(home: Home = None, as_json: Json = False) -> None:
    """Every trained version, and which one is champion."""
    settings = _settings(home)
    registry = Registry(settings.models)
    champion = HomeDeployment(settings.home).read().champion
    rows = [
        {
            "version": version,
            "champion": version == champion,
            "detector": manifest.detector,
            "created_at": manifest.created_at,
            "average_precision": manifest.metrics["average_precision"]["value"],
        }
        for version in registry.versions()
        for manifest in [read_manifest(registry.path(version))]
    ]
    lines = [
        f"{row['version']:>5}  {row['detector']:<14} {row['created_at']}  "
        f"average precision {row['average_precision']:.3f}  {'champion' if row['champion'] else ''}"
        for row in rows
    ]
    _tell(rows, lines or ["no models yet; run `sentinel train`"], as_json=as_json)


@models_app.command("show")
def models_show(version: str, home: Home = None) -> None:
    """The manifest of a version, as JSON."""
    _print_json(read_manifest(Registry(_settings(home).models).path(version)))


@models_app.command("promote")
def models_promote(version: str, home: Home = None) -> None:
    """Make a version the champion; servers that run follow within a second."""
    from sentinel.commands.promote import promote_version

    promote_version(_settings(home), version)
    _terminal.print(f"{version} is the champion")


@log_app.command("verify")
def log_verify(home: Home = None, as_json: Json = False) -> None:
    """Read all of the log and check every record: checksum, hash chain, and that none is missing."""
    from sentinel.record.verify import verify

    found = verify(log_folder(_settings(home).home))
    lines = [f"[red]DAMAGED[/red] {one.segment}, position {one.position}: {one.problem}" for one in found.findings]
    lines.append(
        f"{found.entries:,} entries from {found.first} to {found.end - 1} in {found.segments} segments, "
        f"{found.bytes:,} bytes: {'damaged' if found.findings else 'whole'}"
    )
    _tell(found._asdict() | {"findings": [one._asdict() for one in found.findings]}, lines, as_json=as_json)
    if found.findings:
        raise typer.Exit(1)


@log_app.command("prune")
def log_prune(
    home: Home = None,
    keep: Annotated[
        str | None, typer.Option("--keep", help="How much to keep: 180d, 26w, 24h [$SENTINEL_KEEP_LOG, 180d].")
    ] = None,
    archive: Annotated[
        Path | None, typer.Option("--archive", help="Folder to copy to before, else gone [$SENTINEL_ARCHIVE].")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would go, and remove nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Remove the oldest part of the log, in whole segments, as far as nobody needs it.

    A server does so by itself, once an hour. It is asked when one runs. Segments stay while the view, a shadow, an
    experiment, two snapshots of each model in charge, or the memory of ids need them: what it is is said.
    """
    from sentinel.commands.prune import look_at_log, prune_log

    settings = _settings(home)
    found = look_at_log(settings, keep) if dry_run else prune_log(settings, keep, archive)
    done = "would be removed" if dry_run else "removed"
    lines = [
        f"{_segments(found.removed)}, {found.removed_bytes:,} bytes, {done}",
        f"the log begins at position {found.first}, {found.oldest}: {_segments(found.segments)}, {found.bytes:,} bytes",
        *(f"[yellow]held back[/yellow]: {one}" for one in found.held_by),
    ]
    _tell(found, lines, as_json=as_json)


def _segments(n: int) -> str:
    return f"{n:,} segment" if n == 1 else f"{n:,} segments"


@views_app.command("rebuild")
def views_rebuild(home: Home = None, as_json: Json = False) -> None:
    """Delete the view and derive it anew from the log. Decisions go on meanwhile."""
    from sentinel.commands.progress import stages
    from sentinel.commands.storage import rebuild_views

    with stages() as stage:
        counts = rebuild_views(_settings(home), stage)
    said = f"the view holds {counts.decisions:,} decisions and {counts.outcomes:,} outcomes now"
    _tell(counts, [said], as_json=as_json)


@app.command()
def doctor(home: Home = None, port: Port = None, as_json: Json = False) -> None:
    """Check this machine and home folder: libraries, disk, kernel cache, port, models, log, view."""
    from sentinel.commands.doctor import examine

    findings = examine(_settings(home, port=port))
    healthy = all(one.ok for one in findings)
    lines = [f"{'[green]ok  [/green]' if one.ok else '[red]FAIL[/red]'} {one.what}: {one.found}" for one in findings]
    _tell({"healthy": healthy, "checks": findings}, lines, as_json=as_json)
    if not healthy:
        raise typer.Exit(1)


@benchmark_app.command("handbook")
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
    _tell(result, [said], as_json=as_json)


@bench_app.command("serve")
def bench_serve(
    seconds: Annotated[float, typer.Option("--seconds", help="Of each load.")] = 4.0,
    repeats: Annotated[int, typer.Option("--repeats", help="Of everything; medians are shown.")] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="Less than a minute: tells whether it works.")] = False,
    plot: Annotated[Path | None, typer.Option("--plot", help="PNG to write: latency against offered load.")] = None,
    as_json: Json = False,
) -> None:
    """Requests a second and latencies over HTTP: the server on one core, the load on another, nginx beside it."""
    from sentinel.bench.serving_benchmark import QUICK, Plan, run_serving_benchmark
    from sentinel.bench.serving_plot import draw_latency
    from sentinel.commands.progress import stages

    if seconds <= 0 or repeats < 1:
        raise InvalidDefinition("--seconds must be above 0 and --repeats at least 1")
    with stages() as stage:
        report = run_serving_benchmark(QUICK if quick else Plan(seconds, repeats), stage)
    if plot is not None:
        draw_latency(report, plot)
    if as_json:
        _print_json(report)
        return
    table = Table(box=None, header_style="bold")
    for column in ("load", "requests/s", "p50 ms", "p99 ms", "p99.9 ms", "errors", "server CPU"):
        table.add_column(column, justify="left" if column == "load" else "right")
    for one in report.loads:
        found = one.figures
        table.add_row(
            one.name, f"{found['per_second']:,.0f}", f"{found['p50_ms']:.2f}", f"{found['p99_ms']:.2f}",
            f"{found['p99_9_ms']:.2f}", f"{found['refused'] + found['errors']:.0f}", f"{one.server_cpu:.0%}",
        )  # fmt: skip
    _terminal.print(table)
    if report.ratio_hot is not None:
        _terminal.print(
            f"of nginx {report.nginx_version}: hot {report.ratio_hot:.2f}, distinct {report.ratio_distinct:.2f}"
        )
    _terminal.print(f"{report.scores_checked:,} scores checked, {report.decisions_stored:,} decisions in the log")
    for name in report.generator_is_limit:
        _terminal.print(f"[yellow]{name}: the generator did not keep up; the server may be faster[/yellow]")


def _metric_lines(version: str, metrics: dict[str, Any]) -> list[str]:
    lines = [f"{version}: {metrics['frauds']:,} frauds among {metrics['transactions']:,} test transactions"]
    ranked = [(f"{name:<20}", metrics[name]) for name in ("average_precision", "auc_roc", "recall_at_1pct_fpr")]
    ranked += [(f"ranking by {name:<9}", one) for name, one in metrics["baselines"].items()]
    for name, one in ranked:
        lines.append(f"  {name} {one['value']:.4f}  (95 %: {one['low']:.4f} to {one['high']:.4f})")
    for name in ("review", "block"):
        one = metrics[name]
        found = one and f"from {one['threshold']:.4f}: precision {one['precision']:.3f}, recall {one['recall']:.3f}"
        lines.append(f"  {name} {found}" if found else f"  {name}: never")
    return lines
