"""The command line: every command, its options and its help. What they do is elsewhere.

Training and its libraries are imported by the commands that train, so that `serve` starts without them.
"""

import errno
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

from sentinel import __version__
from sentinel.app import serve as run_server
from sentinel.config import DEFAULT_HOME, Settings, read_settings
from sentinel.errors import InvalidDefinition, SentinelError
from sentinel.events.card_numbers import masked
from sentinel.events.times import iso
from sentinel.model.bundle import read_manifest
from sentinel.model.registry import Registry
from sentinel.record.applied import HomeDeployment, log_folder
from sentinel.record.private import keep_private
from sentinel.record.salvage import Damage
from sentinel.telemetry.logs import configure_logging
from sentinel.transport.access.store import KeyStore

_terminal = Console(stderr=True, highlight=False)
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG)
TRAINING_MODULES = ("matplotlib", "onnx", "polars", "scipy", "sklearn", "xgboost")
"""What the extra `train` brings: a server is installed without."""


class _ClearErrors(TyperGroup):
    """Shows what went wrong as a sentence, not as a traceback."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        try:
            return super().invoke(ctx)
        except SentinelError as error:
            _terminal.print("[red]error:[/red]", escape(str(error)), soft_wrap=True)
            raise typer.Exit(1) from None
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in TRAINING_MODULES:
                raise
            told = f"{error.name} is not installed; training needs it: pip install 'sentinel-fraud[train]'"
            _terminal.print("[red]error:[/red]", escape(told), soft_wrap=True)
            raise typer.Exit(1) from None
        except OSError as error:
            if error.errno not in _OF_THE_DISK:
                raise
            named = f"{error.filename}: " if error.filename else ""
            _terminal.print(f"[red]error:[/red] {named}{error.strerror}; free or repair the disk", soft_wrap=True)
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
outcomes_app = typer.Typer(help="Take back outcomes that should not have been told.", no_args_is_help=True)
views_app = typer.Typer(help="Look after the views, which are derived from the log.", no_args_is_help=True)
app.add_typer(log_app, name="log")
app.add_typer(outcomes_app, name="outcomes")
app.add_typer(views_app, name="views")
keys_app = typer.Typer(help="Make, list, rotate and revoke API keys.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")
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
    keep_private()
    configure_logging(hide=masked)
    # XGBoost's threads wait by spinning; on a busy machine that takes ten times as long. Read when it is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app()


def _print_json(value: Any) -> None:
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")


def _tell_lines(lines: Iterable[str]) -> None:
    for line in lines:
        _terminal.print(line)


def _tell(value: Any, lines: Iterable[str], *, as_json: bool) -> None:
    """One JSON object on standard output for machines, or lines on standard error for people."""
    if as_json:
        _print_json(value)
        return
    _tell_lines(lines)


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

    facts = build_features(_settings(None), detector, data, out, _renames(renames), strict=strict)
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

    report = prove_parity(_settings(None), detector, data, _renames(renames), events, seed, strict=strict)
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


@app.command()
def replay(
    transaction: Annotated[str | None, typer.Argument(help="Id of the transaction; left out with --all.")] = None,
    home: Home = None,
    every: Annotated[bool, typer.Option("--all", help="Every decision in the log.")] = False,
    since: Annotated[str | None, typer.Option("--since", help="With --all: those received from this time on.")] = None,
    most: Annotated[int | None, typer.Option("--most", min=1, help="With --all: so many of them at most.")] = None,
    as_json: Json = False,
) -> None:
    """Compute stored decisions again from their stored features, model and thresholds: not one bit may differ.

    The checksum and the hash chain of what is read are checked as well. Exit code 1 when anything differs.
    """
    from sentinel.commands.progress import stages
    from sentinel.commands.replay import Receipt, replay_all, replay_one

    if (transaction is None) != every or (not every and (since or most)):
        raise InvalidDefinition("give the id of a transaction, or --all, with --since and --most if you like")

    def line(one: Receipt) -> str:
        again = (
            f"replayed {one.replayed.decision} {one.replayed.fraud_probability!r}" if one.replayed else "not replayed"
        )
        stored = f"stored {one.stored.decision} {one.stored.fraud_probability!r}"
        why = f": {one.problem}" if one.problem else ""
        by = f"{one.model_version}, its rules ({one.degraded})" if one.degraded else one.model_version
        return f"{one.transaction_id} at position {one.position}, by {by}: {stored}, {again}{why}"

    settings = _settings(home)
    if transaction is not None:
        receipt = replay_one(settings, transaction)
        _tell(receipt, [line(receipt), "the same" if receipt.same else "[red]NOT the same[/red]"], as_json=as_json)
        if not receipt.same:
            raise typer.Exit(1)
        return
    with stages() as stage:
        report = replay_all(settings, since, most, stage)
    said = f"{report.decisions:,} decisions replayed: {report.differing:,} differ, {report.impossible:,} could not be"
    _tell(report, [said, *map(line, report.first)], as_json=as_json)
    if report.differing or report.impossible:
        raise typer.Exit(1)


@models_app.command("list")
def models_list(home: Home = None, as_json: Json = False) -> None:
    """Every trained version, and which one is champion."""
    from sentinel.commands.models import list_models

    rows = list_models(_settings(home))
    lines = [
        f"{row.version:>5}  [red]broken[/red]: {row.problem}  {'champion' if row.champion else ''}"
        if row.problem
        else f"{row.version:>5}  {row.detector or '':<14} {row.created_at}  "
        f"average precision {row.average_precision or 0.0:.3f}  {'champion' if row.champion else ''}"
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


@models_app.command("accept")
def models_accept(version: str, home: Home = None) -> None:
    """Take in a version that was copied here: all of it is checked, then it is in the registry's record."""
    from sentinel.commands.models import accept_model

    _terminal.print(f"{version} is accepted; the SHA-256 of its manifest is {accept_model(_settings(home), version)}")


