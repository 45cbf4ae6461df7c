"""`sentinel data`: public data to try things on."""

from pathlib import Path
from typing import Annotated

import typer

from sentinel.cli.options import Home, Json, settings_of
from sentinel.cli.terminal import tell

data = typer.Typer(help="Fetch public data.", no_args_is_help=True)


@data.command("get")
def data_get(
    name: Annotated[str, typer.Argument(help="creditcard, ieee or handbook.")],
    into: Annotated[Path | None, typer.Option("--into", help="Folder to have it in [HOME/data].")] = None,
    url: Annotated[str | None, typer.Option("--url", help="Another address than the public source.")] = None,
    sha256: Annotated[
        str | None, typer.Option("--sha256", help="What has to be fetched; else it is recorded the first time.")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Fetch a public data set, or verify the one that is there; what was cut off goes on where it ended."""
    from sentinel.commands.progress import stages
    from sentinel.commands.public_data import get_data

    folder = settings_of(home).home / "data" if into is None else into
    with stages() as stage:
        got = get_data(name, folder, url, sha256, stage)
    said = f"{got.file}: {got.bytes:,} bytes, {got.how}, SHA-256 {got.sha256}"
    tell(got, [said, f"licence: {got.licence}"], as_json=as_json)
