"""Experiments, the breaker, policies that never block; states instead of versions in the activations."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add the columns; activations begin anew, which costs a replay of the journal at the next start."""
    with op.batch_alter_table("decisions") as decisions:
        decisions.alter_column("block_threshold", existing_type=sa.Float, nullable=True)
        decisions.add_column(sa.Column("variant", sa.String(1)))
        decisions.add_column(sa.Column("experiment", sa.String(64)))
        decisions.add_column(sa.Column("circuit", sa.String(9), nullable=False, server_default="closed"))
    op.create_index(
        "decisions_by_experiment", "decisions", ["experiment"], sqlite_where=sa.text("experiment IS NOT NULL")
    )
    op.drop_table("activations")
    op.create_table(
        "activations",
        sa.Column("state_id", sa.String(64), primary_key=True),
        sa.Column("seq", _SEQUENCE, nullable=False),
        sa.Column("activated_at_us", sa.BigInteger, nullable=False),
    )
