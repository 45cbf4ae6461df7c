"""The tables of `written.db`: the outbox. Others that stand beside it are defined on the same `metadata`."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()
VERSION = 1
"""Of these tables; another one is refused. A table more is made when the database is opened."""

Number = BigInteger().with_variant(Integer, "sqlite")

facts = Table("facts", metadata, Column("version", Integer, nullable=False))
"""One row."""

messages = Table(
    "messages",
    metadata,
    Column("number", Number, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("kind", String(64), nullable=False),
    Column("about", String(256), nullable=False),
    Column("body", Text, nullable=False),  # JSON
    Column("put_us", BigInteger, nullable=False, index=True),
    Column("dealt_us", BigInteger),  # since when it has deliveries, if somebody wants it
    Index("messages_dealt", "dealt_us"),
)
"""One row a message that is to be sent. Times are microseconds since 1970."""

deliveries = Table(
    "deliveries",
    metadata,
    Column("number", Number, primary_key=True, autoincrement=True),
    Column("message", Number, ForeignKey("messages.number", ondelete="CASCADE"), nullable=False),
    Column("destination", String(64), nullable=False),
    Column("state", String(16), nullable=False),  # waiting, delivered or parked
    Column("attempts", Integer, nullable=False),
    Column("next_us", BigInteger, nullable=False),  # when it is tried next, if it waits; else when it was tried last
    Column("last_error", Text),
    UniqueConstraint("message", "destination"),
    Index("deliveries_state", "state", "next_us"),
)
"""One row for each destination of a message."""

readings = Table(
    "readings",
    metadata,
    Column("reader", String(64), primary_key=True),
    Column("log_id", String(64), nullable=False),
    Column("position", BigInteger, nullable=False),
)
"""How far somebody has read the log that puts down messages about it: moved on in the transaction that puts them."""

occurrences = Table(
    "occurrences",
    metadata,
    Column("kind", String(64), primary_key=True),
    Column("about", String(256), primary_key=True),
    Column("since_us", BigInteger, nullable=False),
    Column("told_us", BigInteger),  # when it was told last; None for one that was not, within a quiet period
    Column("is_on", Boolean, nullable=False),
)
"""One row for each condition that somebody is told of when it begins: whether it holds, and when it was told last."""
