"""Run by Alembic: bring the database behind the given connection to the newest tables."""

from alembic import context

from sentinel.record.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
