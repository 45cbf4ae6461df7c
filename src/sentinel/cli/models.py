"""`sentinel models`: the versions there are, and who vouches for them."""

from pathlib import Path
from typing import Annotated

import typer

from sentinel.cli.options import Home, Json, settings_of
from sentinel.cli.terminal import print_json, print_text, tell, terminal
from sentinel.errors import InvalidDefinition

LONGEST_REASON = 500
"""Characters of why somebody forces a promotion."""

models = typer.Typer(help="List the trained models, look at one, promote one.", no_args_is_help=True)


@models.command("list")
def models_list(home: Home = None, as_json: Json = False) -> None:
    """Every trained version, and which one is champion."""
    from sentinel.commands.models import list_models

    rows = list_models(settings_of(home))
    lines = [
        f"{row.version:>5}  [red]broken[/red]: {row.problem}  {', '.join(row.aliases)}"
        if row.problem
        else f"{row.version:>5}  {row.detector or '':<14} {row.created_at}  "
        f"average precision {row.average_precision or 0.0:.3f}  "
        f"{', '.join((*row.aliases, *(() if row.here else ('not fetched',))))}"
        for row in rows
    ]
    tell(rows, lines or ["no models yet; run `sentinel train`"], as_json=as_json)


@models.command("show")
def models_show(version: str, home: Home = None) -> None:
    """The manifest of a version, as JSON."""
    from sentinel.commands.registry_of_home import registry_of
    from sentinel.model.bundle import look_up_manifest

    print_json(look_up_manifest(registry_of(settings_of(home)), version))


@models.command("card")
def models_card(
    version: str,
    home: Home = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write it as a page instead of printing Markdown.")
    ] = None,
) -> None:
    """The model card of a version: eleven sections, with what only people know left to them."""
    from sentinel.commands.card import write_card

    markdown = write_card(settings_of(home), version, html)
    if html is None:
        print_text(markdown)
    else:
        terminal.print(f"the card of {version} is in {html}")


@models.command("aliases")
def models_aliases(
    home: Home = None,
    uri: Annotated[
        str | None, typer.Option("--mlflow-tracking-uri", help="Have MLflow's follow [$MLFLOW_TRACKING_URI].")
    ] = None,
    as_json: Json = False,
) -> None:
    """Which version is champion, challenger and shadow by the log; MLflow gets a copy."""
    from sentinel.commands.models import show_aliases

    shown = show_aliases(settings_of(home), uri)
    lines = [f"{alias:>10}  {version}" for alias, version in shown["aliases"].items()]
    lines += [f"MLflow: {alias} is version {version}" for alias, version in shown.get("mlflow", {}).items()]
    tell(shown, lines or ["nothing is in force yet; run `sentinel train`"], as_json=as_json)


@models.command("promote")
def models_promote(
    version: str,
    force: Annotated[bool, typer.Option("--force", help="Even if it has not passed promotion_policy.yaml.")] = False,
    reason: Annotated[str | None, typer.Option("--reason", help="Why it is forced; kept in the audit.")] = None,
    home: Home = None,
) -> None:
    """Make a version the champion; servers that run follow within a second.

    Where the home folder has a promotion_policy.yaml it has to have passed `sentinel models gate`.
    """
    from sentinel.commands.promote import promote_version
    from sentinel.commands.tracking import follow_promotion

    settings, reason = settings_of(home), (reason or "").strip() or None
    if force != (reason is not None) or len(reason or "") > LONGEST_REASON:
        raise InvalidDefinition(
            f"--force and --reason belong together, and a reason has up to {LONGEST_REASON} characters: write --force "
            "--reason 'the champion fails'"
        )
    promote_version(settings, version, reason)
    terminal.print(f"{version} is the champion")
    follow_promotion(settings, version)


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
