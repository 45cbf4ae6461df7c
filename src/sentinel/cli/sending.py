"""The command that sends transactions on."""

from pathlib import Path
from typing import Annotated

import typer

from sentinel.cli.options import DetectorName, Home, Json, reads_history, settings_of
from sentinel.cli.terminal import tell
from sentinel.commands.terminal import shown
from sentinel.events.reading import Reading


@reads_history
def send(
    source: Annotated[
        str, typer.Argument(help="A file, a folder or pattern of them, s3://bucket/key, or `simulator`.")
    ],
    to: Annotated[str, typer.Option("--to", help="http(s)://host:port of a server, or `kafka` [$SENTINEL_KAFKA].")],
    detector: DetectorName = "payments",
    rate: Annotated[float | None, typer.Option("--rate", help="Rows a second [as fast as they are taken].")] = None,
    outcomes: Annotated[
        bool, typer.Option("--outcomes", help="Send the outcomes that are known by now, after the transactions.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="From the beginning, although it was sent before.")] = False,
    patience: Annotated[
        float, typer.Option("--patience", help="Seconds for which a busy target is asked again.")
    ] = 120.0,
    transactions: Annotated[int, typer.Option("--transactions", "-n", help="How many to simulate.")] = 10_000,
    seed: Annotated[int, typer.Option("--seed", help="Of the simulator.")] = 42,
    ca: Annotated[
        Path | None, typer.Option("--ca", help="For https://: PEM file of the authority [those of the system].")
    ] = None,
    home: Home = None,
    as_json: Json = False,
    *,
    reading: Reading,
) -> None:
    """Send transactions to a server or to Kafka, in their order; run again, it goes on where it ended.

    How far each file was sent is kept in the home folder, by the file's content and the target. What a server has
    already is counted as repeated: nothing is decided twice.
    """
    from sentinel.commands.progress import stages
    from sentinel.commands.sending.send import Asked
    from sentinel.commands.sending.send import send as send_all

    asked = Asked(source, to, detector, rate, outcomes, again, patience, transactions, seed, ca)
    with stages() as stage:
        sent = send_all(settings_of(home), asked, reading, stage)
    lines = [f"{sent.new:,} new, {sent.repeated:,} repeated, {sent.refused:,} refused, in {sent.seconds:.1f} s"]
    if sent.earlier:
        lines.append(f"{sent.earlier:,} were sent before and not again")
    if outcomes:
        lines.append(
            "outcomes: " + (", ".join(f"{n:,} {what}" for what, n in sent.outcomes.items()) or "none are known")
        )
    lines += [f"left out: {n:,} rows, {shown(reason)}" for reason, n in sent.left_out.items()]
    lines += [f"refused: {shown(reason)}" for reason in sent.reasons]
    tell(sent, lines, as_json=as_json)
