"""Decisions, outcomes and activations."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create the first three tables."""
    op.create_table(
        "decisions",
        sa.Column("seq", _SEQUENCE, primary_key=True, autoincrement=False),
        sa.Column("transaction_id", sa.String(128), nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("features", sa.LargeBinary, nullable=False),
        sa.Column("fraud_probability", sa.Float, nullable=False),
        sa.Column("decision", sa.String(8), nullable=False),
        sa.Column("review_threshold", sa.Float, nullable=False),
        sa.Column("block_threshold", sa.Float, nullable=False),
        sa.Column("model_version", sa.String(64), nullable=False),
        sa.Column("detector", sa.String(128), nullable=False),
        sa.Column("late", sa.Boolean, nullable=False),
        sa.Column("degraded", sa.String(256)),
        sa.Column("batch_size", sa.Integer, nullable=False),
        sa.Column("latency_us", sa.Integer, nullable=False),
        sa.Column("decided_at_us", sa.BigInteger, nullable=False),
    )
    op.create_index("decisions_by_transaction", "decisions", ["transaction_id"], unique=True)
    op.create_table(
        "outcomes",
        sa.Column("seq", _SEQUENCE, primary_key=True, autoincrement=False),
        sa.Column("transaction_id", sa.String(128), nullable=False),
        sa.Column("is_fraud", sa.Boolean, nullable=False),
        sa.Column("time_us", sa.BigInteger, nullable=False),
        sa.Column("received_at_us", sa.BigInteger, nullable=False),
    )
    op.create_index("outcomes_by_transaction", "outcomes", ["transaction_id"])
    op.create_table(
        "activations",
        sa.Column("seq", _SEQUENCE, primary_key=True, autoincrement=False),
        sa.Column("model_version", sa.String(64), nullable=False),
        sa.Column("activated_at_us", sa.BigInteger, nullable=False),
    )
