"""`sentinel flink`: a detector as a job of Apache Flink."""

from pathlib import Path
from typing import Annotated

import typer

from sentinel.cli.options import Home, settings_of
from sentinel.cli.terminal import tell_lines
from sentinel.errors import InvalidDefinition
from sentinel.events.times import duration_us

flink = typer.Typer(help="Decide what a topic brings in a job of Apache Flink.", no_args_is_help=True)


@flink.command("run")
def flink_run(
    detector: Annotated[str, typer.Option("--detector", "-d", help="Name of the detector.")],
    home: Home = None,
    version: Annotated[str | None, typer.Option("--version", help="Version; the champion when left out.")] = None,
    local: Annotated[bool, typer.Option("--local", help="In a cluster within this process, on this machine.")] = False,
    cluster: Annotated[
        str | None, typer.Option("--cluster", help="Address of a cluster, host:port of its REST interface.")
    ] = None,
    parallelism: Annotated[int, typer.Option("--parallelism", min=1, help="How many tasks share the keys.")] = 1,
    every: Annotated[
        str, typer.Option("--checkpoint-every", help="How often decisions are committed and can be seen.")
    ] = "1s",
    checkpoints: Annotated[
        str | None, typer.Option("--checkpoints", help="Where: a folder or an address [flink/ in the home].")
    ] = None,
    restore: Annotated[
        str | None, typer.Option("--restore", help="Checkpoint or savepoint to go on from; else from the beginning.")
    ] = None,
) -> None:
    """Read `transactions` and `outcomes`, write `decisions` exactly once, until Ctrl-C.

    A checkpoint goes on with --restore, with the same topics: nothing is lost, and nothing decided twice.
    """
    from sentinel.commands.flink import FlinkRun, begin_profiles, check_topics_of, job_of, run_job

    if local == (cluster is not None):
        raise InvalidDefinition("say where: --local, or --cluster host:port")
    settings = settings_of(home)
    folder = checkpoints or (settings.home.absolute() / "flink").as_uri()
    run = FlinkRun(cluster, parallelism, duration_us(every) // 1000, _address(folder), restore and _address(restore))
    spec = job_of(settings, detector, version, run)
    tell_lines(check_topics_of(spec))
    begin_profiles(spec)
    tell_lines([f"{detector}, model {spec.bundle.name}: from {spec.prefix}transactions to {spec.prefix}decisions"])
    code = run_job(settings, spec)
    if code:
        raise typer.Exit(code)


def _address(place: str) -> str:
    return place if "://" in place else Path(place).absolute().as_uri()
