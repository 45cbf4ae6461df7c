"""1,000 equal transactions handed in at once over 200 connections, again and again: one is taken, the rest are ignored.

Each round has an id of its own. The server is pinned to one core, the load to the other.
"""

import collections
import json
import os
import tempfile
from pathlib import Path

import numpy as np

from report import publish
from sentinel.bench.load_generator import Requests, Target, closed_loop
from sentinel.bench.serving_workloads import prepare
from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.transport.client import request_bytes

HOST, AT_ONCE, CONNECTIONS, ROUNDS = "127.0.0.1", 1_000, 200, 20
PATH = "/api/v1/transactions"


def main() -> None:
    """Send the rounds one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        work = prepare(Path(folder), 50_000, lambda *_: None)
        data, starts = work.score_requests.data.tobytes(), work.score_requests.starts.tolist()
        bodies = [data[starts[i] : starts[i + 1]].partition(b"\r\n\r\n")[2] for i in range(ROUNDS + 1)]
        os.sched_setaffinity(0, {1})
        server = ServerProcess(work.score_home, HOST, free_port(HOST), core=0)
        server.start()
        rates, told = [], collections.Counter[str]()
        for number, body in enumerate(bodies):
            load = closed_loop(
                Target(HOST, server.port, CONNECTIONS),
                Requests.pack([request_bytes(PATH, body)]),
                AT_ONCE,
                keep=AT_ONCE,
            )
            if number:  # the first round warms up
                rates.append(load.per_second)
                told.update(json.loads(one)["status"] for one in load.bodies.values())
        server.stop()
    publish(
        "equal requests", f"POST {PATH}, {AT_ONCE} equal requests over {CONNECTIONS} connections, {ROUNDS} rounds",
        {"per_second_median": round(float(np.median(rates))), "per_second_least": round(min(rates)), "answers": told},
    )  # fmt: skip


if __name__ == "__main__":
    main()
