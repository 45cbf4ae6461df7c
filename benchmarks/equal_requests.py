"""1,000 equal transactions handed in at once over 200 connections, again and again: one is taken, the rest are ignored.

Each round has an id of its own. The server is pinned to one core, the load to the other. With `--to kafka` they go to a
topic of the broker that `make services NAMES=kafka` has started, else to the log.
"""

import argparse
import collections
import json
import os
import secrets
import tempfile
from pathlib import Path

import numpy as np

from report import publish
from sentinel.bench.load_generator import Requests, Target, closed_loop
from sentinel.bench.serving_workloads import prepare
from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.transport.client import request_bytes
from sentinel.transport.kafka.connection import Connection
from sentinel.transport.kafka.topics import ALL, create
from services.catalog import CATALOG
from services.keeper import Keeper

HOST, AT_ONCE, CONNECTIONS = "127.0.0.1", 1_000, 200
PATH = "/api/v1/transactions"


def main() -> None:
    """Send the rounds one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", choices=("log", "kafka"), default="log")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--rows", type=int, default=50_000, help="of the history that the model learns from")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = prepare(Path(folder), given.rows, lambda *_: None)
        data, starts = work.score_requests.data.tobytes(), work.score_requests.starts.tolist()
        bodies = [data[starts[i] : starts[i + 1]].partition(b"\r\n\r\n")[2] for i in range(given.rounds + 1)]
        environment = _topics() if given.to == "kafka" else {}
        os.sched_setaffinity(0, {1})
        server = ServerProcess(work.score_home, HOST, free_port(HOST), core=0, environment=environment)
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
        "equal requests", f"POST {PATH} to the {given.to}, {AT_ONCE} equal requests over {CONNECTIONS} connections, "
        f"{given.rounds} rounds",
        {"per_second_median": round(float(np.median(rates))), "per_second_least": round(min(rates)), "answers": told},
    )  # fmt: skip


def _topics() -> dict[str, str]:
    """The environment of a server that hands in to topics of its own."""
    running = Keeper(CATALOG).running("kafka")
    assert running is not None, "no broker: make services NAMES=kafka"
    servers, prefix = running.environment["SENTINEL_KAFKA"], f"bench-{secrets.token_hex(4)}-"
    create(Connection.of(servers, prefix, {}), ALL, 1, -1, 7 * 86_400_000)
    return {"SENTINEL_KAFKA": servers, "SENTINEL_KAFKA_PREFIX": prefix, "SENTINEL_TRANSACTIONS_TO": "kafka"}


if __name__ == "__main__":
    main()
