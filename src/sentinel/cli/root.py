"""The root of the command line: which commands there are, and what is said when one fails."""

import errno
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sentinel import __version__
from sentinel.cli import (
    backup,
    bench,
    business,
    cases,
    corrections,
    data,
    evaluation,
    feast,
    flink,
    gate,
    history,
    inspect,
    keys,
    lists,
    log,
    models,
    notifications,
    people,
    retraining,
    rules,
    sending,
    serving,
    streams,
    tables,
    thresholds,
    training,
    views,
)
from sentinel.cli.terminal import terminal
from sentinel.commands.terminal import shown
from sentinel.errors import SentinelError
from sentinel.events.card_numbers import masked
from sentinel.record.private import keep_private
from sentinel.telemetry.logs import configure_logging

_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG)
TRAINING_MODULES = ("imblearn", "lightgbm", "matplotlib", "onnx", "polars", "scipy", "sklearn", "xgboost")
"""What the extra `train` brings: a server is installed without."""


class _ClearErrors(TyperGroup):
    """Shows what went wrong as a sentence, not as a traceback."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        try:
            return super().invoke(ctx)
        except SentinelError as error:
            terminal.print("[red]error:[/red]", shown(str(error)), soft_wrap=True)
            raise typer.Exit(1) from None
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in TRAINING_MODULES:
                raise
            told = f"{error.name} is not installed; training needs it: pip install 'sentinel-fraud[train]'"
            terminal.print("[red]error:[/red]", shown(told), soft_wrap=True)
            raise typer.Exit(1) from None
        except OSError as error:
            if error.errno not in _OF_THE_DISK:
                raise
            named = f"{error.filename}: " if error.filename else ""
            terminal.print(f"[red]error:[/red] {named}{error.strerror}; free or repair the disk", soft_wrap=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            terminal.print("stopped")
            raise typer.Exit(130) from None


app = typer.Typer(
    name="sentinel",
    cls=_ClearErrors,
    help="Decide in the moment of a transaction whether to approve, review or block it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _name, _of_models in {
    "gate": gate.models_gate, "compare": gate.models_compare, "rollback": gate.models_rollback,
    "report": gate.models_report,
}.items():  # fmt: skip
    models.models.command(_name)(_of_models)
for _name, _group in {
    "features": training.features, "models": models.models, "log": log.log, "outcomes": corrections.outcomes,
    "history": history.history, "views": views.views, "tables": tables.tables, "keys": keys.keys, "rules": rules.rules,
    "lists": lists.lists, "cases": cases.cases, "backup": backup.backup,
    "benchmark": training.benchmark, "bench": bench.bench,
    "topics": streams.topics, "dead-letters": streams.dead_letters, "data": data.data, "feast": feast.feast,
    "flink": flink.flink, "users": people.users, "notifications": notifications.notifications,
}.items():  # fmt: skip
    app.add_typer(_group, name=_name)
for _command in (
    training.demo, training.simulate, inspect.inspect, training.train, retraining.retrain, evaluation.evaluate,
    training.parity, serving.serve, streams.consume, sending.send, log.replay, log.explain, log.audit,
    corrections.result, corrections.erase, serving.doctor, people.console, business.business,
):  # fmt: skip
    app.command()(_command)


models.models.command("thresholds")(thresholds.thresholds)
models.models.command("what-if")(thresholds.what_if)


def main() -> None:
    """Run the command line; a SentinelError becomes one line and exit code 1."""
    keep_private()
    configure_logging(hide=masked)
    # XGBoost's threads wait by spinning; on a busy machine that takes ten times as long. Read when it is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app()


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"sentinel {__version__}\n")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    del version
