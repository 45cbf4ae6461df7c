"""The version of a view is Alembic's to know: the table that said it before goes."""

from alembic import op

revision, down_revision = "0002", "0001"


def upgrade() -> None:
    """Drop it, where a view is of before."""
    op.get_bind().exec_driver_sql("DROP TABLE IF EXISTS version")
