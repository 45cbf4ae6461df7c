"""Commands that make the history of the next training from the log and its outcomes."""

from pathlib import Path
from typing import Annotated

import typer

from sentinel.cli.options import Home, Json, reads_history, settings_of
from sentinel.cli.terminal import tell
from sentinel.events.reading import Reading

history = typer.Typer(help="Make a history for training of the log and its outcomes.", no_args_is_help=True)


@history.command("export")
@reads_history
def history_export(
    out: Annotated[Path, typer.Argument(help="File to write: .parquet or .csv.")],
    since: Annotated[str | None, typer.Option("--from", help="Received from then on: ISO 8601 or Unix.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Received before then.")] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Write the same as CSV, too, beside the file.")] = False,
    earlier: Annotated[
        Path | None,
        typer.Option("--with", help="A history file whose transactions come first, with what is known now."),
    ] = None,
    delay: Annotated[
        str | None,
        typer.Option("--label-delay", help="How old a transaction has to be to have a label, as 30d [estimated]."),
    ] = None,
    as_of: Annotated[str | None, typer.Option("--as-of", help="The moment of that [the newest in the log].")] = None,
    home: Home = None,
    as_json: Json = False,
    *,
    reading: Reading,
) -> None:
    """Write the log as a history to train on: transactions as sent, features as known then, labels as they matured.

    What is younger than the delay of labels has none, whatever is said of it by now; of what is older silence means
    legitimate, unless it was blocked. `--events-file` is written with the context events; `--map` and the like say how
    the file of `--with` is read.
    """
    from sentinel.commands.log_history.export import Asked, export_history
    from sentinel.commands.progress import stages

    asked = Asked(out, since, until, csv, reading.events, earlier, delay, as_of)
    with stages() as stage:
        done = export_history(settings_of(home), asked, reading, stage)
    assumed = ", which is assumed: too few frauds are known to tell" if done.delay_is_assumed else ""
    labels = (
        f"{done.fraud:,} fraud, {done.legitimate:,} legitimate, {done.immature:,} too young to tell, "
        f"{done.blocked_unknown:,} blocked and never told"
    )
    lines = [
        f"{done.transactions:,} transactions in {out}: {labels}",
        f"labels of what was {done.label_delay_days:g} days old at {done.as_of}{assumed}",
    ]
    if done.earlier:
        lines.append(f"{done.earlier:,} of them come from {earlier}")
    if done.unmatched:
        lines.append(
            f"{done.unmatched:,} transactions that were not decided here have outcomes; {done.matched:,} found"
        )
    if done.context_events:
        lines.append(f"{done.context_events:,} context events in {reading.events}")
    if done.erased:
        lines.append(f"{done.erased:,} transactions of erased subjects are left out")
    lines += done.said_of_blocked
    if done.models_gone:
        lines.append(f"no features of {', '.join(done.models_gone)}: these models are gone, and the names with them")
    if done.early_outcomes:
        lines.append(f"{done.early_outcomes:,} outcomes bear a time before their transaction's")
    lines += [f"left out of {earlier}: {n:,} rows, {reason}" for reason, n in done.skipped.items()]
    tell(done, lines, as_json=as_json)


@history.command("blocked")
def history_blocked(
    since: Annotated[str | None, typer.Option("--from", help="Received from then on: ISO 8601 or Unix.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Received before then.")] = None,
    delay: Annotated[
        str | None,
        typer.Option("--label-delay", help="How old a transaction has to be to be known, as 30d [estimated]."),
    ] = None,
    as_of: Annotated[str | None, typer.Option("--as-of", help="The moment of that [the newest in the log].")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """How much of what was turned away was fraud, and how much of all fraud that finds, by those that were held out."""
    from sentinel.commands.log_history.blocked import blocked_in
    from sentinel.commands.progress import stages

    with stages() as stage:
        found = blocked_in(settings_of(home), (since, until), delay, as_of, stage)
    tell(found, [*found.said, f"of what was {found.label_delay_days:g} days old at {found.as_of}"], as_json=as_json)


@history.command("delay")
def history_delay(home: Home = None, as_json: Json = False) -> None:
    """Estimate how long frauds take to become known, from those that are known by now.

    What came quickly is known sooner, and the estimate allows for that. It is the age from which on `history export`
    takes silence for legitimate.
    """
    from sentinel.commands.log_history.delay import DAY_US, label_delay
    from sentinel.commands.progress import stages

    with stages() as stage:
        found = label_delay(settings_of(home), stage)
    delay = found.delay
    if delay.is_assumed:
        lines = [f"{delay.mature_us / DAY_US:g} days, assumed: {delay.frauds} known frauds are too few to tell"]
    else:
        lines = [f"{delay.mature_us / DAY_US:.2f} days, from {delay.frauds:,} known frauds as of {found.as_of}"]
        lines += [f"  {share:>4} are known within {us / DAY_US:.2f} days" for share, us in delay.quantiles.items()]
        if delay.naive_us is not None and delay.naive_us < delay.mature_us:
            lines.append(
                f"  of those known by now alone it would be {delay.naive_us / DAY_US:.2f} days, which is too few"
            )
        lines.append(f"  nothing is known of what takes longer than {delay.longest_us / DAY_US:.2f} days")
    if found.early:
        lines.append(f"  {found.early:,} frauds bear a time before their transaction's: left out")
    tell(found, lines, as_json=as_json)
