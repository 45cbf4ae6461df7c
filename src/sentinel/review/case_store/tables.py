"""The tables of cases, in the database of what people write."""

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, LargeBinary, String, Table, Text

from sentinel.record.written.tables import Number, metadata

case_progress = Table(
    "case_progress",
    metadata,
    Column("log_id", String(64), nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("chain", LargeBinary, nullable=False),
)
"""One row: how far the log was read for cases."""

cases = Table(
    "cases",
    metadata,
    Column("number", Number, primary_key=True, autoincrement=True),
    Column("key_field", String(128), nullable=False),
    Column("key_value", Text, nullable=False),  # as the log has it: a secret is a hash
    Column("key_sha256", String(64), nullable=False, index=True),  # of field and value
    Column("open_key", String(64), unique=True),  # the same while it is work: so a key has one such case
    Column("state", String(16), nullable=False),
    Column("why", String(200), nullable=False),  # what opened it
    Column("opened_us", BigInteger, nullable=False),  # or reopened
    Column("due_us", BigInteger, nullable=False),
    Column("priority", String(16), nullable=False),
    Column("overdue_us", BigInteger),  # when it was told that it is
    Column("loss", BigInteger, nullable=False),  # expected, in units of 10^-decimals
    Column("amount", BigInteger, nullable=False),  # of all payments, in the same unit
    Column("largest", BigInteger, nullable=False),
    Column("payments", Integer, nullable=False),
    Column("decimals", Integer, nullable=False),
    Column("newest_us", BigInteger, nullable=False),  # when its newest payment was decided
    Column("holder", String(128)),
    Column("escalated_to", String(16)),
    Column("outcome", String(16)),
    Column("decided_us", BigInteger),
    Column("decided_by", String(128)),
    Column("version", Integer, nullable=False),
    Index("cases_state", "state", "number"),
    Index("cases_decided", "decided_us"),
)
"""One row a case. Times are microseconds since 1970; each change makes the version one more."""

case_payments = Table(
    "case_payments",
    metadata,
    Column("position", BigInteger, primary_key=True, autoincrement=False),  # of the decision, which is in one case only
    Column("number", Number, nullable=False, index=True),
    Column("transaction_id", String(128), nullable=False, index=True),
    Column("received_us", BigInteger, nullable=False),
    Column("amount", BigInteger),
    Column("probability", Float, nullable=False),
    Column("decision", String(16), nullable=False),
    Column("why", String(200), nullable=False),
    Column("is_fraud", Boolean),  # as far as is known
    Column("source", String(64)),  # who says so
)
"""One row for each decision that a case is about."""

case_telling = Table(
    "case_telling",
    metadata,
    Column("number", Number, primary_key=True, autoincrement=False),
    Column("who", String(128), nullable=False),
    Column("until_us", BigInteger, nullable=False),
)
"""One row for each case whose outcomes somebody tells at this moment, and for how long nobody else acts on it."""

case_signs = Table(
    "case_signs",
    metadata,
    Column("number", Number, primary_key=True, autoincrement=False),
    Column("sign", String(200), primary_key=True),
    Index("case_signs_sign", "sign"),
)
"""By what cases are alike."""

case_events = Table(
    "case_events",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=True),
    Column("number", Number, nullable=False, index=True),
    Column("version", Integer, nullable=False),  # of the case, with this
    Column("at_us", BigInteger, nullable=False, index=True),
    Column("who", String(128), nullable=False),
    Column("what", String(32), nullable=False),
    Column("details", Text, nullable=False),  # JSON
)
"""What was done to a case, notes and links with it: rows are added, and none is ever changed."""
