"""More transactions than the server can bear: at 0.8, 1.5 and 2 times what it does in a closed loop.

Requests are arrays of 20 transactions over 500 connections, so that deciding and not HTTP is what there is too much of;
latency counts from when a request was due. The server is pinned to one core, the load to the other.
"""

import collections
import itertools
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from report import publish
from sentinel.commands.load_generator import Load, Requests, Target, at_random, closed_loop, open_loop
from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.commands.serving_workloads import prepare
from sentinel.transport.client import request_bytes

HOST, BATCH, SECONDS = "127.0.0.1", 20, 4.0
FACTORS = (0.8, 1.5, 2.0)


def main() -> None:
    """Find what it bears, then offer more."""
    with tempfile.TemporaryDirectory() as folder:
        work = prepare(Path(folder), 1_200_000, lambda *_: None)
        pool = batches(work.score_requests)
        os.sched_setaffinity(0, {1})
        server = ServerProcess(work.score_home, HOST, free_port(HOST), core=0)
        server.start()
        closed_loop(Target(HOST, server.port, 8), pool, 200)
        borne = closed_loop(Target(HOST, server.port, 16), rest(pool, 200), 10_000_000, seconds=SECONDS)
        sent = 200 + len(borne.statuses)
        figures: dict[str, Any] = {"bears_transactions_per_second": round(BATCH * borne.per_second)}
        for factor in FACTORS:
            rate = factor * borne.per_second
            load = open_loop(
                Target(HOST, server.port, 500), rest(pool, sent), at_random(rate, int(rate * SECONDS), 1), keep=1000
            )
            sent += len(load.statuses)
            figures[f"at {factor:g} times"] = load.figures() | {"degraded": reasons(load)}
        server.stop()
    publish("overload", f"/v1/score in arrays of {BATCH}, payments with 10 window features, 200 trees", figures)


def batches(requests: Requests) -> Requests:
    """The same transactions, some in each request."""
    data, starts = requests.data.tobytes(), requests.starts.tolist()
    one = [data[begin:end].partition(b"\r\n\r\n")[2] for begin, end in itertools.pairwise(starts)]
    arrays = (b"[" + b",".join(one[i : i + BATCH]) + b"]" for i in range(0, len(one) - BATCH, BATCH))
    return Requests.pack([request_bytes("/v1/score", array) for array in arrays])


def rest(requests: Requests, begin: int) -> Requests:
    """From this request on."""
    return Requests(requests.data, requests.starts[begin:])


def reasons(load: Load) -> dict[str, int]:
    """How many of the kept answers were the fallback's, by reason."""
    answers = [answer for body in load.bodies.values() for answer in json.loads(body)]
    return dict(collections.Counter(str(answer["degraded"]) for answer in answers))


if __name__ == "__main__":
    main()
