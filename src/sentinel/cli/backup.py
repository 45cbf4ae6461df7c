"""`sentinel backup`: a copy of a server elsewhere, and back from there."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sentinel.cli.options import Home, Json, settings_of
from sentinel.cli.terminal import tell
from sentinel.commands.terminal import shown

if TYPE_CHECKING:
    from sentinel.commands.backup.restore import HomeRestored

backup = typer.Typer(help="Copy a server elsewhere while it runs, and bring it back from there.", no_args_is_help=True)
Secrets = Annotated[
    str | None,
    typer.Option("--secrets", help="Where keys, people and their passwords are: a folder or s3://bucket/prefix."),
]


@backup.command("create")
def backup_create(
    to: Annotated[str, typer.Argument(metavar="DEST", help="A folder, or s3://bucket/prefix.")],
    secrets: Secrets = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Bring a backup of all detectors up to now: log, models, snapshots, what people wrote. Servers go on meanwhile.

    A second run adds what is new. Without --secrets keys and passwords are not copied: who has the backup shall not
    have them.
    """
    from sentinel.commands.backup.create import back_up
    from sentinel.commands.progress import stages

    with stages() as stage:
        done = back_up(settings_of(home), to, secrets, stage)
    lines = [f"{done.backup} has {_named(one.folder)} up to position {one.end - 1}" for one in done.homes]
    lines.append(
        f"keys, people and passwords are in {done.secrets}"
        if done.secrets
        else "[yellow]keys, people and passwords are not in it[/yellow]: copy them with --secrets, to another place"
    )
    tell(done, lines, as_json=as_json)


@backup.command("restore")
def backup_restore(
    source: Annotated[str, typer.Argument(metavar="SRC", help="Where the backup is.")],
    secrets: Secrets = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make an empty home folder that of a backup, once all of it was fetched and checked. Then start the server."""
    from sentinel.commands.backup.restore import restore_backup
    from sentinel.commands.progress import stages

    settings = settings_of(home)
    with stages() as stage:
        done = restore_backup(settings, source, secrets, stage)
    lines = [line for one in done.homes for line in _lines_of(one, f"is in {settings.home}")]
    lines.append("what was decided after that is not here: who was answered since sends it again, with the same ids")
    tell(done, lines, as_json=as_json)


@backup.command("verify")
def backup_verify(
    source: Annotated[str, typer.Argument(metavar="SRC", help="Where the backup is.")],
    secrets: Secrets = None,
    work: Annotated[
        Path | None, typer.Option("--work", help="A folder with room for all of it, for the time it takes.")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Restore a backup to a folder that goes again, and check all of it: hash chain, checksums, databases."""
    from sentinel.commands.backup.restore import verify_backup
    from sentinel.commands.progress import stages

    with stages() as stage:
        done = verify_backup(settings_of(home), source, secrets, work, stage)
    tell(done, [line for one in done.homes for line in _lines_of(one, "is whole")], as_json=as_json)


def _lines_of(one: "HomeRestored", said: str) -> list[str]:
    of_log = f"entries {one.first} to {one.end - 1}, the newest received {one.newest}"
    lines = [f"{_named(one.folder)} {said}: {of_log}; {one.models} models, {one.snapshots} snapshots"]
    if one.unread:
        lines.append(
            f"[yellow]{one.unread:,} entries came after the secrets were copied[/yellow]: what is personal in them, of "
            "somebody new, cannot be read"
        )
    if one.missing:
        lines.append(f"[yellow]not there[/yellow], put it back from elsewhere: {shown(', '.join(one.missing))}")
    return lines


def _named(folder: str) -> str:
    return f"the log of {folder}" if folder else "the log"
