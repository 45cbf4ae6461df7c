"""`sentinel simulate`."""

from collections.abc import Callable
from pathlib import Path

import polars as pl

from sentinel.commands.progress import stages
from sentinel.errors import DataProblem, InvalidDefinition
from sentinel.events.files import history_of_frame
from sentinel.events.replay import columns_of_frame
from sentinel.events.schema import Schema
from sentinel.features.definitions import count, distinct, field, hour_of_day, mean, seconds_since_last
from sentinel.features.plan import FeaturePlan
from sentinel.features.store import MemoryStore
from sentinel.simulate.creditcard import creditcard_rows
from sentinel.simulate.payments import simulate_all
from sentinel.simulate.velocity import velocity_numbers

_ENDINGS = (".parquet", ".csv", ".jsonl")
_LONGEST_PAUSE_DAYS = 30.0
_VELOCITY = FeaturePlan(
    Schema(keys=("card_id", "merchant_id")),
    (
        field("amount"),
        hour_of_day(),
        seconds_since_last(by="card_id").named("days_since_last_txn"),
        count(by="card_id", over="24h").named("txn_count_24h"),
        distinct("merchant_id", by="card_id", over="24h").named("distinct_merchants_24h"),
        mean("amount", by="card_id", over="7d").named("avg_amount_7d"),
    ),
)


def velocity_rows(payments: pl.DataFrame) -> pl.DataFrame:
    """Simulated payments as the seven fields of the `velocity` detector, with id, time and label.

    Counts and the mean include the payment itself. Pauses are in days, 30 at most, and 30 for a card's first.
    """
    schema = _VELOCITY.schema
    rows = MemoryStore(_VELOCITY).advance(columns_of_frame(schema, history_of_frame(payments, schema).frame)).rows
    pause = pl.col("days_since_last_txn").fill_nan(None) / 86_400
    return payments.select(schema.id, schema.time, schema.label).with_columns(
        *(pl.Series(name, rows[:, i]) for i, name in enumerate(_VELOCITY.names)),
        (payments["channel"] == "online").cast(pl.Float64).alias("channel_online"),
    ).with_columns(pause.clip(0.0, _LONGEST_PAUSE_DAYS).fill_null(_LONGEST_PAUSE_DAYS))  # fmt: skip


_SHAPES: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "payments": lambda payments: payments,
    "velocity": velocity_rows,
}
_DRAWN: dict[str, Callable[[int, int, int], pl.DataFrame]] = {
    "velocity": velocity_numbers,
    "creditcard": creditcard_rows,
}


def simulate_to_file(
    out: Path, transactions: int, seed: int, detector: str, events_out: Path | None = None
) -> dict[str, object]:
    """Write simulated payments in the fields of that detector, and say how many of what kind there are.

    The context events beside them go to `events_out`.
    """
    for path in (out, *([events_out] if events_out else [])):
        _check_ending(path)
    if detector not in _SHAPES:
        raise InvalidDefinition(f"payments cannot be simulated for {detector!r}; take {' or '.join(_SHAPES)}")
    with stages() as stage:
        stage("simulating", 0, transactions)
        payments, events = simulate_all(transactions, seed)
        frame = _SHAPES[detector](payments)
        stage("simulating", transactions, transactions)
    _write(frame, out)
    if events_out is not None:
        _write(events, events_out)
    patterns = payments["fraud_pattern"].drop_nulls().value_counts().sort("fraud_pattern")
    return {
        "transactions": len(frame),
        "frauds": int(payments["is_fraud"].sum()),
        "patterns": dict(patterns.iter_rows()),
        "out": str(out),
        **({} if events_out is None else {"events": len(events), "events_out": str(events_out)}),
    }


def draw_to_file(out: Path, legit: int, fraud: int, seed: int, detector: str) -> dict[str, object]:
    """Write so many legitimate payments and frauds of that detector, each drawn on its own; what is in the file.

    No payment has to do with another one: there is no card in it, and nothing to count.
    """
    _check_ending(out)
    if detector not in _DRAWN:
        raise InvalidDefinition(
            f"--legit and --fraud draw rows for {' and '.join(_DRAWN)}; for {detector!r} say --transactions"
        )
    if legit < 1 or fraud < 1:
        raise InvalidDefinition(f"{legit} legitimate payments and {fraud} frauds; draw at least one of each")
    frame = _DRAWN[detector](legit, fraud, seed)
    _write(frame, out)
    label = frame.columns[-1]
    return {"transactions": len(frame), "frauds": int(frame[label].sum()), "out": str(out)}


def _check_ending(path: Path) -> None:
    if path.suffix not in _ENDINGS:
        raise DataProblem(f"{path}: end the name in {', '.join(_ENDINGS)} to say what to write")


def _write(frame: pl.DataFrame, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        if out.suffix == ".parquet":
            frame.write_parquet(out)
        elif out.suffix == ".csv":
            frame.write_csv(out)
        else:
            frame.write_ndjson(out)
    except OSError as error:
        raise DataProblem(f"{out} cannot be written: {error}") from error
