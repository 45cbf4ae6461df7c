"""`sentinel retrain` on the handbook's data: how long each step takes, and how much memory, from labels to a shadow.

The champion is trained on what is before `--champion-until`; then all before `--until` is the new history. Told are
seconds by the clock and of the processor (all threads of the command), and the most memory that it had in use.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from report import data_file, publish


def main() -> None:
    """Train a champion, then retrain."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--champion-until", type=datetime.fromisoformat, default=datetime(2018, 7, 1))
    parser.add_argument("--until", type=datetime.fromisoformat, default=datetime(2018, 8, 1))
    parser.add_argument("--warm-start", action="store_true", help="add trees to the champion, too")
    given = parser.parse_args()
    whole = pl.read_parquet(data_file("handbook_simulated.parquet"))
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.parquet" for name in ("before", "now")}
        for file, until in ((files["before"], given.champion_until), (files["now"], given.until)):
            whole.filter(pl.col("tx_datetime") < until).write_parquet(file)
        home = ("--home", folder, "--detector", "handbook", "--json")
        measured("train", "--data", str(files["before"]), *home)
        warm = ("--warm-start",) if given.warm_start else ()
        found, told = measured("retrain", "--data", str(files["now"]), *warm, *home)
    figures = {
        "transactions": told["steps"][1]["found"]["transactions"],
        "ended": told["ended"],
        "steps_s": {one["name"]: one["seconds"] for one in told["steps"]},
        "warm_start": told["steps"][1]["found"]["warm_start"],
        "compared": told["steps"][2]["found"]["compared"],
        **found,
    }
    publish("retraining", __doc__ or "", figures)


def measured(*arguments: str) -> tuple[dict[str, float], Any]:
    """What a command takes, and what it prints."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "sentinel", *arguments], stdout=subprocess.PIPE)
    assert process.stdout is not None
    told = json.loads(process.stdout.read())
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    taken = {
        "clock_s": round(time.perf_counter() - began, 1),
        "processor_s": round(used.ru_utime + used.ru_stime, 1),
        "most_memory_mb": round(used.ru_maxrss / 1024),
    }
    return taken, told


if __name__ == "__main__":
    main()
