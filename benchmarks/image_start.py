"""How long a container of the serving image takes until it is ready, and what of that its processor was busy.

Run as root after `make image`: `python benchmarks/image_start.py --starts 10`. A home folder with a trained model is
made first. A start is of the container's process, as podman says when that was, until /health/ready says yes.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from report import publish

sys.path.insert(0, str(Path(__file__).parents[1]))

from deploy.image.build import name_of, size_bytes
from deploy.image.engine import podman
from tests.deploy.container import Container, given_to_the_user

_OTHER_PROCESSOR = "processor\t: 0\nflags\t\t: fpu sse sse2\n"


def trained(home: Path, transactions: int) -> None:
    """Make a home folder with a champion."""
    history = home.parent / "history.parquet"
    sentinel = [sys.executable, "-m", "sentinel"]
    subprocess.run(
        [*sentinel, "simulate", "--out", str(history), "-n", str(transactions)], check=True, stdout=sys.stderr
    )
    train = [*sentinel, "train", "--data", str(history), "--home", str(home), "--quick", "--promote"]
    subprocess.run(train, check=True, stdout=sys.stderr)


def start_of(container: Container) -> tuple[float, float]:
    """Start it and wait; the seconds from its process' start until it was ready, and its processor's."""
    container.start()
    container.wait_until_ready()
    ready_s = time.time()
    said = podman(
        "inspect", "--type", "container", "--format", "{{.State.StartedAt.UnixNano}} {{.State.Pid}}", container.name
    )
    begun_ns, pid = map(int, said.split())
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    busy_s = (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
    return ready_s - begun_ns / 1e9, busy_s


def measured(image: str, home: Path, starts: int, options: Sequence[str] = ()) -> dict[str, Any]:
    """Starts one after the other over the same volume."""
    found = []
    for _ in range(starts):
        container = Container(image, home, options)
        try:
            found.append(start_of(container))
            container.stop()
        finally:
            container.remove()
    return {
        "starts": starts,
        "ready_s": summary([one for one, _ in found]),
        "processor_s": summary([one for _, one in found]),
    }


def summary(times_s: Sequence[float]) -> dict[str, float]:
    """Best, median and worst."""
    named = {"best": min(times_s), "median": statistics.median(times_s), "worst": max(times_s)}
    return {name: round(value, 2) for name, value in named.items()}


def main() -> None:
    """Measure, and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--transactions", type=int, default=30_000, help="how many the model learns from")
    parser.add_argument("--other-processor", action="store_true", help="also two starts where the kernels do not fit")
    given = parser.parse_args()
    image = name_of("serving")
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        trained(home, given.transactions)
        given_to_the_user(home)
        figures = {"with the kernels of the image": measured(image, home, given.starts)}
        if given.other_processor:
            cpuinfo = Path(folder) / "cpuinfo"
            cpuinfo.write_text(_OTHER_PROCESSOR)
            hidden = ("--volume", f"{cpuinfo}:/proc/cpuinfo:ro")
            figures["on a processor below their level"] = measured(image, home, 1, hidden)
        shutil.rmtree(home)
    publish(
        "image_start",
        "podman run --read-only, all capabilities dropped; from the start of the process to /health/ready",
        {
            **figures, "image_mb": round(size_bytes("serving") / 1e6), "load_average_before": round(load_before, 1),
            "podman": podman("--version"),
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