@models_app.command("keygen")
def models_keygen(
    out: Annotated[Path, typer.Option("--out", help="File for the private key; the public one gets .pub behind it.")],
) -> None:
    """Make a pair of keys: the private one signs models, the public one says which to trust."""
    from sentinel.model.signing import make_key_pair

    public, line = make_key_pair(out)
    _terminal.print(f"SENTINEL_SIGNING_KEY_FILE={out} has `sentinel train` sign; keep it away from servers")
    _terminal.print(f"SENTINEL_TRUSTED_KEYS_FILE={public} has `sentinel serve` refuse what it did not sign: {line}")


@models_app.command("sign")
def models_sign(version: str, home: Home = None) -> None:
    """Sign a version that was trained without a key, with that of SENTINEL_SIGNING_KEY_FILE."""
    from sentinel.commands.models import sign_model

    sign_model(_settings(home), version)
    _terminal.print(f"{version} is signed")


@log_app.command("verify")
def log_verify(home: Home = None, as_json: Json = False) -> None:
    """Read all of the log and check every record: checksum, hash chain, that none is missing, and that it fits.

    A transaction that is whole and does not fit the schema of its model is named; it stops nothing.
    """
    from sentinel.commands.storage import odd_transactions
    from sentinel.record.verify import verify

    settings = _settings(home)
    found = verify(log_folder(settings.home))
    odd = [] if found.findings else odd_transactions(settings.home)
    lines = [f"[red]DAMAGED[/red] {one.segment}, position {one.position}: {one.problem}" for one in found.findings]
    lines += [
        f"[yellow]lost[/yellow] positions {begin} to {end - 1}, given up {iso(loss.accepted_us)}: {loss.problem}"
        for begin, end, loss in found.losses
    ]
    lines += [
        f"[yellow]set aside[/yellow] position {one.position}, {escape(f'{one.transaction_id}: {one.why}')}"
        for one in odd
    ]
    lines.append(
        f"{found.entries:,} entries from {found.first} to {found.end - 1} in {found.segments} segments, "
        f"{found.bytes:,} bytes: {'damaged' if found.findings else 'whole'}"
    )
    shown = {name: [one._asdict() for one in getattr(found, name)] for name in ("findings", "losses")}
    _tell(found._asdict() | shown | {"set_aside": odd}, lines, as_json=as_json)
    if found.findings:
        raise typer.Exit(1)


