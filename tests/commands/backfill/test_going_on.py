"""A build that is killed goes on where it was, with the same bits; one of something else is refused."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest

from sentinel.commands.backfill.build import build_features
from sentinel.commands.backfill.unfinished import Unfinished
from sentinel.config import Settings
from sentinel.errors import DataProblem
from sentinel.events.reading import Reading

PATIENCE_S = 120
N = 30_000
DETECTOR = """
from sentinel import Detector, Schema, category, count, fraud_rate, mean
detector = Detector(
    schema=Schema(keys=("card_id", "shop_id"), categories=("channel",), outcome_time="known_at"),
    features=(
        count(by="card_id", over="1h"), mean("amount", by="card_id", over="3h"), category("channel"),
        fraud_rate(by="shop_id", over="6h", delay="1h"),
    ),
)
"""


@pytest.fixture
def given(tmp_path):
    """A detector, and a history whose outcomes come hours after their transactions."""
    chance = np.random.default_rng(5)
    at_us = 1_770_000_000_000_000 + np.sort(chance.integers(0, 10**12, N))
    known_us = at_us + chance.integers(-(10**9), 3 * 10**10, N)
    pl.DataFrame({
        "transaction_id": [f"t{i}" for i in range(N)],
        "event_time": pl.Series(at_us).cast(pl.Datetime("us", "UTC")),
        "amount": [None if i % 100 == 7 else float(i % 90) + 0.25 for i in range(N)],
        "card_id": chance.integers(1, 400, N),
        "shop_id": [f"s{one}" for one in chance.integers(0, 50, N)],
        "channel": [("app", "web", "chip")[one] for one in chance.integers(0, 3, N)],
        "is_fraud": chance.integers(0, 9, N) == 0,
        "known_at": pl.Series(known_us).cast(pl.Datetime("us", "UTC")),
    }).write_parquet(tmp_path / "h.parquet")  # fmt: skip
    (tmp_path / "d.py").write_text(DETECTOR)
    return tmp_path


def build(folder, out="f.parquet", rows=500, *, restart=False):
    return build_features(
        Settings(), str(folder / "d.py"), folder / "h.parquet", folder / out, Reading(), rows, restart=restart
    )


def killed(folder, after: int) -> bool:
    """Start a build and kill it once it has saved so many checkpoints; whether it was killed before it was done."""
    command = [
        sys.executable, "-m", "sentinel", "features", "build", "--detector", str(folder / "d.py"),
        "--data", str(folder / "h.parquet"), "--out", str(folder / "f.parquet"), "--checkpoint-rows", "500",
    ]  # fmt: skip
    checkpoint, seen = Unfinished(folder / "f.parquet").folder / "checkpoint.npz", set()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    give_up = time.monotonic() + PATIENCE_S
    while process.poll() is None and len(seen) < after and time.monotonic() < give_up:
        if checkpoint.exists():
            seen.add(checkpoint.stat().st_ino)
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    said = process.communicate()[1].decode()
    assert process.returncode in (0, -signal.SIGKILL), said
    return process.returncode != 0 and checkpoint.exists()


def test_a_build_that_is_killed_goes_on_with_the_same_bits(given):
    build(given, "at once.parquet", rows=N + 1)
    kills = sum(killed(given, after) for after in (1, 2, 5))
    assert kills, "no build was killed before it was done"
    if Unfinished(given / "f.parquet").folder.exists():
        build(given)
    found, at_once = pl.read_parquet(given / "f.parquet"), pl.read_parquet(given / "at once.parquet")
    assert found["transaction_id"].to_list() == at_once["transaction_id"].to_list()
    for name in found.columns[1:]:
        assert found[name].to_numpy().tobytes() == at_once[name].to_numpy().tobytes()
    assert not Unfinished(given / "f.parquet").folder.exists()


@pytest.fixture
def stopped(given):
    assert killed(given, 3)
    return given


def test_what_was_read_before_is_not_read_again(stopped):
    """The rows before the checkpoint have no part in what is written: the parts of it are."""
    kept = Unfinished(stopped / "f.parquet")
    first = pl.read_parquet(kept.part(0))
    first.with_columns(pl.lit("planted").alias("transaction_id")).write_parquet(kept.part(0))
    assert build(stopped)["skipped"] == {"amount is missing": N // 100}
    assert pl.read_parquet(stopped / "f.parquet")["transaction_id"].eq("planted").sum() == len(first) == 495


@pytest.mark.parametrize(
    ("what", "said"), [("h.parquet", "the input changed"), ("d.py", "the detector changed")], ids=["input", "detector"]
)
def test_a_build_of_something_else_is_refused_until_it_is_forgotten(stopped, what, said):
    if what == "d.py":
        (stopped / what).write_text(DETECTOR.replace('over="1h"', 'over="2h"'))
    else:
        os.utime(stopped / what, (1, 1))
    with pytest.raises(DataProblem, match=f"{said}; --restart"):
        build(stopped)
    assert build(stopped, restart=True)["transactions"] == N - N // 100


def test_a_checkpoint_that_is_damaged_is_refused(stopped):
    checkpoint = Unfinished(stopped / "f.parquet").folder / "checkpoint.npz"
    data = bytearray(checkpoint.read_bytes())
    data[len(data) // 2] ^= 1
    checkpoint.write_bytes(data)
    with pytest.raises(DataProblem, match=r"cannot be read .*--restart"):
        build(stopped)


def test_two_builds_of_one_output_do_not_mix(given):
    with Unfinished(given / "f.parquet").locked(), pytest.raises(DataProblem, match="another build"):
        build(given)
