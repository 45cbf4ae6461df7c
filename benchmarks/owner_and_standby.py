"""An owner and its standby of `sentinel consume`: how long a take-over takes, and what many kills lose or repeat.

Needs a broker: SENTINEL_KAFKA, or the one of `make services NAMES=kafka`. `--kills` things befall them under load, by
`--seed`: the owner is killed or stops for a while, or the standby is killed. Prints every take-over and the sums.
"""

import argparse
import os
import platform
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import confluent_kafka
import numpy as np

from sentinel.commands.server_process import free_port
from sentinel.events.files import history_of_frame
from sentinel.model.registry import Registry
from sentinel.record.applied import HomeDeployment
from sentinel.train.pipeline import train
from services.catalog import CATALOG
from services.keeper import Keeper

shop, streams, kills = (
    import_module(f"tests.{one}") for one in ("conftest", "scenarios.kafka_streams", "scenarios.owner_kills")
)


def main() -> int:
    """Exit code 1 where anything is lost, twice or different."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--session-ms", type=int, default=6_000)
    given = parser.parse_args()
    print(
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, {platform.machine()}, "
        f"load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, "
        f"confluent-kafka {confluent_kafka.__version__}"
    )
    with tempfile.TemporaryDirectory(prefix="sentinel-standby-") as folder:
        pair, topics = _pair(Path(folder), given.session_ms)
        told: list[Any] = []
        rng = np.random.default_rng(given.seed)
        kinds = [str(one) for one in rng.choice(kills.KINDS, given.kills)]

        def say(fate: Any) -> None:
            told.append(fate)
            took = "" if fate.seconds is None else f": the other is ready after {fate.seconds:.2f} s"
            print(f"{len(told):4d} {fate.what}{took}, load {os.getloadavg()[0]:.1f}", flush=True)

        try:
            sent = kills.befall(pair, topics, kinds, rng, say)
        finally:
            for server in pair:
                server.stop()
        found = kills.found_in(pair, topics, sent, [b"poison %d" % n for n in range(len(kinds))])
    took = sorted(one.seconds for one in told if one.seconds is not None)
    print(f"{given.kills} kills, seed {given.seed}, session time-out {given.session_ms} ms")
    if took:
        print(f"take-over: median {took[len(took) // 2]:.2f} s, longest {took[-1]:.2f} s of {len(took)}")
    print(
        f"{found.sent:,} transactions: {found.lost} lost, {found.twice} twice, "
        f"{found.letters_wrong} wrong sets of dead letters, "
        f"{found.differing} of {found.values:,} features and scores differ"
    )
    return int(bool(found.lost or found.twice or found.letters_wrong or found.differing))


def _pair(folder: Path, session_ms: int) -> tuple[list[Any], dict[str, str]]:
    servers = os.environ.get("SENTINEL_KAFKA")
    if servers is None:
        running = Keeper(CATALOG).running("kafka")
        assert running is not None, "no broker: make services NAMES=kafka"
        servers = running.environment["SENTINEL_KAFKA"]
    topics = streams.new_topics(servers, SENTINEL_LOG="kafka", SENTINEL_KAFKA_SESSION_TIMEOUT_MS=str(session_ms))
    topics |= {"SENTINEL_DEADLINE_MS": "5000", "SENTINEL_CIRCUIT_THRESHOLD_MS": "5000"}
    streams.sentinel(topics, "topics", "create", "--json")
    home = folder / "one"
    frame = history_of_frame(shop.shop_frame(6_000), shop.SHOP.schema)
    HomeDeployment(home).promote(train(shop.SHOP, frame, Registry(home / "models"), lambda *_: None).version)
    shutil.copytree(home / "models", folder / "two" / "models")
    pair = [
        streams.Consuming(folder / name, streams.HOST, free_port(streams.HOST), environment=topics)
        for name in ("one", "two")
    ]
    pair[0].start()
    pair[1].begin()
    return pair, topics


if __name__ == "__main__":
    sys.exit(main())
