"""An owner and its standby of `sentinel consume`: how long a take-over takes, and what many kills lose or repeat.

With a broker, a database and a Redis of its own, installed as those of `make services NAMES="kafka postgres redis"`.
`--kills` things befall the servers and these three under load, by `--seed`; KINDS in tests/scenarios/owner_kills.py has
all of them, each as often as any other, and `--only` the name of one. Prints each of them, and what is found in the
log, in the view in PostgreSQL and in that in Redis.
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

shop, streams, kills, found_after, load_beside, own_around = (
    import_module(f"tests.{one}")
    for one in (
        "conftest", "scenarios.kafka_streams", "scenarios.owner_kills", "scenarios.kills_found",
        "scenarios.load_beside", "scenarios.own_around",
    )
)  # fmt: skip


def main() -> int:
    """Exit code 1 where anything is lost, twice or different."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--session-ms", type=int, default=6_000)
    parser.add_argument("--only", choices=kills.KINDS, help="have only this befall them")
    given = parser.parse_args()
    print(
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, {platform.machine()}, "
        f"load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, "
        f"confluent-kafka {confluent_kafka.__version__}"
    )
    rng = np.random.default_rng(given.seed)
    kinds = [given.only or kills.KINDS[n % len(kills.KINDS)] for n in range(given.kills)]
    rng.shuffle(kinds)
    with tempfile.TemporaryDirectory(prefix="sentinel-standby-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL runs as another account where we are root
        around = own_around.Around(folder / "around", Keeper(CATALOG).folder)
        try:
            around.start()
            return _told(given, kinds, _found(folder, around, given.session_ms, kinds, rng))
        finally:
            around.stop()


def _found(folder: Path, around: Any, session_ms: int, kinds: list[str], rng: Any) -> tuple[list[Any], Any]:
    """What has befallen the pair, and what is found afterwards."""
    told: list[Any] = []

    def say(fate: Any) -> None:
        told.append(fate)
        took = "" if fate.seconds is None else f": the other is ready after {fate.seconds:.2f} s"
        print(
            f"{len(told):4d} {datetime.now(UTC):%H:%M:%S} {fate.what}{took}, load {os.getloadavg()[0]:.1f}", flush=True
        )

    pair, topics = _pair(folder, around, session_ms)
    try:
        load = load_beside.Load(topics, pair, rng)
        try:
            kills.befall(pair, around, load, kinds, rng, say)
            found_after.wait_for_views(pair)
        finally:
            load.end()
    except BaseException:
        for server in pair:
            print(f"\n{server.home.name}:\n{(server.home / 'server.log').read_text(errors='replace')[-6_000:]}")
        raise
    finally:
        for server in pair:
            server.stop()
    return told, found_after.found_in(pair[0].home, load, topics, [])


def _told(given: argparse.Namespace, kinds: list[str], all_of_it: tuple[list[Any], Any]) -> int:
    told, found = all_of_it
    took = sorted(one.seconds for one in told if one.seconds is not None)
    print(f"{len(kinds)} kills, seed {given.seed}, session time-out {given.session_ms} ms")
    for kind in kills.KINDS:
        print(f"  {kinds.count(kind):4d} {kind}")
    if took:
        print(f"take-over: median {took[len(took) // 2]:.2f} s, longest {took[-1]:.2f} s of {len(took)}")
    print(
        f"{found.decisions:,} decisions and {found.outcomes:,} outcomes: {found.lost} lost, {found.twice} twice, "
        f"{found.answered_otherwise} answered otherwise, {found.letters_wrong} dead letters too many or too few, "
        f"{found.differing} of {found.values:,} features and scores differ\n"
        f"PostgreSQL: {found.view_differing} of {found.view_rows:,} rows differ; "
        f"Redis: {found.redis_differing} of {found.redis_values:,} features and profiles differ"
    )
    return int(bool(found.faults))


def _pair(folder: Path, around: Any, session_ms: int) -> tuple[list[Any], dict[str, str]]:
    """The owner and its standby, and the environment that they have."""
    topics = streams.new_topics(
        around.broker.servers, SENTINEL_LOG="kafka", SENTINEL_KAFKA_SESSION_TIMEOUT_MS=str(session_ms)
    )
    topics |= {"SENTINEL_DEADLINE_MS": "5000", "SENTINEL_CIRCUIT_THRESHOLD_MS": "5000"} | around.environment
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
