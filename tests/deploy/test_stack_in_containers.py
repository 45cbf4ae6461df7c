"""`make up` for real: owner, standby, projector, door and console as containers, against servers of this machine."""

import json
import os
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime

import pytest

from deploy.compose.addresses import settings_of
from deploy.compose.engine import ROOT, find_engine
from deploy.compose.passwords import StackFailed, read_private
from deploy.compose.stack import OURS, missing_images
from services.answering import free_port

PATIENCE_S = 300
CARD = {
    "amount": 41.5, "card_id": "card-of-the-stack", "merchant_id": "m-1", "device_id": "d-1", "country": "DE",
    "merchant_category": "grocery", "channel": "online",
}  # fmt: skip


@pytest.fixture(scope="module")
def stack(service, environment_of, tmp_path_factory):
    """A project of its own with topics, a database and a bucket of its own; all of it is deleted at the end."""
    environment_of("compose")
    psycopg = pytest.importorskip("psycopg")
    running = {name: service(name) for name in ("kafka", "postgres", "redis", "s3")}
    name = f"sentinel-test-{secrets.token_hex(4)}"
    url = settings_of(running)["STACK_DATABASE_URL"]
    own = url.rpartition("/")[0] + f"/{name.replace('-', '_')}"
    ports = {f"STACK_{one}PORT": str(free_port()) for one in ("", "OWNER_", "STANDBY_", "CONSOLE_")}
    settings = {
        **os.environ, **ports, "STACK_DATABASE_URL": own, "STACK_KAFKA_PREFIX": f"{name}.", "STACK_ENGINE": "podman",
        "STACK_MODELS": f"s3://{name}/payments", "STACK_TRANSACTIONS": "20000", "STACK_DEADLINE_MS": "5000",
        "STACK_CIRCUIT_THRESHOLD_MS": "5000",
    }  # fmt: skip
    try:
        engine = find_engine(settings, name)
        absent = missing_images(engine, settings)
    except StackFailed as problem:
        engine, absent = None, [str(problem)]
    if absent:
        missing = f"not here: {', '.join(absent)}; make image makes {' and '.join(OURS.values())}"
        required = "compose" in os.environ.get("SENTINEL_TEST_REQUIRE", "").replace(",", " ").split()
        pytest.fail(missing) if required else pytest.skip(missing)
    with psycopg.connect(url, autocommit=True) as database:
        database.execute(f"create database {name.replace('-', '_')}")
    found = Stack(name, settings, tmp_path_factory.mktemp("stack") / "made", engine, own)
    try:
        yield found
    finally:
        found.command("down", "--volumes", "--yes")
        with psycopg.connect(url, autocommit=True) as database:
            database.execute(f"drop database {name.replace('-', '_')} with (force)")


class Stack:
    def __init__(self, name, settings, made, engine, database_url):
        self.name, self.settings, self.made, self.engine, self.database_url = name, settings, made, engine, database_url

    def command(self, *words):
        command = [sys.executable, "-m", "deploy.compose", "--project", self.name, "--passwords", str(self.made)]
        return subprocess.run(
            [*command, "--services", *words], env=self.settings, cwd=ROOT, capture_output=True, text=True
        )

    def ask(self, path, body=None, port="STACK_PORT"):
        """The status and the JSON of an answer; 0 where nothing answers."""
        key = read_private(self.made)["STACK_ADMIN_KEY"]
        asked = urllib.request.Request(
            f"http://127.0.0.1:{self.settings[port]}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(asked, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError as error:
            return 0, str(error).encode()

    def decide(self, name, amount=41.5):
        """The answer to a payment, once a server is ready to give one."""
        body = {**CARD, "transaction_id": name, "amount": amount, "event_time": datetime.now(UTC).isoformat()}
        status, said = until(lambda: self.ask("/v1/score", body), lambda found: found[0] == 200)
        assert status == 200, said
        return json.loads(said)


def until(look, is_it):
    give_up = time.monotonic() + PATIENCE_S
    while not is_it(found := look()) and time.monotonic() < give_up:
        time.sleep(0.5)
    return found


def test_a_standby_container_takes_over_and_every_decision_is_in_the_database(stack):
    import psycopg

    done = stack.command("up")
    assert done.returncode == 0, done.stderr[-4000:]
    assert "first log-in: admin" in done.stderr
    status = stack.command("status", "--json")
    rows = {row["service"]: row for row in json.loads(status.stdout)["services"]}
    assert status.returncode == 0, rows
    assert set(rows) == {"volumes", "first-model", "owner", "standby", "projector", "door", "console"}

    before = [stack.decide(f"before-{n}", 40 + n) for n in range(5)]
    owner = stack.engine.containers()["owner"]
    assert stack.engine.asked("kill", "--signal", "KILL", owner.id).returncode == 0
    after = stack.decide("after-1")
    assert until(lambda: stack.ask("/health/ready", port="STACK_OWNER_PORT")[0], lambda found: found == 0) == 0
    assert stack.ask("/health/ready", port="STACK_STANDBY_PORT")[0] == 200
    for answer in before:  # the other one knows what was decided
        path = f"/v1/decisions/{answer['transaction_id']}"
        status, said = until(lambda path=path: stack.ask(path), lambda found: found[0] == 200)
        assert status == 200, said
        assert json.loads(said)["decision"] == answer["decision"]

    wanted = {answer["transaction_id"] for answer in [*before, after]}
    with psycopg.connect(stack.database_url, autocommit=True) as database:
        query = "select transaction_id from sentinel.decisions where transaction_id = any(%s)"

        def projected():
            return {found for (found,) in database.execute(query, [sorted(wanted)])}

        assert until(projected, lambda found: found == wanted) == wanted

    assert stack.ask("/health/live", port="STACK_CONSOLE_PORT")[0] == 200
    status, page = stack.ask("/", port="STACK_CONSOLE_PORT")
    assert (status, b"assword" in page) == (200, True)  # the log-in


def test_containers_have_no_rights_that_they_do_not_need(stack):
    containers = stack.engine.containers()
    for name in ("owner", "standby", "projector", "console", "door"):
        (found,) = json.loads(stack.engine.asked("inspect", containers[name].id).stdout)
        host = found["HostConfig"]
        assert host["ReadonlyRootfs"], name
        assert not found["EffectiveCaps"], name
        assert "no-new-privileges" in " ".join(host["SecurityOpt"]), name
        assert host["Memory"] > 0, name
        assert host["PidsLimit"] == 512, name
