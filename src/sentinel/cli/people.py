"""`sentinel users`: who may log in to the console. `sentinel console`: the pages they work in."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from sentinel.cli.options import Home, Json, settings_of
from sentinel.cli.terminal import print_json, tell, terminal

if TYPE_CHECKING:
    from sentinel.commands.people import ShownPerson

users = typer.Typer(help="Who may log in to the console, and as what.", no_args_is_help=True)
Role = Annotated[str, typer.Option("--role", "-r", help="viewer, analyst, 'rule editor', operator or admin.")]


@users.command("add")
def users_add(name: str, role: Role = "viewer", home: Home = None, as_json: Json = False) -> None:
    """Make a person and show the first password, once; it is changed at the first log-in."""
    from sentinel.commands.people import add_person

    _tell_password(add_person(settings_of(home), name, role), as_json=as_json)


@users.command("list")
def users_list(home: Home = None, as_json: Json = False) -> None:
    """Everyone."""
    from sentinel.commands.people import list_people

    found = list_people(settings_of(home))
    tell(
        found,
        [_line(one) for one in found] or ["nobody yet; `sentinel console` makes the first admin"],
        as_json=as_json,
    )


@users.command("disable")
def users_disable(name: str, home: Home = None, as_json: Json = False) -> None:
    """Let a person in no more; sessions end at once."""
    from sentinel.commands.people import disable_person

    person = disable_person(settings_of(home), name)
    tell(person, [_line(person)], as_json=as_json)


@users.command("enable")
def users_enable(name: str, home: Home = None, as_json: Json = False) -> None:
    """Let a person in again who was disabled."""
    from sentinel.commands.people import enable_person

    person = enable_person(settings_of(home), name)
    tell(person, [_line(person)], as_json=as_json)


@users.command("role")
def users_role(name: str, role: str, home: Home = None, as_json: Json = False) -> None:
    """Give a person another role; it counts from the next click on."""
    from sentinel.commands.people import set_role

    person = set_role(settings_of(home), name, role)
    tell(person, [_line(person)], as_json=as_json)


@users.command("password")
def users_password(name: str, home: Home = None, as_json: Json = False) -> None:
    """Make a new password and show it, once; it is changed at the next log-in, and sessions end."""
    from sentinel.commands.people import renew_password

    _tell_password(renew_password(settings_of(home), name), as_json=as_json)


def console(
    home: Home = None,
    port: Annotated[
        int | None, typer.Option("--port", "-p", help="Where to listen [$SENTINEL_CONSOLE_PORT, 8080].")
    ] = None,
    host: Annotated[
        str | None, typer.Option("--host", help="Address to listen on [$SENTINEL_CONSOLE_HOST, 127.0.0.1].")
    ] = None,
    server: Annotated[
        str | None, typer.Option("--server", help="The server that it asks [$SENTINEL_SERVER_URL, that of this home].")
    ] = None,
) -> None:
    """Answer people in their browsers until Ctrl-C or SIGTERM; the server runs beside it."""
    from sentinel.commands.console import run_console

    settings = settings_of(home, console_port=port, console_host=host, server_url=server)
    run_console(settings, lambda told: terminal.print(told, soft_wrap=True, markup=False, highlight=False))


def _line(person: "ShownPerson") -> str:
    seen = f"last seen {person.seen[:16].replace('T', ' ')}Z" if person.seen else "never seen"
    return f"{person.name:<24} {person.role:<12} {'[red]disabled[/red], ' if person.is_disabled else ''}{seen}"


def _tell_password(person: "ShownPerson", *, as_json: bool) -> None:
    """The password alone on standard output, as keys are shown."""
    if as_json:
        print_json(person)
        return
    terminal.print(f"{person.name}, {person.role}. The password is shown this once:", soft_wrap=True)
    sys.stdout.write(f"{person.password}\n")
