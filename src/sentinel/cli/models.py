"""`sentinel models`: the versions there are, and who vouches for them."""

from pathlib import Path
from typing import Annotated

import typer

from sentinel.cli.options import Home, Json, settings_of
from sentinel.cli.terminal import print_json, tell, terminal
from sentinel.model.bundle import read_manifest
from sentinel.model.registry import Registry

models = typer.Typer(help="List the trained models, look at one, promote one.", no_args_is_help=True)


@models.command("list")
def models_list(home: Home = None, as_json: Json = False) -> None:
    """Every trained version, and which one is champion."""
    from sentinel.commands.models import list_models

    rows = list_models(settings_of(home))
    lines = [
        f"{row.version:>5}  [red]broken[/red]: {row.problem}  {'champion' if row.champion else ''}"
        if row.problem
        else f"{row.version:>5}  {row.detector or '':<14} {row.created_at}  "
        f"average precision {row.average_precision or 0.0:.3f}  {'champion' if row.champion else ''}"
        for row in rows
    ]
    tell(rows, lines or ["no models yet; run `sentinel train`"], as_json=as_json)


@models.command("show")
def models_show(version: str, home: Home = None) -> None:
    """The manifest of a version, as JSON."""
    print_json(read_manifest(Registry(settings_of(home).models).path(version)))


@models.command("promote")
def models_promote(version: str, home: Home = None) -> None:
    """Make a version the champion; servers that run follow within a second."""
    from sentinel.commands.promote import promote_version

    promote_version(settings_of(home), version)
    terminal.print(f"{version} is the champion")


@models.command("accept")
def models_accept(version: str, home: Home = None) -> None:
    """Take in a version that was copied here: all of it is checked, then it is in the registry's record."""
    from sentinel.commands.models import accept_model

    terminal.print(f"{version} is accepted; the SHA-256 of its manifest is {accept_model(settings_of(home), version)}")


@models.command("keygen")
def models_keygen(
    out: Annotated[Path, typer.Option("--out", help="File for the private key; the public one gets .pub behind it.")],
) -> None:
    """Make a pair of keys: the private one signs models, the public one says which to trust."""
    from sentinel.model.signing import make_key_pair

    public, line = make_key_pair(out)
    told = [
        f"SENTINEL_SIGNING_KEY_FILE={out} has `sentinel train` sign; keep it away from servers",
        f"SENTINEL_TRUSTED_KEYS_FILE={public} has `sentinel serve` refuse what it did not sign: {line}",
    ]
    for one in told:
        terminal.print(one, soft_wrap=True)  # to be copied


@models.command("sign")
def models_sign(version: str, home: Home = None) -> None:
    """Sign a version that was trained without a key, with that of SENTINEL_SIGNING_KEY_FILE."""
    from sentinel.commands.models import sign_model

    sign_model(settings_of(home), version)
    terminal.print(f"{version} is signed")
