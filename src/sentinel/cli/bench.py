"""`sentinel bench`: how fast this machine is."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from sentinel.cli.options import Json, settings_of
from sentinel.cli.terminal import print_json, terminal
from sentinel.errors import InvalidDefinition

MOST_LATE = 0.05
"""The share of messages that may be sent late before figures say more about the machine than about what is measured."""

bench = typer.Typer(help="Measure the speed of this machine.", no_args_is_help=True)


@bench.command("serve")
def bench_serve(
    seconds: Annotated[float, typer.Option("--seconds", help="Of each load.")] = 4.0,
    repeats: Annotated[int, typer.Option("--repeats", help="Of everything; medians are shown.")] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="Less than a minute: tells whether it works.")] = False,
    plot: Annotated[Path | None, typer.Option("--plot", help="PNG to write: latency against offered load.")] = None,
    as_json: Json = False,
) -> None:
    """Requests a second and latencies over HTTP: the server on one core, the load on another, nginx beside it."""
    from sentinel.bench.serving_benchmark import QUICK, Plan, run_serving_benchmark
    from sentinel.bench.serving_plot import draw_latency
    from sentinel.commands.progress import stages

    if seconds <= 0 or repeats < 1:
        raise InvalidDefinition("--seconds must be above 0 and --repeats at least 1")
    with stages() as stage:
        report = run_serving_benchmark(QUICK if quick else Plan(seconds, repeats), stage)
    if plot is not None:
        draw_latency(report, plot)
    if as_json:
        print_json(report)
        return
    table = Table(box=None, header_style="bold")
    for column in ("load", "requests/s", "p50 ms", "p99 ms", "p99.9 ms", "errors", "server CPU"):
        table.add_column(column, justify="left" if column == "load" else "right")
    for one in report.loads:
        found = one.figures
        table.add_row(
            one.name, f"{found['per_second']:,.0f}", f"{found['p50_ms']:.2f}", f"{found['p99_ms']:.2f}",
            f"{found['p99_9_ms']:.2f}", f"{found['refused'] + found['errors']:.0f}", f"{one.server_cpu:.0%}",
        )  # fmt: skip
    terminal.print(table)
    if report.ratio_hot is not None:
        terminal.print(
            f"of nginx {report.nginx_version}: hot {report.ratio_hot:.2f}, distinct {report.ratio_distinct:.2f}"
        )
    terminal.print(f"{report.scores_checked:,} scores checked, {report.decisions_stored:,} decisions in the log")
    for name in report.generator_is_limit:
        terminal.print(f"[yellow]{name}: the generator did not keep up; the server may be faster[/yellow]")


@bench.command("stream")
def bench_stream(
    seconds: Annotated[float, typer.Option("--seconds", help="Of each rate.")] = 10.0,
    quix: Annotated[
        Path | None,
        typer.Option(
            "--quix", help="Interpreter of an environment with quixstreams and onnxruntime, to be measured too."
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A minute: tells whether it works.")] = False,
    plot: Annotated[Path | None, typer.Option("--plot", help="PNG to write: latency against offered load.")] = None,
    as_json: Json = False,
) -> None:
    """From a message in Kafka to its decision in Kafka, by rate: `sentinel consume` on one core, the load on another.

    Kafka is that of SENTINEL_KAFKA; the topics are made for this and deleted. Beside it Kafka alone, and Quix Streams
    with the same windows and the same model.
    """
    try:
        from sentinel.bench.stream_benchmark import QUICK, Plan, run_stream_benchmark
    except ModuleNotFoundError as error:
        raise InvalidDefinition(f"{error.name} is not installed: pip install 'sentinel-fraud[kafka,train]'") from error
    from sentinel.bench.stream_plot import draw_stream
    from sentinel.commands.progress import stages
    from sentinel.transport.kafka.streams import connection_of

    if seconds <= 0:
        raise InvalidDefinition("--seconds must be above 0")
    servers = connection_of(settings_of(None)).servers
    with stages() as stage:
        report = run_stream_benchmark(QUICK if quick else Plan(seconds=seconds), servers, quix, os.environ, stage)
    if plot is not None:
        draw_stream(report, plot)
    if as_json:
        print_json(report)
        return
    table = Table(box=None, header_style="bold")
    for column in ("system", "rate", "p50 ms", "p99 ms", "p99.9 ms", "most ms", "missing", "repeated"):
        table.add_column(column, justify="left" if column == "system" else "right")
    for system in report.systems:
        for n, one in enumerate(system.loads):
            figures = (f"{one.latency_ms[name]:,.1f}" for name in ("p50", "p99", "p99_9", "most"))
            name = f"{system.name} ({system.promises})" if n == 0 else ""
            table.add_row(name, f"{one.rate:,}", *figures, f"{one.missing:,}", f"{one.repeated:,}")
        table.add_row("", "backlog", f"{system.per_second:,}/s", "", "", "", f"{system.backlog_missing:,}", "")
    terminal.print(table)
    terminal.print(f"{report.scores_checked:,} scores checked, {report.decisions_stored:,} decisions in the log")
    if any(one.late_sends > MOST_LATE for system in report.systems for one in system.loads):
        terminal.print("[yellow]messages were sent late: the machine is busy, and the figures are not its own[/yellow]")
    if quix is None:
        terminal.print("Quix Streams was not measured: --quix PYTHON names an environment that has it")
