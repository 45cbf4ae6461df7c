"""Sums of each day, and an index of amounts, both kept from now on."""

from alembic import op

revision, down_revision = "0006", "0005"

_DAY_SUMS = """
CREATE TABLE IF NOT EXISTS day_sums (
    part varchar(80) NOT NULL, day bigint NOT NULL, value varchar(160) NOT NULL, unit varchar(16) NOT NULL,
    action varchar(16) NOT NULL, decisions bigint NOT NULL, money bigint NOT NULL, frauds bigint NOT NULL,
    fraud_money bigint NOT NULL, legitimate bigint NOT NULL, legitimate_money bigint NOT NULL,
    PRIMARY KEY (part, day, value, unit, action)
);
CREATE TABLE IF NOT EXISTS field_values (
    field varchar(72) NOT NULL, value varchar(160) NOT NULL, PRIMARY KEY (field, value)
);
CREATE TABLE IF NOT EXISTS schema_spans (begin bigint PRIMARY KEY, counted text NOT NULL);
CREATE TABLE IF NOT EXISTS amount_entries (entry bigint PRIMARY KEY);
"""


def upgrade() -> None:
    """Make their tables, where they are not there yet."""
    op.get_bind().exec_driver_sql(_DAY_SUMS)
