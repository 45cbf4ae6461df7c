"""Commands for Kafka: reading transactions from it, its topics, and what could not be read."""

from pathlib import Path
from typing import Annotated

import typer

from sentinel.cli.options import Home, Json, Port, settings_of
from sentinel.cli.terminal import print_json, tell, terminal
from sentinel.commands.terminal import shown

topics = typer.Typer(help="The topics of Kafka that are read and written.", no_args_is_help=True)
dead_letters = typer.Typer(help="Messages that nothing could be made of.", no_args_is_help=True)

Partitions = Annotated[int, typer.Option("--partitions", min=1, help="Of each topic that is made.")]
Copies = Annotated[int, typer.Option("--replication", min=-1, help="Brokers that have a copy; -1 is their default.")]
Days = Annotated[int, typer.Option("--keep-days", min=7, help="After which messages are deleted.")]


def consume(
    home: Home = None,
    port: Port = None,
    host: Annotated[
        str | None, typer.Option("--host", help="Address to listen on [$SENTINEL_HOST, 127.0.0.1].")
    ] = None,
    create_topics: Annotated[
        bool, typer.Option("--create-topics", help="Make topics that are not there, with one partition.")
    ] = False,
    schemas: Annotated[
        str | None,
        typer.Option("--schemas", help="Avro: a folder of <number>.avsc, or a registry [$SENTINEL_AVRO_SCHEMAS]."),
    ] = None,
) -> None:
    """Decide what comes in through Kafka, and answer over HTTP as `serve` does; until Ctrl-C or SIGTERM.

    Reads the topics transactions, outcomes and events, and writes decisions and dead-letters: see docs/streams.md.
    """
    from sentinel.app import consume as run_consumer

    settings = settings_of(home, port=port, host=host, avro_schemas=schemas)
    if create_topics:
        from sentinel.commands.kafka import create_missing

        create_missing(settings, partitions=1, copies=-1, days=7)
    terminal.print(f"{settings.url} (docs at /docs), home {settings.home}, Kafka {settings.kafka}")
    run_consumer(settings)


@topics.command("create")
def topics_create(
    partitions: Partitions = 1, replication: Copies = -1, keep_days: Days = 7, as_json: Json = False
) -> None:
    """Make the topics that are not there; those that are there stay as they are."""
    from sentinel.commands.kafka import create_missing

    made = create_missing(settings_of(None), partitions=partitions, copies=replication, days=keep_days)
    tell({"made": made}, [f"made {name}" for name in made] or ["all topics are there"], as_json=as_json)


@topics.command("check")
def topics_check(as_json: Json = False) -> None:
    """Look whether the topics fit: partitions, retention, cleanup, time stamps. Exit 1 where one does not."""
    from sentinel.commands.kafka import topics_as_they_are

    found = topics_as_they_are(settings_of(None))
    lines = [f"[green]ok  [/green] {one.name}: {one.partitions} partitions" for one in found if not one.faults]
    lines += [f"[red]FAIL[/red] {shown(fault)}" for one in found for fault in one.faults]
    tell({"topics": found, "fit": not any(one.faults for one in found)}, lines, as_json=as_json)
    if any(one.faults for one in found):
        raise typer.Exit(1)


@dead_letters.command("list")
def dead_letters_list(as_json: Json = False) -> None:
    """Each with its number, the topic and place that it came from, and what is wrong with it."""
    from sentinel.commands.kafka import letters_there

    found = letters_there(settings_of(None))
    lines = [f"{one['number']}  {one['topic']} {one['place']}  {shown(one['reason'])}" for one in found]
    tell({"dead_letters": found}, lines or ["there are none"], as_json=as_json)


@dead_letters.command("show")
def dead_letters_show(
    number: Annotated[str, typer.Argument(help="As the list shows it.")],
    out: Annotated[Path | None, typer.Option("--out", help="A file for the original bytes.")] = None,
) -> None:
    """One as JSON, its key and value as text, or in Base64 where they are none."""
    from sentinel.commands.kafka import letter_shown

    print_json(letter_shown(settings_of(None), number, out))


@dead_letters.command("retry")
def dead_letters_retry(
    numbers: Annotated[list[str] | None, typer.Argument(help="As the list shows them [all].")] = None,
    as_json: Json = False,
) -> None:
    """Write them to the topics that they came from, to be read again, after what was wrong was mended.

    The dead letters stay where they are until they are deleted by age.
    """
    from sentinel.commands.kafka import retried

    n = retried(settings_of(None), numbers or [])
    tell({"sent_again": n}, [f"{n} sent again"], as_json=as_json)
