"""`sentinel keys`: who may call."""

import sys
from typing import Annotated, Any

import typer

from sentinel.cli.options import Home, Json, settings_of
from sentinel.cli.terminal import print_json, tell, terminal

keys = typer.Typer(help="Make, list, rotate and revoke API keys.", no_args_is_help=True)


@keys.command("create")
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

    made = create_key(settings_of(home), name, scopes, expires, rate, source)
    _tell_key(made, as_json=as_json)


@keys.command("list")
def keys_list(home: Home = None, as_json: Json = False) -> None:
    """The keys there are, without what is secret of them."""
    from sentinel.commands.keys import list_keys

    rows = list_keys(settings_of(home))
    lines = [
        f"{row.id}  {row.name:<20} {','.join(row.scopes):<24} "
        f"{'[red]expired[/red]' if row.is_over else 'until'} "
        f"{_to_the_minute(row.expires) if row.expires else 'it is revoked'}"
        f"{f', {row.rate:g} a second' if row.rate else ''}"
        for row in rows
    ]
    tell(rows, lines or ["no keys yet; `sentinel keys create NAME --scopes score` makes one"], as_json=as_json)


@keys.command("rotate")
def keys_rotate(
    name: str,
    overlap: Annotated[str, typer.Option("--overlap", help="How long the old key stays good: 7d, 1h, 0d.")] = "7d",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make a new key of this name, and have the old one end after a while."""
    from sentinel.commands.keys import rotate_key

    _tell_key(rotate_key(settings_of(home), name, overlap), as_json=as_json)


@keys.command("revoke")
def keys_revoke(
    name: Annotated[str, typer.Argument(help="Its name, or its id where two have the name.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """End a key: a server that runs refuses it within a second."""
    from sentinel.commands.keys import revoke_key

    revoked = revoke_key(settings_of(home), name)
    tell({"revoked": revoked}, [f"revoked: {', '.join(revoked)}"], as_json=as_json)


def _to_the_minute(instant: str) -> str:
    """An instant as it is read: a key may end within the day.

    >>> _to_the_minute("2026-12-01T09:30:12.5Z"), _to_the_minute("never")
    ('2026-12-01 09:30Z', 'never')
    """
    return instant if "T" not in instant else f"{instant[:10]} {instant[11:16]}Z"


def _tell_key(made: Any, *, as_json: bool) -> None:
    """The key alone on standard output, so that it can be kept without a look at it."""
    if as_json:
        print_json(made)
        return
    until = f"until {made.expires}" if made.expires else "for ever"
    terminal.print(
        f"{made.name} ({made.id}): {', '.join(made.scopes)}, {until}. It is shown this once:", soft_wrap=True
    )
    sys.stdout.write(made.key + "\n")
