"""`sentinel notifications`: who is told of what."""

from typing import Annotated

import typer

from sentinel.cli.options import Home, Json, settings_of
from sentinel.cli.terminal import tell
from sentinel.commands.terminal import shown

notifications = typer.Typer(help="Who is told of what happens, by webhook and e-mail.", no_args_is_help=True)


@notifications.command("list")
def notifications_list(
    home: Home = None,
    state: Annotated[str | None, typer.Option("--state", help="waiting, delivered or parked.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000, help="How many, the newest.")] = 20,
    as_json: Json = False,
) -> None:
    """Show where messages go, and what became of the newest."""
    from sentinel.transport.messages.overview import list_notifications

    found = list_notifications(settings_of(home), state, limit)
    lines = [f"{one.name}: {shown(one.to)} ({shown(', '.join(one.kinds))})" for one in found.destinations]
    lines += [", ".join(f"{n:,} {name}" for name, n in found.counts.items())]
    lines += [
        f"{one.number}  {one.at}  {one.state}  {shown(one.kind)}  {shown(one.about)}  to {one.destination}"
        + (f"  ({shown(one.last_error)})" if one.last_error else "")
        for one in found.deliveries
    ]
    tell(found, lines, as_json=as_json)


@notifications.command("test")
def notifications_test(home: Home = None, as_json: Json = False) -> None:
    """Send a test to everyone now; exit code 1 where one does not arrive."""
    from sentinel.transport.messages.overview import try_destinations

    found = try_destinations(settings_of(home))
    tell(found, [f"{name}: {shown(said)}" for name, said in found.items()], as_json=as_json)
    if any(said != "ok" for said in found.values()):
        raise typer.Exit(1)


@notifications.command("retry")
def notifications_retry(
    number: Annotated[int, typer.Argument(help="The delivery, as the list shows it.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Have a parked message tried again."""
    from sentinel.transport.messages.overview import retry_notification

    done = retry_notification(settings_of(home), number)
    tell(done, [f"{shown(done.kind)} is tried again to {done.destination}"], as_json=as_json)
