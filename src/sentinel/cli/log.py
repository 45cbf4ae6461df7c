"""`sentinel log`, and what is read of it: decisions again, and who changed what."""

from typing import Annotated

import typer

from sentinel.cli.options import Home, Json, settings_of
from sentinel.cli.terminal import tell, tell_lines
from sentinel.commands.terminal import shown
from sentinel.errors import InvalidDefinition
from sentinel.events.times import iso
from sentinel.record.damage import Damage

log = typer.Typer(help="Look after the log, which holds every decision.", no_args_is_help=True)


@log.command("verify")
def log_verify(home: Home = None, as_json: Json = False) -> None:
    """Read all of the log and check every record: checksum, hash chain, that none is missing, and that it fits.

    A transaction that is whole and does not fit the schema of its model is named; it stops nothing.
    """
    from sentinel.commands.storage import odd_transactions
    from sentinel.record.verify_home import verify_home

    settings = settings_of(home)
    found = verify_home(settings.home)
    odd = [] if found.findings else odd_transactions(settings.home)
    lines = [f"[red]DAMAGED[/red] {one.segment}, position {one.position}: {one.problem}" for one in found.findings]
    lines += [
        f"[yellow]lost[/yellow] positions {begin} to {end - 1}, given up {iso(loss.accepted_us)}: {loss.problem}"
        for begin, end, loss in found.losses
    ]
    lines += [
        f"[yellow]set aside[/yellow] position {one.position}, {shown(f'{one.transaction_id}: {one.why}')}"
        for one in odd
    ]
    lines.append(
        f"{found.entries:,} entries from {found.first} to {found.end - 1} in "
        f"{f'{found.segments} segments' if found.segments else 'Kafka'}, "
        f"{found.bytes:,} bytes: {'damaged' if found.findings else 'whole'}"
    )
    parts = {name: [one._asdict() for one in getattr(found, name)] for name in ("findings", "losses")}
    tell(found._asdict() | parts | {"set_aside": odd}, lines, as_json=as_json)
    if found.findings:
        raise typer.Exit(1)


@log.command("accept-loss")
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

    with loss_at(settings_of(home), position) as found:
        lost = found.damage
        tell_lines(_lines_of(lost))
        if not yes:
            typer.confirm("Give this up?", abort=True, err=True)
        kept = found.accept()
    said = "it is given up" + (f"; the damaged bytes are in log/{kept}" if kept else "")
    tell(lost._asdict() | {"kept": kept}, [said], as_json=as_json)


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


