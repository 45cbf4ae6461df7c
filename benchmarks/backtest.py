"""How long a backtest takes: ten rules over a log of a million decisions, the whole command.

    .venv/bin/python benchmarks/backtest.py [--decisions 1000000]

Trains `payments` on a small history, writes decisions of made-up payments with 64 in a record, then runs
`sentinel rules backtest` as a process.
"""

import argparse
import platform
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import msgspec
import numpy as np
import yaml

from sentinel.events.columns import hash_texts
from sentinel.model.bundle import read_manifest
from sentinel.record.applied import HomeDeployment, log_folder
from sentinel.record.entries import Decided, Decider, body_of, schema_id
from sentinel.record.file_log import FileLog
from sentinel.record.log import Kind

ROWS = 64
RULES = [
    "amount > 500 and count_by_card_id_10m >= 3", "score > 0.4 and country not in ('DE', 'FR')", "amount > 2000",
    "count_by_device_id_1h > 5", "amount / mean_amount_by_card_id_30d > 8", "score > 0.9", "country is missing",
    "channel == 'web' and amount > 900", "hour_of_day >= 1 and hour_of_day < 5",
    "max(amount, 10) * 2 > 1500 and score > 0.2",
]  # fmt: skip


def command(*given: str) -> None:
    subprocess.run([sys.executable, "-m", "sentinel", *given], check=True, stdout=subprocess.DEVNULL)


def body_of_record(number: int, decider: Decider, schema: str, chance: np.random.Generator) -> bytes:
    """64 decisions with random features, half of whose amounts are large."""
    ids = [f"{number}-{n}" for n in range(ROWS)]
    amounts = np.round(chance.lognormal(5, 1.5, ROWS), 2)
    contents = [
        msgspec.json.encode({
            "transaction_id": one, "event_time": 1_764_547_200_000_000 + number, "amount": float(amount),
            "card_id": f"c{number % 1000}", "merchant_id": "m1", "merchant_category": "food", "channel": "web",
            "country": "DE" if n % 3 else "FR",
        })
        for n, (one, amount) in enumerate(zip(ids, amounts, strict=True))
    ]  # fmt: skip
    return body_of(
        Decided(
            schema_id=schema, revision=1, detector="payments", deciders=(decider,), by=bytes(ROWS), ids=ids,
            hashes=hash_texts(ids).tobytes(), contents=contents,
            features=(chance.lognormal(1, 2, (ROWS, decider.features)).tobytes(),),
            scores=chance.random(ROWS).tobytes(),
            levels=bytes(ROWS), late=bytes(ROWS), latencies_us=bytes(4 * ROWS),
        )
    )  # fmt: skip


def fill(home: Path, decisions: int) -> None:
    """Decisions of the champion, a thousandth of a second apart."""
    manifest = read_manifest(home / "models" / HomeDeployment(home).champion())
    plan = manifest.plan
    decider = Decider(manifest.version, manifest.state_id, len(plan.names), 0.5, 0.9, "closed")
    chance, begin = np.random.default_rng(1), time.time_ns() // 1000
    bodies = [body_of_record(number, decider, schema_id(plan.schema), chance) for number in range(50)]
    log = FileLog(log_folder(home), begin)
    for number in range(decisions // ROWS):
        log.write(Kind.DECIDED, ROWS, begin + number * 64_000, bodies[number % 50])
    log.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=1_000_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home, book = Path(folder) / "home", Path(folder) / "rules.yaml"
        command("simulate", "--transactions", "20000", "--out", f"{folder}/payments.parquet")
        command("train", "--data", f"{folder}/payments.parquet", "--quick", "--home", str(home))
        fill(home, asked.decisions)
        rules = [{"name": f"r{n}", "when": one, "do": "review", "reason": "x"} for n, one in enumerate(RULES)]
        book.write_text(yaml.safe_dump({"rules": rules}))
        begun = time.monotonic()
        command("rules", "backtest", str(book), "--home", str(home), "--json")
        took = time.monotonic() - begun
    used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{date.today()}, {platform.machine()}, Python {platform.python_version()}, 2 cores, one used")
    print(f"{asked.decisions:,} decisions, {len(RULES)} rules: {took:.1f} s; at most {used:,.0f} MB")
