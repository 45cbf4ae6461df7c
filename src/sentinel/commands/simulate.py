"""`sentinel simulate`."""

from pathlib import Path

from sentinel.commands.progress import stages
from sentinel.errors import DataProblem
from sentinel.events.simulator import simulate

_ENDINGS = (".parquet", ".csv", ".jsonl")


def simulate_to_file(out: Path, transactions: int, seed: int) -> dict[str, object]:
    """Write simulated payments and say how many of what kind there are."""
    if out.suffix not in _ENDINGS:
        raise DataProblem(f"{out}: end the name in {', '.join(_ENDINGS)} to say what to write")
    with stages() as stage:
        stage("simulating", 0, transactions)
        frame = simulate(transactions, seed)
        stage("simulating", transactions, transactions)
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
    patterns = frame["fraud_pattern"].drop_nulls().value_counts().sort("fraud_pattern")
    return {
        "transactions": len(frame),
        "frauds": int(frame["is_fraud"].sum()),
        "patterns": dict(patterns.iter_rows()),
        "out": str(out),
    }
