"""Owner and standby: two `sentinel consume` over one log in Kafka; whatever ends, each transaction is decided once.

The two run for all of these tests: each begins with whichever owns the log then.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from sentinel.commands.server_process import free_port
from services.catalog import CATALOG
from services.keeper import Keeper
from tests.http_calls import HOST
from tests.scenarios.kafka_streams import (
    Consuming,
    assert_counted_once,
    decided_in_kafka,
    keyed,
    new_topics,
    payment,
    read_messages,
    records_in_kafka,
    send,
    sentinel,
    until,
)
from tests.scenarios.kills_found import found_in, wait_for_views
from tests.scenarios.load_beside import Load
from tests.scenarios.own_around import Around
from tests.scenarios.owner_kills import KINDS, befall

KILLS = int(os.environ.get("SENTINEL_KILLS", "2"))
SEED = int(os.environ.get("SENTINEL_SEED", "11"))
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture(scope="module")
def around(service):
    """A broker, a database and a Redis of these tests' own, which may be killed."""
    for name in ("kafka", "postgres", "redis"):
        service(name)
    with tempfile.TemporaryDirectory(prefix="sentinel-around-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL runs as another account where we are root
        found = Around(Path(folder), Keeper(CATALOG).folder)
        try:
            found.start()
            yield found
        finally:
            found.stop()


@pytest.fixture(scope="module")
def topics(around):
    """The environment of the servers."""
    found = new_topics(around.broker.servers, SENTINEL_LOG="kafka", **around.environment)
    assert len(sentinel(found, "topics", "create", "--json")["made"]) == 4  # a log makes that of its records itself
    return found


@pytest.fixture(scope="module")
def servers(topics, shop_home, tmp_path_factory):
    """Two servers with homes of their own, as of two machines."""
    folder = tmp_path_factory.mktemp("pair")
    shutil.copytree(shop_home, folder / "one")
    shutil.copytree(shop_home / "models", folder / "two" / "models")  # of another machine, which has the models only
    found = [Consuming(folder / name, HOST, free_port(HOST), environment=topics) for name in ("one", "two")]
    try:
        found[0].start()
        found[1].begin()
        yield found
    finally:
        for server in found:
            server.stop()


@pytest.fixture
def pair(servers):
    """The same, first the one that owns the log, once the other one stands by."""
    until(lambda: [one.is_ready() for one in servers].count(True) == 1)
    if servers[1].is_ready():
        servers.reverse()
    until(lambda: f":{servers[0].port} owns the log" in str(servers[1].health()["reason"]))
    return servers


@pytest.fixture(scope="module")
def numbers():
    """Of the payments, one after the other: each card's count is known by them."""
    return count()


def some(numbers, n):
    return [payment(next(numbers)) for _ in range(n)]


def decided(topics):
    return [row.transaction_id for row in decided_in_kafka(topics)]


def test_the_standby_says_who_owns_the_log_and_is_not_ready(pair, topics, numbers):
    owner, standby = pair
    payments = some(numbers, 300)
    send(topics, "transactions", keyed(*payments[:299]), headers=[("traceparent", TRACE.encode())])
    until(lambda: len(decided(topics)) == 299)
    until(lambda: standby.health()["log"]["end"] > 299)
    assert standby.ask("/health/ready") == (503, {"ready": False, "reason": "standby"})
    status, said = standby.ask("/v1/score", payments[299])
    assert status == 503
    assert f"http://{HOST}:{owner.port} owns the log" in said["error"]
    assert owner.ask("/v1/score", payments[299])[0] == 200
    assert owner.health()["stream"]["owns_the_log"]
    assert not standby.health()["stream"]["owns_the_log"]


def test_entries_say_how_far_the_inputs_were_read_and_of_which_traces_and_times_they_are(pair, topics, numbers):
    payments = some(numbers, 50)
    before = len(decided(topics))
    send(topics, "transactions", [*keyed(*payments[:25]), ("c", b"poison"), *keyed(*payments[25:])],
         headers=[("traceparent", TRACE.encode())])  # fmt: skip
    until(lambda: len(decided(topics)) == before + 50)
    until(lambda: any(one.value() == b"poison" for one in read_messages(topics, "dead-letters")))
    came_in = read_messages(topics, "transactions")
    newest = records_in_kafka(topics)[-1]
    name = topics["SENTINEL_KAFKA_PREFIX"] + "transactions-0"
    until(lambda: records_in_kafka(topics)[-1].inputs[name] == came_in[-1].offset() + 1)
    of = {row.transaction_id: row.received_us for row in decided_in_kafka(topics)}
    times = [one.timestamp()[1] * 1_000 for one in came_in[-51:]]
    assert times[0] <= of[payments[0]["transaction_id"]] <= times[-1]
    traced = [one for one in records_in_kafka(topics) if one.traces]
    assert {trace.split("-")[1] for one in traced for trace in one.traces} == {TRACE.split("-")[1]}
    assert newest.log_id == traced[-1].log_id


def test_a_zombie_answers_nothing_and_stands_by(pair, topics, numbers):
    owner, standby = pair
    early, late, refused = some(numbers, 3)
    status, first = owner.ask("/v1/score", early)
    assert status == 200
    owner.signal(signal.SIGSTOP)
    until(standby.is_ready)
    status, second = standby.ask("/v1/score", late)
    assert status == 200
    owner.signal(signal.SIGCONT)
    status, said = owner.ask("/v1/score", refused)  # it may not know yet; what it would decide is not committed
    assert status == 503, said
    until(lambda: f":{standby.port} owns the log" in str(owner.health()["reason"]))
    assert refused["transaction_id"] not in decided(topics)
    assert standby.ask("/v1/score", early) == (200, {**first, "replayed": True})
    assert standby.ask("/v1/score", late) == (200, {**second, "replayed": True})
    assert standby.ask("/v1/score", refused)[0] == 200


def doctor(server, environment):
    """What `sentinel doctor` says on the machine of a server: by check whether it is well, and what was found."""
    command = ["doctor", "--json", "--home", str(server.home), "--port", str(server.port)]
    done = subprocess.run(
        [sys.executable, "-m", "sentinel", *command], capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert done.stdout, done.stderr[-3000:]
    found = {one["what"]: (one["ok"], one["found"]) for one in json.loads(done.stdout)["checks"]}
    assert done.returncode == int(not all(ok for ok, _ in found.values())), done.stderr[-3000:]
    return found


def broken(found):
    """What is not well; how fast the disk is at the moment is not what is tried here."""
    return {what for what, (ok, _) in found.items() if not ok} - {"disk"}


@pytest.mark.timeout(900)
def test_the_doctor_tells_the_truth_before_while_and_after_the_owner_is_gone(pair, topics):
    owner, standby = pair
    found = doctor(standby, topics)
    assert broken(found) == set(), found
    assert found["owner"][1] == f"http://{HOST}:{owner.port} owns the log and decides; 1 stands by"
    standby.signal(signal.SIGSTOP)  # or it would have taken over before the doctor has looked
    try:
        owner.kill()
        found = doctor(standby, topics)
    finally:
        standby.signal(signal.SIGCONT)
    assert broken(found) == {"owner"}, found
    assert found["owner"][1].startswith(
        f"nothing is decided: http://{HOST}:{owner.port} owned the log last and does not"
    )
    until(standby.is_ready)
    found = doctor(standby, topics)
    assert broken(found) == set(), found
    assert found["owner"][1].startswith(f"http://{HOST}:{standby.port} owns the log and decides")
    owner.begin()


@pytest.mark.timeout(900 + 60 * KILLS)
def test_whatever_is_killed_under_load_nothing_is_lost_twice_or_different(pair, topics, around, numbers):
    """What is killed is both of them, the broker, the database, Redis, and the processes that write to these."""
    rng, told = np.random.default_rng(SEED), []
    kinds = [KINDS[n % len(KINDS)] for n in range(KILLS)]
    letters = [one.value() for one in read_messages(topics, "dead-letters")]
    load = Load(topics, pair, rng, next(numbers))
    try:
        befall(pair, around, load, kinds, rng, told.append)
        wait_for_views(pair)
    finally:
        load.end()
    assert [one.what for one in told] == kinds
    for server in pair:
        server.stop()
    found = found_in(pair[0].home, load, topics, letters)
    print(f"seed {SEED}: {told}, {found}")
    assert found.faults == {}, f"seed {SEED}: {told}"
    assert min(found.decisions, found.values, found.view_rows, found.redis_values) > 0
    assert_counted_once(pair[0].home, [row for row in decided_in_kafka(topics) if row.transaction_id[0] == "p"])
