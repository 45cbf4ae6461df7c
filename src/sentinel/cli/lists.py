"""`sentinel lists`: the values that rules ask for."""

from pathlib import Path
from typing import Annotated

import typer

from sentinel.cli.options import Home, Json, settings_of
from sentinel.cli.terminal import tell
from sentinel.commands.terminal import shown

lists = typer.Typer(
    help="Put values on the lists of the rules in force, and see who was on one when.", no_args_is_help=True
)
_Name = Annotated[str, typer.Argument(help="A list that the book in force declares.")]
_Value = Annotated[str, typer.Argument(help="A value of the list's field, in clear text.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, in words for whoever looks at it later.")]
Until = Annotated[str | None, typer.Option("--until", help="Until before when (ISO 8601) [for good].")]


@lists.command("add")
def lists_add(
    name: _Name,
    value: _Value,
    reason: Reason = "",
    since: Annotated[str | None, typer.Option("--from", help="From when on (ISO 8601) [now].")] = None,
    until: Until = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Put a value on a list: it counts from the next decision on."""
    from sentinel.commands.lists import tell_list
    from sentinel.record.list_files import Entry

    entry = Entry(value=value, reason=reason, since=since, until=until)
    tell_list(settings_of(home), name, [entry], lambda *_: None)
    tell({"list": name, "entries": 1}, [f"{shown(value)} is on {shown(name)}"], as_json=as_json)


@lists.command("remove")
def lists_remove(name: _Name, value: _Value, reason: Reason = "", home: Home = None, as_json: Json = False) -> None:
    """Take a value off a list from now on; what was decided stays."""
    from sentinel.commands.lists import tell_list
    from sentinel.record.list_files import Entry

    entry = Entry(value=value, reason=reason, remove=True)
    tell_list(settings_of(home), name, [entry], lambda *_: None)
    tell({"list": name, "entries": 1}, [f"{shown(value)} is off {shown(name)}"], as_json=as_json)


@lists.command("import")
def lists_import(
    name: _Name,
    file: Annotated[Path, typer.Argument(help="A CSV file with a column value, and reason, from, until if you like.")],
    reason: Reason = "",
    as_draft: Annotated[bool, typer.Option("--draft", help="Write them down for somebody else to apply.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Put all values of a CSV file on a list; one line that cannot be used stops it before anything is told."""
    from sentinel.commands.lists import draft_entries, read_entries, tell_list
    from sentinel.commands.progress import stages

    entries = read_entries(file, reason)
    if as_draft:
        number = draft_entries(settings_of(home), name, entries, reason)
        tell({"draft": number}, [f"draft {number} is written; `sentinel rules apply --draft {number}` tells it"],
             as_json=as_json)  # fmt: skip
        return
    with stages() as stage:
        done = tell_list(settings_of(home), name, entries, stage)
    tell({"list": name, "entries": done}, [f"{done:,} values are on {shown(name)}"], as_json=as_json)


@lists.command("show")
def lists_show(
    name: Annotated[str | None, typer.Argument(help="A list; all of them when left out.")] = None,
    value: Annotated[str | None, typer.Argument(help="A value of its field, in clear text.")] = None,
    as_of: Annotated[str | None, typer.Option("--as-of", help="At which moment (ISO 8601) [now].")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show the lists with their sizes, or whether a value was on one: at a moment, in which periods, and why."""
    from sentinel.commands.lists import sizes_of, value_on_list

    settings = settings_of(home)
    if name is not None and value is not None:
        found = value_on_list(settings, name, value, as_of)
        said = "is" if found.is_on else "is not"
        lines = [f"at {found.as_of} {shown(value)} {said} on {shown(name)}"]
        lines += [
            f"from {one.since} until {one.until or 'taken off'}, by {shown(one.author)}: {shown(one.reason) or '-'}"
            for one in found.periods
        ]
        tell(found, lines, as_json=as_json)
        return
    sizes = [one for one in sizes_of(settings) if name in (None, one.name)]
    lines = [f"{one.name}: {one.kind}, by {one.by}, {one.values:,} values" for one in sizes]
    tell({"lists": sizes}, lines or ["the book in force declares no such list"], as_json=as_json)
