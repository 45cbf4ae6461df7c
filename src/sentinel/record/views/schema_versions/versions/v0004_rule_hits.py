"""Which rules held for a decision."""

from alembic import op

revision, down_revision = "0004", "0003"

_RULE_HITS = """
CREATE TABLE IF NOT EXISTS rule_hits (
    position bigint NOT NULL, rule varchar(80) NOT NULL, shadow boolean NOT NULL, would_be varchar(16) NOT NULL,
    PRIMARY KEY (position, rule)
);
CREATE INDEX IF NOT EXISTS rule_hits_rule ON rule_hits (rule, position);
"""


def upgrade() -> None:
    """Make the table of rules that held, where it is not there yet."""
    op.get_bind().exec_driver_sql(_RULE_HITS)
