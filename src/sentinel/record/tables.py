"""The tables of the journal. Change them together with a migration in `migrations/versions`."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    text,
)

metadata = MetaData()

_Sequence = BigInteger().with_variant(Integer, "sqlite")

decisions = Table(
    "decisions",
    metadata,
    Column("seq", _Sequence, primary_key=True, autoincrement=False),
    Column("transaction_id", String(128), nullable=False),
    Column("content", LargeBinary, nullable=False),  # canonical JSON of the transaction
    Column("features", LargeBinary, nullable=False),  # float64, little endian, in the order of the plan
    Column("fraud_probability", Float, nullable=False),
    Column("decision", String(8), nullable=False),
    Column("review_threshold", Float, nullable=False),
    Column("block_threshold", Float),  # null: this policy never blocks
    Column("model_version", String(64), nullable=False),
    Column("detector", String(128), nullable=False),
    Column("late", Boolean, nullable=False),
    Column("variant", String(1)),  # a or b, of the experiment
    Column("experiment", String(64)),
    Column("circuit", String(9), nullable=False),  # state of the breaker: closed, open, half-open
    Column("degraded", String(256)),
    Column("batch_size", Integer, nullable=False),
    Column("latency_us", Integer, nullable=False),
    Column("decided_at_us", BigInteger, nullable=False),
    Index("decisions_by_experiment", "experiment", sqlite_where=text("experiment IS NOT NULL")),
)
"""One row a decision, in the order in which the transactions were taken. `decision_ids` finds them by their id."""

decision_ids = Table(
    "decision_ids",
    metadata,
    Column("id_hash", BigInteger, primary_key=True, autoincrement=False),  # XXH3 of the transaction id, signed
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
decision_ids_upto = Table(
    "decision_ids_upto", metadata, Column("seq", _Sequence, primary_key=True, autoincrement=False)
)
"""The decisions up to the newest of these numbers are in `decision_ids`; see `id_index`."""

outcomes = Table(
    "outcomes",
    metadata,
    Column("seq", _Sequence, primary_key=True, autoincrement=False),
    Column("transaction_id", String(128), nullable=False),
    Column("is_fraud", Boolean, nullable=False),
    Column("time_us", BigInteger, nullable=False),
    Column("received_at_us", BigInteger, nullable=False),
    Index("outcomes_by_transaction", "transaction_id"),
)
"""One row an outcome; the newest for a transaction is the truth. `seq` is shared with decisions."""

activations = Table(
    "activations",
    metadata,
    Column("state_id", String(64), primary_key=True),
    Column("seq", _Sequence, nullable=False),
    Column("activated_at_us", BigInteger, nullable=False),
)
"""From which event on a model's state has been kept: `seq` is the last event before it (`Bundle.state_id`)."""
