"""`sentinel feast`: a detector as a feature repository of Feast."""

from pathlib import Path
from typing import Annotated

import typer

from sentinel.cli.options import DataFile, DetectorName, Home, Json, reads_history, settings_of
from sentinel.cli.terminal import tell
from sentinel.events.reading import Reading

feast = typer.Typer(help="Give a model's features to Feast.", no_args_is_help=True)
Repository = Annotated[Path, typer.Argument(help="Folder of the repository.")]


@feast.command("export")
@reads_history
def feast_export(
    folder: Repository,
    data: DataFile,
    detector: DetectorName = "payments",
    home: Home = None,
    model: Annotated[str | None, typer.Option("--model", help="Version; the champion when left out.")] = None,
    redis: Annotated[
        str, typer.Option("--redis", help="Online store, redis://HOST:PORT/DATABASE; ${VARIABLE} stays as it is.")
    ] = "redis://127.0.0.1:6379/0",
    registry: Annotated[
        str | None, typer.Option("--registry", help="Registry, as SQLAlchemy says it [SQLite in the folder].")
    ] = None,
    as_json: Json = False,
    *,
    reading: Reading,
) -> None:
    """Write a repository: entities and views of a model's features, and their values over a history as Parquet."""
    from sentinel.commands.feast.export import export_repository, said_of

    facts = export_repository(
        settings_of(home), detector, data, reading, folder, version=model, redis=redis, registry=registry
    )
    tell(facts, said_of(facts, folder), as_json=as_json)


@feast.command("apply")
def feast_apply(folder: Repository, as_json: Json = False) -> None:
    """Register the definitions of a repository in its registry."""
    from sentinel.commands.feast.run import run_in_feast

    done = run_in_feast(settings_of(None), "apply", folder)
    removed = f"; {', '.join(done['removed'])} removed" if done["removed"] else ""
    tell(done, [f"{', '.join(done['applied'])} applied{removed}"], as_json=as_json)


@feast.command("materialize")
def feast_materialize(folder: Repository, as_json: Json = False) -> None:
    """Bring the newest values online: everything the first time, what is new after that."""
    from sentinel.commands.feast.run import run_in_feast

    done = run_in_feast(settings_of(None), "materialize", folder)
    tell(done, [f"{one['view']}: {one['how']}, until {one['until']}" for one in done["views"]], as_json=as_json)
