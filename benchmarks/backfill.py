"""`features build` on the handbook's data, whole command, beside Polars' rolling expressions: time and memory.

    taskset -c 0 python -m benchmarks.backfill DATA.parquet [--rounds 3] [--duckdb PYTHON]

Each round runs all, one after the other, in processes of their own. Polars computes the same fourteen features, and so
do the windows of DuckDB, whose begin is inside them, where an interpreter is named that has it.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

DETECTOR = """
from sentinel import Detector
from sentinel.detectors import handbook
detector = Detector(schema=handbook.detector.schema, features=handbook.HANDBOOK_FEATURES)
"""
POLARS = """
import sys
import polars as pl
t = pl.col("tx_datetime")
rows = pl.scan_parquet(sys.argv[1]).sort("tx_datetime", maintain_order=True).with_columns(n=pl.lit(1.0))
made = [(t.dt.weekday() >= 6).cast(pl.Float64).alias("tx_during_weekend"),
        (t.dt.hour() <= 6).cast(pl.Float64).alias("tx_during_night")]
for d in (1, 7, 30):
    w = f"{d}d"
    made += [pl.col("n").rolling_sum_by("tx_datetime", w).over("customer_id").alias(f"customer_n_{d}"),
             pl.col("tx_amount").rolling_mean_by("tx_datetime", w).over("customer_id").alias(f"customer_mean_{d}")]
for d in (7, 8, 14, 37):
    w = f"{d}d"
    made += [pl.col("n").rolling_sum_by("tx_datetime", w).over("terminal_id").alias(f"n_{d}"),
             pl.col("tx_fraud").cast(pl.Float64).rolling_sum_by("tx_datetime", w).over("terminal_id").alias(f"f_{d}")]
rows = rows.select("tx_id", *made)
last = []
for d in (1, 7, 30):
    n, f = pl.col(f"n_{d + 7}") - pl.col("n_7"), pl.col(f"f_{d + 7}") - pl.col("f_7")
    last += [n.alias(f"terminal_n_{d}"), pl.when(n > 0).then(f / n).otherwise(0.0).alias(f"terminal_risk_{d}")]
rows.select("tx_id", pl.col("^tx_during.*$"), pl.col("^customer_.*$"), *last).collect().write_parquet(sys.argv[2])
"""

DUCKDB = """
import sys
import duckdb
windows, last = [], []
for d in (1, 7, 30):
    w = f"over (partition by customer_id order by tx_datetime range interval {d} days preceding)"
    windows += [f"count(*) {w} as customer_n_{d}", f"avg(tx_amount) {w} as customer_mean_{d}"]
for d in (7, 8, 14, 37):
    w = f"over (partition by terminal_id order by tx_datetime range interval {d} days preceding)"
    windows += [f"count(*) {w} as n_{d}", f"sum(tx_fraud) {w} as f_{d}"]
for d in (1, 7, 30):
    n, f = f"(n_{d + 7} - n_7)", f"(f_{d + 7} - f_7)"
    last += [f"{n} as terminal_n_{d}", f"case when {n} > 0 then {f} / {n} else 0 end as terminal_risk_{d}"]
duckdb.sql(f"set threads to {sys.argv[3]}")
duckdb.sql(f'''
copy (select tx_id, dayofweek(tx_datetime) in (0, 6) as w, hour(tx_datetime) <= 6 as n,
             customer_n_1, customer_mean_1, customer_n_7, customer_mean_7, customer_n_30, customer_mean_30,
             {', '.join(last)}
      from (select *, {', '.join(windows)} from read_parquet('{sys.argv[1]}')))
to '{sys.argv[2]}' (format parquet, compression lz4_raw)''')
"""


def measured(command: list[str]) -> tuple[float, float, float]:
    """Seconds of wall and CPU, and megabytes at most, of a command."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command} ended with {status}")
    return time.perf_counter() - begin, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main() -> None:
    """Print a line for each run, and the least CPU time of each."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("data", type=Path)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--duckdb", type=Path, metavar="PYTHON")
    given = options.parse_args()
    cores = len(os.sched_getaffinity(0))
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {cores} cores, load {os.getloadavg()[0]:.1f}, {platform.machine()}")
    print(f"Python {platform.python_version()}, polars {version('polars')}, numba {version('numba')}")
    with tempfile.TemporaryDirectory() as folder:
        detector, out = Path(folder) / "fourteen.py", Path(folder) / "features.parquet"
        detector.write_text(DETECTOR)
        ours = [sys.executable, "-m", "sentinel", "features", "build", "--detector", str(detector)]
        commands = {
            "sentinel": [*ours, "--data", str(given.data), "--out", str(out)],
            "polars": [sys.executable, "-c", POLARS, str(given.data), str(out)],
        }
        if given.duckdb:
            commands["duckdb"] = [str(given.duckdb), "-c", DUCKDB, str(given.data), str(out), str(cores)]
        measured(commands["sentinel"])  # compiles the kernel, where nobody has yet
        least = dict.fromkeys(commands, float("inf"))
        for _ in range(given.rounds):
            for name, command in commands.items():
                wall, cpu, megabytes = measured(command)
                least[name] = min(least[name], cpu)
                print(f"{name:10} wall {wall:6.2f} s   CPU {cpu:6.2f} s   {megabytes:6.0f} MB")
    print(f"least CPU time: {least['sentinel'] / least['polars']:.2f} times Polars'")


if __name__ == "__main__":
    main()
