"""The tables of a view, and the decisions by month."""

from alembic import op

revision, down_revision = "0001", None

_TABLES = """
CREATE TABLE progress (
  log_id varchar(64) NOT NULL, position bigint NOT NULL, chain bytea NOT NULL, projected_at_us bigint NOT NULL
);
INSERT INTO progress VALUES ('', 0, '', 0);
CREATE TABLE decisions (
  position bigint NOT NULL, transaction_id text NOT NULL, received_us bigint NOT NULL, amount double precision,
  decision text NOT NULL, fraud_probability double precision NOT NULL, model_version text NOT NULL, degraded text,
  late boolean NOT NULL, variant text, experiment text, latency_us bigint NOT NULL, keys text NOT NULL,
  content text NOT NULL
) PARTITION BY RANGE (received_us);
CREATE TABLE outcomes (
  position bigint PRIMARY KEY, transaction_id varchar(128) NOT NULL, is_fraud boolean NOT NULL, time_us bigint NOT NULL,
  about bigint NOT NULL, received_us bigint NOT NULL, source varchar(64) NOT NULL, told_by varchar(128) NOT NULL,
  reason varchar(256) NOT NULL, revoked_at bigint
);
CREATE INDEX outcomes_about ON outcomes (about);
CREATE TABLE models (
  model_version varchar(64) NOT NULL, begin bigint NOT NULL, last bigint NOT NULL, PRIMARY KEY (model_version, begin)
);
CREATE TABLE totals (what varchar(32) PRIMARY KEY, n bigint NOT NULL);
CREATE TABLE key_entries (entry bigint PRIMARY KEY);
CREATE VIEW transactions AS SELECT transaction_id, (SELECT value FROM json_each_text(keys::json) LIMIT 1) AS user_id,
  amount, fraud_probability AS risk_score, to_timestamp(received_us / 1e6) AS created_at FROM decisions;
"""


def upgrade() -> None:
    """Make them."""
    op.get_bind().exec_driver_sql(_TABLES)
