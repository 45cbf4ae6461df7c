"""More transactions than the server can bear: at 1.5 and 2 times what it sustains.

Requests are arrays of 20 transactions over 500 connections, so that deciding and not HTTP is what there is too much of;
they arrive at random, and latency counts from when a request was due. What it sustains is the greatest offered load, in
steps of 5 % of what a closed loop reaches, of which the model decides 95 % and 95 % are answered within the deadline.
The server is pinned to one core, the load to the other.
"""

import collections
import itertools
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from report import publish
from sentinel.bench.load_generator import Load, Requests, Target, at_random, closed_loop, open_loop
from sentinel.bench.serving_workloads import prepare
from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.transport.client import request_bytes

HOST, BATCH, SECONDS = "127.0.0.1", 20, 3.0
DEADLINE_MS = 60
STEPS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
FACTORS = (1.5, 2.0)


def main() -> None:
    """Find what it sustains, then offer more."""
    with tempfile.TemporaryDirectory() as folder:
        work = prepare(Path(folder), 2_600_000, lambda *_: None)
        pool = batches(work.score_requests)
        os.sched_setaffinity(0, {1})
        server = ServerProcess(work.score_home, HOST, free_port(HOST), core=0)
        server.start()
        closed_loop(Target(HOST, server.port, 8), pool, 200)
        borne = closed_loop(Target(HOST, server.port, 16), rest(pool, 200), 10_000_000, seconds=SECONDS)
        sent = 200 + len(borne.statuses)
        figures: dict[str, Any] = {"closed_loop_transactions_per_second": round(BATCH * borne.per_second)}

        def offer(rate: float) -> dict[str, Any]:
            nonlocal sent
            load = open_loop(
                Target(HOST, server.port, 500), rest(pool, sent), at_random(rate, int(rate * SECONDS), 1), keep=2000
            )
            sent += len(load.statuses)
            return described(load) | {"offered_transactions_per_second": round(BATCH * rate)}

        rate = 0.0
        for step in STEPS:  # upwards, so that none has to take in what was postponed in the one before
            found = offer(step * borne.per_second)
            if found["by_the_model"] < 0.95 or found["in_time"] < 0.95:
                figures["not sustained any more"] = found
                break
            rate, figures["sustained"] = step * borne.per_second, found
        for factor in FACTORS:
            figures[f"at {factor:g} times"] = offer(factor * rate) if rate else "nothing was sustained"
        server.stop()
    publish("overload", f"/v1/score in arrays of {BATCH}, payments with 10 window features, 200 trees", figures)


def described(load: Load) -> dict[str, Any]:
    """Its figures, the share that was answered within the deadline, and of the answers kept what the model decided."""
    found = reasons(load)
    in_time = np.count_nonzero(load.accepted & (load.latencies_ns <= DEADLINE_MS * 1_000_000)) / len(load.statuses)
    return load.figures() | {
        "in_time": round(float(in_time), 4),
        "by_the_model": round(found.get("None", 0) / max(sum(found.values()), 1), 4),
        "degraded": found,
    }


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
    bodies = [json.loads(load.bodies[i]) for i in np.flatnonzero(load.accepted).tolist() if i in load.bodies]
    return dict(collections.Counter(str(answer["degraded"]) for body in bodies for answer in body))


if __name__ == "__main__":
    main()