@log.command("prune")
def log_prune(
    home: Home = None,
    keep: Annotated[
        str | None, typer.Option("--keep", help="How much to keep: 180d, 26w, 24h [$SENTINEL_KEEP_LOG, 180d].")
    ] = None,
    archive: Annotated[
        str | None, typer.Option("--archive", help="Folder or s3://.. that has it before [$SENTINEL_ARCHIVE].")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would go, and remove nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Remove the oldest part of the log, in whole segments, as far as nobody needs it.

    A server does so by itself, once an hour. It is asked when one runs. Segments stay while the view, a shadow, an
    experiment, two snapshots of each model in charge, or the memory of ids need them: what it is is said.
    """
    from sentinel.commands.prune import look_at_log, prune_log

    settings = settings_of(home)
    found = look_at_log(settings, keep) if dry_run else prune_log(settings, keep, archive)
    done = "would be removed" if dry_run else "removed"
    lines = [
        f"{_segments(found.removed)}, {found.removed_bytes:,} bytes, {done}",
        f"the log begins at position {found.first}, {found.oldest}: {_segments(found.segments)}, {found.bytes:,} bytes",
        *(f"[yellow]held back[/yellow]: {one}" for one in found.held_by),
    ]
    tell(found, lines, as_json=as_json)


@log.command("archive")
def log_archive(
    home: Home = None,
    to: Annotated[str | None, typer.Option("--to", help="Folder or s3://bucket/prefix [$SENTINEL_ARCHIVE].")] = None,
    as_json: Json = False,
) -> None:
    """Bring an archive up to the end of the log: log, newest snapshots and models. A server does so by itself."""
    from sentinel.commands.archive import archive_now
    from sentinel.commands.progress import stages

    with stages() as stage:
        found = archive_now(settings_of(home), to, stage)
    gone = f"; {_segments(found.forgotten)} left it" if found.forgotten else ""
    tell(found, [f"{found.archive} has the log {found.log_id} up to position {found.end - 1}{gone}"], as_json=as_json)


@log.command("restore")
def log_restore(
    source: Annotated[str, typer.Option("--from", help="The archive: a folder, or s3://bucket/prefix.")],
    log_id: Annotated[str | None, typer.Option("--log", help="Which log, where the archive has several.")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Bring log, snapshots and models of an archive to an empty home folder, and check the log's hash chain.

    A run that was interrupted goes on. Keys are in no archive: what has to come from elsewhere is named.
    """
    from sentinel.commands.archive import restore_from
    from sentinel.commands.progress import stages

    settings = settings_of(home)
    with stages() as stage:
        found = restore_from(settings, source, log_id, stage)
    counted = f"{_segments(found.segments)}, {found.bytes:,} bytes; {found.snapshots} snapshots, {found.models} models"
    lines = [
        f"the log {found.log_id}, entries {found.first} to {found.end - 1}, is whole in {settings.home}: {counted}",
        f"it is what was archived by {shown(found.at)}",
    ]
    if found.missing:
        lines.append(
            f"[yellow]not in any archive[/yellow], put it back from elsewhere: {shown(', '.join(found.missing))}"
        )
    tell(found, lines, as_json=as_json)


def _segments(n: int) -> str:
    return f"{n:,} segment" if n == 1 else f"{n:,} segments"


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
        why = f": {shown(one.problem)}" if one.problem else ""
        by = f"{one.model_version}, its rules ({one.degraded})" if one.degraded else one.model_version
        erased = f"; erased: {', '.join(one.erased)}" if one.erased else ""
        return f"{shown(one.transaction_id)} at position {one.position}, by {by}: {stored}, {again}{why}{erased}"

    settings = settings_of(home)
    if transaction is not None:
        receipt = replay_one(settings, transaction)
        tell(receipt, [line(receipt), "the same" if receipt.same else "[red]NOT the same[/red]"], as_json=as_json)
        if not receipt.same:
            raise typer.Exit(1)
        return
    with stages() as stage:
        report = replay_all(settings, since, most, stage)
    said = f"{report.decisions:,} decisions replayed: {report.differing:,} differ, {report.impossible:,} could not be"
    tell(report, [said, *map(line, report.first)], as_json=as_json)
    if report.differing or report.impossible:
        raise typer.Exit(1)


def explain(
    transaction: Annotated[str, typer.Argument(help="Id of the transaction.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Why a transaction got its score: how much each feature of the stored decision moved the log-odds of fraud.

    Reasons that the log has are shown as they were recorded; of what it has none, they are computed.
    What is shown adds up: the model's average, the reasons, and all other features together. Of a random forest they
    are probabilities.
    """
    from sentinel.commands.replay import explain_one

    found = explain_one(settings_of(home), transaction)
    why = found.why
    widest = max((len(one.feature) for one in why.reasons), default=0)
    decided = f"{found.decision}, fraud probability {found.fraud_probability:.6g}"
    decided += f"; in {'log-odds' if why.unit == 'log_odds' else why.unit} of fraud:"
    lines = [
        f"{shown(found.transaction_id)} at position {found.position}, by {found.model_version}: {decided}",
        f"{'on average':{widest}}  {why.expected:+8.3f}",
        *(
            f"{one.feature:{widest}}  {one.contribution:+8.3f}  "
            + ("missing" if one.value is None else f"{one.value:.6g}")
            + (f"  {shown(one.words)}" if one.words else "")
            for one in why.reasons
        ),
        f"{'all others':{widest}}  {why.others:+8.3f}",
        "computed now: the log has no reasons of it"
        if found.why_position is None
        else f"as the log has it at position {found.why_position}",
    ]
    tell(found, lines, as_json=as_json)


def audit(
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many, the newest first.")] = 50,
    cursor: Annotated[int, typer.Option("--cursor", help="Go on from there: `next` of the page before.")] = 0,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Who changed what, from where and when: models, thresholds, experiments, keys, the log."""
    from sentinel.record.applied import HomeDeployment
    from sentinel.transport.access.store import KeyStore

    if limit < 1:
        raise InvalidDefinition("--limit must be at least 1")
    settings = settings_of(home)
    page = HomeDeployment(settings.home).audit(limit, cursor)
    waiting = KeyStore(settings.home).read().changes
    lines = [
        f"{one.at}  {shown(one.who)} ({shown(one.where)})  {shown(one.what)}"
        f"{f' {shown(one.asked)}' if one.asked else ''}  {shown(one.before)} -> {shown(one.after)}"
        for one in page.changes
    ]
    if page.next is not None:
        lines.append(f"more: --cursor {page.next}")
    lines += [f"not in the log yet: {shown(one.who)}  {shown(one.what)} {shown(one.asked)}" for one in waiting]
    facts = {"changes": page.changes, "next": page.next, "waiting": waiting}
    tell(facts, lines or ["nothing was changed yet"], as_json=as_json)
