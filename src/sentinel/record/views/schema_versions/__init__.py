"""The schema of a view in PostgreSQL, by versions: each has a file in `versions`, which is never changed again."""

from pathlib import Path

import sqlalchemy as sa
from alembic.config import Config
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError

from sentinel.errors import StorageProblem

FIRST = "0001"
_BEFORE_ALEMBIC = "version"
"""The table that views had before their versions were Alembic's: they are of the first one."""


def newest() -> str:
    """The version that this Sentinel writes."""
    head = _scripts().get_current_head()
    assert head is not None  # noqa: S101 - there is a first one
    return head


def current(connection: sa.Connection) -> str | None:
    """The version of the schema that this connection looks at; None where there are no tables yet."""
    if sa.inspect(connection).has_table(_BEFORE_ALEMBIC):
        return FIRST
    return MigrationContext.configure(connection).get_current_revision()


def upgrade(connection: sa.Connection, schema: str) -> list[str]:
    """Bring the schema, which may not be there yet, to the newest version; the versions that were run.

    All in the connection's transaction; whoever comes meanwhile waits.
    Raises StorageProblem for a schema of a newer Sentinel.
    """
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(schema))))
    connection.exec_driver_sql(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
    scripts, context, before = _scripts(), MigrationContext.configure(connection), current(connection)
    try:
        missing = list(scripts.iterate_revisions("head", before or "base"))
    except (CommandError, RevisionError):
        raise StorageProblem(
            f"the view {schema} has the schema {before} of a newer Sentinel, and this one knows {newest()}; run the "
            "newer one, or make the view anew with `sentinel views rebuild`"
        ) from None
    if before == FIRST:
        context.stamp(scripts, FIRST)
    for revision in reversed(missing):
        with Operations.context(context):
            revision.module.upgrade()
    if missing:
        context.stamp(scripts, "head")
    return [revision.revision for revision in reversed(missing)]


def _scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config)
