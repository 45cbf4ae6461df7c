"""What became of a decision."""

from alembic import op

revision, down_revision = "0005", "0004"

_RESULTS = """
CREATE TABLE IF NOT EXISTS results (
    position bigint PRIMARY KEY, about bigint NOT NULL, result varchar(32) NOT NULL, state varchar(16) NOT NULL,
    told_by varchar(128) NOT NULL, reason varchar(256) NOT NULL, received_us bigint NOT NULL
);
CREATE INDEX IF NOT EXISTS results_about ON results (about, position);
CREATE INDEX IF NOT EXISTS results_state ON results (state, about);
"""


def upgrade() -> None:
    """Make the table of results, where it is not there yet."""
    op.get_bind().exec_driver_sql(_RESULTS)