@log_app.command("accept-loss")
def log_accept_loss(
    position: Annotated[int, typer.Argument(help="The position that the start or `sentinel log verify` has named.")],
    home: Home = None,
    yes: Annotated[bool, typer.Option("--yes", help="Give it up without asking.")] = False,
    as_json: Json = False,
) -> None:
    """Give up entries of the log that are damaged or gone, so that the server starts again without them.

    First it shows what is lost. Everything else is kept, also behind it; the damaged bytes are kept in a file beside
    the segments; and the loss is an entry of the log. A transaction that was lost is decided anew if it is sent again.
    """
    from sentinel.commands.accept_loss import loss_at

    with loss_at(_settings(home), position) as found:
        lost = found.damage
        _tell_lines(_lines_of(lost))
        if not yes:
            typer.confirm("Give this up?", abort=True, err=True)
        kept = found.accept()
    said = "it is given up" + (f"; the damaged bytes are in log/{kept}" if kept else "")
    _tell(lost._asdict() | {"kept": kept}, [said], as_json=as_json)


def _lines_of(lost: Damage) -> list[str]:
    entries = lost.end - lost.begin
    times = [f"after {iso(lost.after_us)}"] if lost.after_us else []
    times += [f"before {iso(lost.before_us)}"] if lost.before_us else []
    what = f"positions {lost.begin} to {lost.end - 1}, {entries:,} entries" if entries else "no entries"
    return [
        f"{lost.segment}, position {lost.begin}: {lost.problem}",
        f"lost: {what}; {lost.decided:,} of them are decisions, of {lost.unknown:,} nothing can be told",
        f"received {' and '.join(times) or 'at a time that is not known'}; {lost.bytes:,} damaged bytes",
    ]


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


