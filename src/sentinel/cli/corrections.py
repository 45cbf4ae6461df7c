"""Commands that correct what the log says: outcomes are recorded or taken back, and what is personal is erased."""

from pathlib import Path
from typing import Annotated

import typer

from sentinel.cli.options import Home, Json, renames_in, settings_of
from sentinel.cli.terminal import tell
from sentinel.commands.terminal import shown
from sentinel.errors import InvalidDefinition
from sentinel.events.labels import labels_of
from sentinel.events.reading import Dialect, Reading

outcomes = typer.Typer(
    help="Record outcomes of a file, and take back what should not have been told.", no_args_is_help=True
)


@outcomes.command("revoke")
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

    done = revoke_outcomes(settings_of(home), key=key, reason=reason, since=since, until=until, dry_run=dry_run)
    verb = "would be taken back" if dry_run else "taken back"
    said = (
        f"{done.outcomes:,} outcomes of {done.transactions:,} transactions {verb}; {done.changed:,} of these "
        f"transactions {'would be' if dry_run else 'are'} judged otherwise without them"
    )
    tell(done, [said], as_json=as_json)


@outcomes.command("import")
def outcomes_import(
    file: Annotated[Path, typer.Argument(help="Chargebacks: a .csv, .jsonl or .parquet file.")],
    match: Annotated[
        str, typer.Option("--match", help="What names a transaction: id, or amount,card,date and other fields.")
    ] = "id",
    columns: Annotated[
        str | None,
        typer.Option("--map", help="COLUMN=FIELD,..; beside fields: outcome_time, stage, is_fraud, reason."),
    ] = None,
    stages: Annotated[
        str | None, typer.Option("--stages", help="Stages of your own: STAGE=1 (fraud), STAGE=0, STAGE=none.")
    ] = None,
    labels: Annotated[str | None, typer.Option("--labels", help="What words of is_fraud mean, as yes=1,no=0.")] = None,
    source: Annotated[str, typer.Option("--source", help="Whose word it is.")] = "chargebacks",
    batch: Annotated[str | None, typer.Option("--batch", help="Its name [made of what the file holds].")] = None,
    days: Annotated[int, typer.Option("--days", help="How many days a date may be off its transaction's.")] = 0,
    report: Annotated[Path | None, typer.Option("--report", help="CSV file for what becomes of each row.")] = None,
    timezone: Annotated[str | None, typer.Option("--timezone", help="Of times without an offset [UTC].")] = None,
    time_format: Annotated[str | None, typer.Option("--time-format", help="Of times that are not ISO 8601.")] = None,
    separator: Annotated[str | None, typer.Option("--separator", help="Of CSV columns [found in the head].")] = None,
    encoding: Annotated[str | None, typer.Option("--encoding", help="Of text, as latin-1 [UTF-8].")] = None,
    decimal: Annotated[str | None, typer.Option("--decimal", help="`,` where numbers are written as 1.234,50.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what it would record, and record nothing.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Record the outcomes of a file of disputes: a chargeback is fraud, one that was won is none; the last word counts.

    The same file again adds nothing. `sentinel outcomes revoke --key import:BATCH` takes all of it back. A server that
    runs is asked.
    """
    from sentinel.commands.chargebacks.importing import Asked, import_outcomes
    from sentinel.commands.progress import stages as bars

    reading = Reading(
        renames=renames_in(columns),
        dialect=Dialect(separator="\t" if separator == "tab" else separator, encoding=encoding),
        decimal=decimal, timezone=timezone, time_format=time_format, labels=labels_of(labels) if labels else {},
    )  # fmt: skip
    asked = Asked(file, match, stages, source, batch, days, report, dry_run)
    with bars() as stage:
        done = import_outcomes(settings_of(home), asked, reading, stage)
    verb = "would be recorded" if dry_run else "recorded"
    kept = f", {done.unmatched:,} of them kept for the next history" if done.unmatched else ""
    lines = [f"{done.recorded:,} outcomes {verb}{kept}; {done.known:,} were known; told by {done.told_by}"]
    lines += [f"  {n:,} of {done.rows:,} rows: {fate}" for fate, n in sorted(done.fates.items()) if fate != "told"]
    lines += [f"  refused: {shown(why)}" for why in done.refused.values()]
    tell(done, lines, as_json=as_json)


def result(
    transaction: Annotated[str, typer.Argument(help="The transaction that was decided.")],
    told: Annotated[str, typer.Argument(metavar="RESULT", help="challenge_passed, review_approved, captured, ..")],
    reason: Annotated[str, typer.Option("--reason", help="Why: it stays with the result.")] = "",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Tell what became of a decision: a challenge or a review has ended, money was captured or refunded.

    The same again adds nothing; what contradicts it is refused. A server that runs is asked.
    """
    from sentinel.commands.result import tell_result

    done = tell_result(settings_of(home), transaction, told, reason)
    known = ", as it was told before" if done.replayed else ""
    tell(done, [f"{shown(done.transaction_id)} is {done.state} after {done.result}{known}"], as_json=as_json)


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
    done = erase_subject(settings_of(home), key, value)
    said = "what was personal is erased" if done.found else "nothing personal was kept"
    tell(done, [f"{shown(f'{done.key}={done.value}')}: {said} (position {done.position} of the log)"], as_json=as_json)
