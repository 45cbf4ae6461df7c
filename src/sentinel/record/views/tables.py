"""The tables that every view has, in whatever database.

Which rows a partial index has is said in each database's own words, and for those all that speaks with it is loaded.
"""

import sqlalchemy as sa
from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, LargeBinary, MetaData, String, Table, Text

metadata = MetaData()
Position = BigInteger().with_variant(Integer, "sqlite")
NOT_APPROVED = sa.text("decision <> 'approve'")
DEGRADED = sa.text("degraded IS NOT NULL")

progress = Table(
    "progress",
    metadata,
    Column("log_id", String(64), nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("chain", LargeBinary, nullable=False),
    Column("projected_at_us", BigInteger, nullable=False),
)
"""One row: how far the view is."""

decisions = Table(
    "decisions",
    metadata,
    Column("position", Position, primary_key=True, autoincrement=False),
    Column("transaction_id", String(128), nullable=False),
    Column("received_us", BigInteger, nullable=False),
    Column("amount", Float),
    Column("decision", String(16), nullable=False),
    Column("fraud_probability", Float, nullable=False),
    Column("model_version", String(64), nullable=False),
    Column("degraded", String(256)),
    Column("late", Boolean, nullable=False),
    Column("variant", String(1)),
    Column("experiment", String(64)),
    Column("latency_us", BigInteger, nullable=False),
    Column("keys", Text, nullable=False),  # JSON: name -> value
    Column("content", Text, nullable=False),  # the JSON of the transaction
    Index("decisions_not_approved", "decision", "position", sqlite_where=NOT_APPROVED),
    Index("decisions_degraded", "position", sqlite_where=DEGRADED),
)
"""One row a decision. Only what is rare has an index: times grow with positions, and `models` says where a model is."""

outcomes = Table(
    "outcomes",
    metadata,
    Column("position", Position, primary_key=True, autoincrement=False),
    Column("transaction_id", String(128), nullable=False),
    Column("is_fraud", Boolean, nullable=False),
    Column("time_us", BigInteger, nullable=False),
    Column("about", BigInteger, nullable=False),  # the position of the decision
    Column("received_us", BigInteger, nullable=False),
    Column("source", String(64), nullable=False),
    Column("told_by", String(128), nullable=False),
    Column("reason", String(256), nullable=False),
    Column("revoked_at", BigInteger),  # the position of the entry that took it back
    Index("outcomes_about", "about"),
)
"""One row an outcome; the newest about a decision that was not taken back is the truth."""

reasons = Table(
    "reasons",
    metadata,
    Column("position", Position, primary_key=True, autoincrement=False),
    Column("about", BigInteger, nullable=False),  # the position of the decision
    Column("why", Text, nullable=False),  # JSON, as `why` of a decision
    Index("reasons_about", "about"),
)
"""One row for the reasons of a decision that was no approval."""

rule_hits = Table(
    "rule_hits",
    metadata,
    Column("position", Position, primary_key=True, autoincrement=False),  # of the decision
    Column("rule", String(80), primary_key=True),
    Column("shadow", Boolean, nullable=False),
    Column("would_be", String(16), nullable=False),  # what was decided without rules
    Index("rule_hits_rule", "rule", "position"),
)
"""One row for each rule that held for a decision."""

results = Table(
    "results",
    metadata,
    Column("position", Position, primary_key=True, autoincrement=False),
    Column("about", BigInteger, nullable=False),  # the position of the decision
    Column("result", String(32), nullable=False),
    Column("state", String(16), nullable=False),  # where the transaction stands after it
    Column("told_by", String(128), nullable=False),
    Column("reason", String(256), nullable=False),
    Column("received_us", BigInteger, nullable=False),
    Index("results_about", "about", "position"),
    Index("results_state", "state", "about"),
)
"""One row a result; the newest about a decision says where its transaction stands."""

models = Table(
    "models",
    metadata,
    Column("model_version", String(64), primary_key=True),
    Column("begin", BigInteger, primary_key=True, autoincrement=False),
    Column("last", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""Spans of positions in which a model decided; outside of them it did not."""

totals = Table(
    "totals", metadata, Column("what", String(32), primary_key=True), Column("n", BigInteger, nullable=False)
)
"""How many rows there are: by action, `outcomes`, and `without_keys`."""
