"""Why transactions were not approved."""

from alembic import op

revision, down_revision = "0003", "0002"

_REASONS = """
CREATE TABLE IF NOT EXISTS reasons (position bigint PRIMARY KEY, about bigint NOT NULL, why text NOT NULL);
CREATE INDEX IF NOT EXISTS reasons_about ON reasons (about);
"""


def upgrade() -> None:
    """Make the table of reasons, where it is not there yet."""
    op.get_bind().exec_driver_sql(_REASONS)
