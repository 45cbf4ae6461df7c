"""Directly after an overload: 100 model swaps and 1,000 outcomes, while transactions go on at 1,000 a second.

First twice of what a closed loop reaches is offered for `--seconds`. Then one client swaps the model a hundred times
between two models of different histories, another tells a thousand outcomes in one request and a thousand one by one,
and transactions arrive at random. Told are the latencies of these transactions, and the processor time of the longest
step of the event loop, as the server's metrics have it.
"""

import argparse
import concurrent.futures
import itertools
import json
import os
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from overload import batches, rest
from report import publish
from sentinel.bench.load_generator import Target, at_random, closed_loop, open_loop
from sentinel.bench.serving_workloads import SCORE_DETECTOR, prepare
from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.events.files import history_of_frame
from sentinel.model.registry import Registry
from sentinel.simulate.payments import simulate
from sentinel.train.pipeline import train

HOST, SWAPS, OUTCOMES, RATE = "127.0.0.1", 100, 1_000, 1_000


def main() -> None:
    """Overload, then change."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = prepare(Path(folder), 2_000_000, lambda *_: None)
        columns = ["transaction_id", "event_time", "amount", "card_id", "merchant_id", "is_fraud"]
        other = history_of_frame(simulate(30_000, seed=9).select(columns), SCORE_DETECTOR.schema)
        train(SCORE_DETECTOR, other, Registry(work.score_home / "models"), lambda *_: None)
        pool = batches(work.score_requests)
        os.sched_setaffinity(0, {1})
        server = ServerProcess(work.score_home, HOST, free_port(HOST), core=0)
        server.start()
        borne = closed_loop(Target(HOST, server.port, 16), pool, 10_000_000, seconds=2.0)
        sent = len(borne.statuses)
        rate = 2 * borne.per_second
        over = open_loop(
            Target(HOST, server.port, 500), rest(pool, sent), at_random(rate, int(rate * given.seconds), 1), keep=2_000
        )
        decided = [row["transaction_id"] for body in over.bodies.values() for row in json.loads(body)][: 2 * OUTCOMES]
        with concurrent.futures.ThreadPoolExecutor(2) as others:
            told = others.submit(tell, server.port, decided)
            swapped = others.submit(swap, server.port)
            sent = (sent + len(over.statuses)) * 20
            due = at_random(RATE, RATE * 20, seed=2)
            load = open_loop(Target(HOST, server.port, 64), rest(work.score_requests, sent), due)
            figures = {
                "overload": over.figures(),
                "transactions meanwhile": load.figures(),
                "swaps": swapped.result(),
                "outcomes": told.result(),
                "longest_turn_ms": round(1000 * longest_turn_s(server.port), 1),
            }
        server.stop()
    publish("after_overload", __doc__ or "", figures)


def tell(port: int, decided: list[str]) -> dict[str, float]:
    """Outcomes: half of them in one request, the others one by one; the longest of these, in ms."""
    rows = [{"transaction_id": one, "is_fraud": n % 7 == 0} for n, one in enumerate(decided)]
    together = post(port, "/v1/outcomes", rows[:OUTCOMES])
    return {"together_ms": together, "alone_max_ms": max(post(port, "/v1/outcomes", one) for one in rows[OUTCOMES:])}


def swap(port: int) -> dict[str, float]:
    """Swaps to and fro; the longest in ms."""
    versions = itertools.cycle(("v2", "v1"))
    return {"max_ms": max(post(port, "/admin/reload", {"version": next(versions)}) for _ in range(SWAPS))}


def longest_turn_s(port: int) -> float:
    """Of the whole run, in seconds of thread CPU."""
    with urllib.request.urlopen(f"http://{HOST}:{port}/metrics/prom", timeout=30) as reply:
        lines = reply.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("sentinel_longest_turn_seconds "))


def post(port: int, path: str, body: Any) -> float:
    """Milliseconds until the answer."""
    begun = time.perf_counter()
    request = urllib.request.Request(
        f"http://{HOST}:{port}{path}", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        reply.read()
    return round((time.perf_counter() - begun) * 1000, 2)


if __name__ == "__main__":
    main()
