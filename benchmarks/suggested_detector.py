"""Inspecting: time and memory of the whole command on the handbook's 1.75 M rows, and what its detector is worth.

The detector that `sentinel inspect` suggests is taken as it stands through the handbook's protocol: learn from a week,
leave a week, test on the next, four times. It fails above 20 s or 1 GB, and below an average precision of 0.66.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from report import data_file, publish
from sentinel.detectors import load_detector
from sentinel.events.files import read_history
from sentinel.train.handbook import TEST_FOLDS, WEEK, benchmark

MOST_SECONDS, MOST_MEGABYTES, LEAST_PRECISION = 20.0, 1_000.0, 0.66


def inspect(data: Path, detector: Path) -> tuple[float, float, int]:
    """Seconds, peak megabytes and rows of the command."""
    command = [sys.executable, "-m", "sentinel", "inspect", str(data), "--json"]
    command += ["--detector-out", str(detector), "--html", str(detector.with_suffix(".html"))]
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        found = json.loads(child.stdout.read() if child.stdout else b"")
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - begin
    if child.returncode:
        sys.exit(f"sentinel inspect ends with {child.returncode}")
    return seconds, used.ru_maxrss / 1_024, found["rows"]


def main() -> None:
    """Print the figures."""
    data = data_file("handbook_simulated.parquet")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "suggested.py"
        seconds, megabytes, rows = inspect(data, file)
        detector = load_detector(str(file))
    history = read_history(data, detector.schema)
    result = benchmark(history, detector, train_days=WEEK, folds=TEST_FOLDS, progress=lambda _done, _of: None)
    figures = {
        "rows": rows,
        "seconds": round(seconds, 1),
        "peak_megabytes": round(megabytes),
        "average_precision": round(result.average_precision, 4),
        "auc_roc": round(result.auc_roc, 4),
        "card_precision_100": round(result.card_precision_100, 4),
    }
    publish("suggested detector", __doc__ or "", figures)
    if seconds > MOST_SECONDS or megabytes > MOST_MEGABYTES or result.average_precision < LEAST_PRECISION:
        sys.exit("the figures are not what they have to be")


if __name__ == "__main__":
    main()
