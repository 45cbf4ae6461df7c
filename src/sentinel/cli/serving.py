"""Commands that serve, and look whether that can be done."""

import gc
import os
from pathlib import Path
from typing import Annotated

import typer

from sentinel.cli.options import Home, Json, Port, settings_of
from sentinel.cli.terminal import tell, terminal
from sentinel.commands.terminal import shown
from sentinel.config import Settings
from sentinel.environment import strangers_in


def serve(
    home: Home = None,
    port: Port = None,
    host: Annotated[
        str | None, typer.Option("--host", help="Address to listen on [$SENTINEL_HOST, 127.0.0.1].")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", help="Processes; more than one answers /predict only [$SENTINEL_WORKERS, 1]."),
    ] = None,
    profiles: Annotated[
        str | None,
        typer.Option("--profiles", help="`redis`: keep no state, answer from profiles there [$SENTINEL_PROFILES]."),
    ] = None,
    retrain: Annotated[
        str | None, typer.Option("--retrain", help="When to train a new model, as cron writes it [$SENTINEL_RETRAIN].")
    ] = None,
    retrain_on: Annotated[
        str | None, typer.Option("--retrain-on", help="Other reasons to: drift,labels:500 [$SENTINEL_RETRAIN_ON].")
    ] = None,
    retrain_data: Annotated[
        Path | None, typer.Option("--retrain-data", help="The history to learn from [$SENTINEL_RETRAIN_DATA].")
    ] = None,
    retrain_detector: Annotated[
        str | None, typer.Option("--retrain-detector", help="A preset or a .py file [$SENTINEL_RETRAIN_DETECTOR].")
    ] = None,
) -> None:
    """Answer transactions over HTTP until Ctrl-C or SIGTERM; see /docs once it runs."""
    gc.disable()  # what is imported stays: looking for garbage in it meanwhile is a tenth of the start
    from sentinel.app import serve as run_server

    gc.enable()
    settings = settings_of(
        home, port=port, host=host, workers=workers, profiles=profiles,
        retrain=retrain, retrain_on=retrain_on, retrain_data=retrain_data, retrain_detector=retrain_detector,
    )  # fmt: skip
    for told in strangers_in(os.environ, Settings.__struct_fields__):
        terminal.print(f"[yellow]{told}[/yellow]", soft_wrap=True)
    terminal.print(f"{settings.url} (docs at /docs), home {settings.home}")
    if settings.profiles is None:
        run_server(settings)
        return
    from sentinel.front_app import serve_front  # Redis' and Kafka's clients are extras

    serve_front(settings)


def doctor(home: Home = None, port: Port = None, as_json: Json = False) -> None:
    """Check this machine, and every detector and tenant of the home: models, history, log, view, keys, hash key."""
    from sentinel.commands.doctor import examine

    findings = examine(settings_of(home, port=port))
    healthy = all(one.ok for one in findings)
    words = {True: "[green]ok  [/green]", False: "[red]FAIL[/red]"}
    lines = [
        f"{'[yellow]warn[/yellow]' if one.ok and one.warns else words[one.ok]} {shown(one.what)}: {shown(one.found)}"
        for one in findings
    ]
    tell({"healthy": healthy, "checks": findings}, lines, as_json=as_json)
    if not healthy:
        raise typer.Exit(1)
