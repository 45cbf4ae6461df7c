"""Decisions are found by the hash of their id, in a table that is filled in the order of its keys."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Exchange the unique index for the tables; they are filled when the journal is opened."""
    op.drop_index("decisions_by_transaction", "decisions")
    op.create_table(
        "decision_ids",
        sa.Column("id_hash", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sqlite_with_rowid=False,
    )
    op.create_table("decision_ids_upto", sa.Column("seq", _SEQUENCE, primary_key=True, autoincrement=False))
