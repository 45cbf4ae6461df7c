"""Payments of a wallet as its database gives them away: names of its own, a column that tells the truth too early.

They are simulated payments under other names: whole numbers as keys, decimals, a categorical, times of Lisbon, two
words for the label, and a refund that is known only after a dispute. What is newer than the history goes live.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

LIVE_SHARE = 0.25
FIELDS = {"total": "amount", "mcc_name": "merchant_category", "via": "channel", "land": "country"}


def write_wallets(simulated: Path, folder: Path, now: datetime) -> int:
    """Write wallets.parquet, live.jsonl (requests) and chargebacks.csv into the folder; how many go live.

    The newest payment is of yesterday. Chargebacks are those of the live payments that are known by `now`.
    """
    frame = pl.read_parquet(simulated)
    newest: datetime = frame["event_time"].max()  # type: ignore[assignment]
    later = timedelta(days=(now - newest.astimezone(UTC)).days - 1)
    fraud = pl.col("is_fraud")
    wallets = frame.select(
        pl.int_range(900_000_000, 900_000_000 + pl.len(), dtype=pl.Int64).alias("ref"),
        (pl.col("event_time") + later).dt.convert_time_zone("Europe/Lisbon").alias("created"),
        pl.col("card_id").str.slice(1).cast(pl.Int64).alias("wallet_no"),
        pl.col("merchant_id").cast(pl.Categorical).alias("payee"),
        pl.col("device_id").alias("handset"),
        *(pl.col(theirs).alias(ours) for ours, theirs in FIELDS.items()),
        pl.col("latitude").alias("lat"),
        pl.col("longitude").alias("lon"),
        pl.when(fraud).then(pl.lit("disputed")).otherwise(pl.lit("settled")).alias("state"),
        pl.when(fraud).then(pl.col("outcome_time") + later).alias("disputed_on"),
        pl.when(fraud).then(pl.col("amount")).otherwise(0.0).alias("refund"),
    ).with_columns(pl.col("total").cast(pl.Decimal(12, 2)))
    begin = int(len(wallets) * (1 - LIVE_SHARE))
    wallets[:begin].write_parquet(folder / "wallets.parquet")
    live = wallets[begin:]
    _requests(live).write_ndjson(folder / "live.jsonl")
    told = live.filter((pl.col("state") == "disputed") & (pl.col("disputed_on") <= now))
    told.select(
        pl.col("ref").alias("our_ref"), pl.col("disputed_on").alias("told_at"), pl.lit("chargeback").alias("stage")
    ).write_csv(folder / "chargebacks.csv", datetime_format="%Y-%m-%dT%H:%M:%SZ")
    return len(live)


def _requests(live: pl.DataFrame) -> pl.DataFrame:
    """What a client sends: ids and keys are texts, times ISO 8601, and the truth is not there yet."""
    return live.drop("state", "disputed_on", "refund").with_columns(
        pl.col("ref", "wallet_no", "payee").cast(pl.String),
        pl.col("total").cast(pl.Float64),
        pl.col("created").dt.convert_time_zone("UTC").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ"),
    )