@outcomes_app.command("revoke")
def outcomes_revoke(
    key: Annotated[str, typer.Option("--key", help="API key that told them; `operator` for those told without one.")],
    reason: Annotated[str, typer.Option("--reason", help="Why: it stays with each of them.")],
    home: Home = None,
    since: Annotated[str | None, typer.Option("--from", help="Received from then on: ISO 8601 or Unix.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Received before then.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what it would change, and change nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Take back the outcomes that an API key has told: features and figures are as if corrected from now on.

    What was decided before stays as it is. Revoke the key first, or it tells more. A server that runs is asked.
    """
    from sentinel.commands.revoke import revoke_outcomes

    done = revoke_outcomes(_settings(home), key=key, reason=reason, since=since, until=until, dry_run=dry_run)
    verb = "would be taken back" if dry_run else "taken back"
    said = (
        f"{done.outcomes:,} outcomes of {done.transactions:,} transactions {verb}; {done.changed:,} change their truth"
    )
    _tell(done, [said], as_json=as_json)


@keys_app.command("create")
def keys_create(
    name: Annotated[str, typer.Argument(help="Who uses it, such as shop-eu.")],
    scopes: Annotated[str, typer.Option("--scopes", "-s", help="Of: score,outcomes,events,read,rules,operate,admin.")],
    expires: Annotated[str, typer.Option("--expires", help="How long it is good: 90d, 26w, or never.")] = "365d",
    rate: Annotated[float | None, typer.Option("--rate", help="Transactions a second that it may send.")] = None,
    source: Annotated[str | None, typer.Option("--source", help="Whose outcomes it reports; its name else.")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make a key and show it, once. A server that runs knows it within a second."""
    from sentinel.commands.keys import create_key

    made = create_key(_settings(home), name, scopes, expires, rate, source)
    _tell_key(made, as_json=as_json)


@keys_app.command("list")
def keys_list(home: Home = None, as_json: Json = False) -> None:
    """The keys there are, without what is secret of them."""
    from sentinel.commands.keys import list_keys

    rows = list_keys(_settings(home))
    lines = [
        f"{row.id}  {row.name:<20} {','.join(row.scopes):<24} "
        f"{'[red]expired[/red]' if row.is_over else 'until'} {(row.expires or 'it is revoked')[:10]}"
        f"{f', {row.rate:g} a second' if row.rate else ''}"
        for row in rows
    ]
    _tell(rows, lines or ["no keys yet; `sentinel keys create NAME --scopes score` makes one"], as_json=as_json)


@keys_app.command("rotate")
def keys_rotate(
    name: str,
    overlap: Annotated[str, typer.Option("--overlap", help="How long the old key stays good: 7d, 1h, 0d.")] = "7d",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make a new key of this name, and have the old one end after a while."""
    from sentinel.commands.keys import rotate_key

    _tell_key(rotate_key(_settings(home), name, overlap), as_json=as_json)


@keys_app.command("revoke")
def keys_revoke(
    name: Annotated[str, typer.Argument(help="Its name, or its id where two have the name.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """End a key: a server that runs refuses it within a second."""
    from sentinel.commands.keys import revoke_key

    revoked = revoke_key(_settings(home), name)
    _tell({"revoked": revoked}, [f"revoked: {', '.join(revoked)}"], as_json=as_json)


def _tell_key(made: Any, *, as_json: bool) -> None:
    """The key alone on standard output, so that it can be kept without a look at it."""
    if as_json:
        _print_json(made)
        return
    until = f"until {made.expires}" if made.expires else "for ever"
    _terminal.print(f"{made.name} ({made.id}): {', '.join(made.scopes)}, {until}. It is shown this once:")
    sys.stdout.write(made.key + "\n")


@app.command()
def audit(
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many, the newest first.")] = 50,
    cursor: Annotated[int, typer.Option("--cursor", help="Go on from there: `next` of the page before.")] = 0,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Who changed what, from where and when: models, thresholds, experiments, keys, the log."""
    if limit < 1:
        raise InvalidDefinition("--limit must be at least 1")
    settings = _settings(home)
    page = HomeDeployment(settings.home).audit(limit, cursor)
    waiting = KeyStore(settings.home).read().changes
    lines = [
        f"{one.at}  {escape(one.who)} ({escape(one.where)})  {escape(one.what)}  "
        f"{escape(one.before)} -> {escape(one.after)}"
        for one in page.changes
    ]
    if page.next is not None:
        lines.append(f"more: --cursor {page.next}")
    lines += [f"not in the log yet: {escape(one.who)}  {one.what} {escape(one.asked)}" for one in waiting]
    shown = {"changes": page.changes, "next": page.next, "waiting": waiting}
    _tell(shown, lines or ["nothing was changed yet"], as_json=as_json)


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
def erase(
    subject: Annotated[str, typer.Argument(help="Whose personal data: KEY=VALUE, such as card_id=c-17.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Erase what is personal of a subject for good: the key that it is encrypted with is destroyed.

    Its transactions, amounts, times, hashes and features stay, so the features' state keeps its bits.
    """
    from sentinel.commands.erase import erase_subject

    key, separator, value = subject.partition("=")
    if not (key and separator and value):
        raise InvalidDefinition(f"{subject!r} names no subject; write KEY=VALUE, such as card_id=c-17")
    done = erase_subject(_settings(home), key, value)
    said = "what was personal is erased" if done.found else "nothing personal was kept"
    _tell(
        done, [f"{escape(f'{done.key}={done.value}')}: {said} (position {done.position} of the log)"], as_json=as_json
    )


@app.command()
def doctor(home: Home = None, port: Port = None, as_json: Json = False) -> None:
    """Check this machine and home folder: libraries, disk, kernel cache, port, models, log, view."""
    from sentinel.commands.doctor import examine

    findings = examine(_settings(home, port=port))
    healthy = all(one.ok for one in findings)
    lines = [
        f"{'[green]ok  [/green]' if one.ok else '[red]FAIL[/red]'} {one.what}: {escape(one.found)}" for one in findings
    ]
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
