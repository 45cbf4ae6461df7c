"""The tables of what people write: themselves, their sessions, and what the audit in the log does not have yet."""

from sqlalchemy import BigInteger, Boolean, Column, Integer, MetaData, String, Table, Text

metadata = MetaData()
VERSION = 1
"""Of these tables; another one is refused."""

facts = Table("facts", metadata, Column("version", Integer, nullable=False))
"""One row."""

people = Table(
    "people",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("must_change", Boolean, nullable=False),  # the password was made by another one
    Column("is_disabled", Boolean, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("seen_us", BigInteger),
)
"""One row a person; times are microseconds since 1970. None is ever deleted: the audit names them."""

sessions = Table(
    "sessions",
    metadata,
    Column("sha256", String(64), primary_key=True),  # of the token that the browser has
    Column("name", String(64), nullable=False, index=True),
    Column("csrf", String(64), nullable=False),
    Column("address", String(64), nullable=False),
    Column("began_us", BigInteger, nullable=False),
    Column("seen_us", BigInteger, nullable=False),
)
"""One row a log-in that has not ended."""

identities = Table(
    "identities",
    metadata,
    Column("issuer", String(512), primary_key=True),
    Column("subject", String(256), primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
)
"""One row for each of `people` who logs in by a provider: whom the provider means. They have no password here."""

pending = Table(
    "pending",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("change", Text, nullable=False),  # JSON of a Change
)
"""What was done or looked at, until it is an entry of the log. Written with what it is about, in one transaction."""
