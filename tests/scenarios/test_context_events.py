"""Context events through the whole product: kill -9 while they are told, and from files to a proven model."""

import asyncio
import collections
import contextlib
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from sentinel.cli import app
from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.record.applied import log_folder
from sentinel.record.entries import context_rows
from sentinel.record.log import Follower, Kind
from sentinel.record.log_reader import FileLogReader
from sentinel.record.verify import verify
from sentinel.transport.client import Client, Unreachable

HOST = "127.0.0.1"
KILLS = 3


class Load:
    """What was told and acknowledged over all lives of a server."""

    def __init__(self, rng):
        self.rng = rng
        self.known, self.sent, self.differing = {}, 0, []

    def event(self):
        self.sent += 1
        kind = self.rng.choice(["login", "password_change", "refund"])
        carried = {"refund": {"shop": "s", "amount": self.rng.randint(1, 900) / 4}}.get(kind, {})
        return {"event": kind, "event_id": f"e{self.sent}", "event_time": 1_738_400_000 + self.sent,
                "card": f"card-{self.rng.randint(0, 30)}", **carried}  # fmt: skip

    async def run(self, port):
        with contextlib.suppress(Unreachable, OSError):
            async with Client(HOST, port, 6) as client:
                await asyncio.gather(*(self._tell(client) for _ in range(4)), self._pay(client), return_exceptions=True)

    async def _tell(self, client):
        while True:
            events = [self.event() for _ in range(self.rng.choice((1, 1, 4, 40)))]
            if self.known and self.rng.random() < 0.2:
                events = [json.loads(self.rng.choice([*self.known.values()])) for _ in range(3)]
            status, raw, _ = await client.post("/v1/events", json.dumps(events).encode())
            if status != 200:
                continue
            for event, answer in zip(events, json.loads(raw), strict=True):
                expected = {"event_id": event["event_id"], "event": event["event"]}
                if expected != {name: answer.get(name) for name in expected}:
                    self.differing.append(answer)
                if event["event_id"] in self.known and not answer["replayed"]:
                    self.differing.append(answer)
                self.known.setdefault(event["event_id"], json.dumps(event))

    async def _pay(self, client):
        for n in range(100_000):
            body = {
                "transaction_id": f"{self.sent}-{n}",
                "event_time": 1_738_400_000,
                "amount": 5,
                "card": "c",
                "shop": "s",
            }
            await client.post("/v1/score", json.dumps(body).encode())


async def told_until_a_kill(server, load):
    running = asyncio.ensure_future(load.run(server.port))
    before = len(load.known)
    for _ in range(2_000):
        await asyncio.sleep(0.01)
        if len(load.known) > before + 100:
            break
    await asyncio.sleep(load.rng.random() / 5)
    await asyncio.to_thread(server.kill)
    await running


def test_no_acknowledged_event_is_lost_or_there_twice_whenever_the_server_is_killed(tmp_path, event_shop_home):
    home, load = tmp_path / "home", Load(random.Random(5))
    shutil.copytree(event_shop_home, home)
    server = ServerProcess(home, HOST, free_port(HOST))
    try:
        for _ in range(KILLS):
            server.start()
            asyncio.run(told_until_a_kill(server, load))
        server.start()

        async def ask_again():
            async with Client(HOST, server.port, 1) as client:
                for begin in range(0, len(bodies := [*load.known.values()]), 500):
                    _, raw, _ = await client.post(
                        "/v1/events", ("[" + ",".join(bodies[begin : begin + 500]) + "]").encode()
                    )
                    assert all(one["replayed"] for one in json.loads(raw))

        asyncio.run(ask_again())
    finally:
        server.stop()
    assert not load.differing
    assert len(load.known) > 100 * KILLS
    log = FileLogReader(log_folder(home))
    rows = [
        row for page in Follower(log, 0).rest() for one in page if one.kind == Kind.CONTEXT for row in context_rows(one)
    ]
    log.close()
    times = collections.Counter(row.event_id for row in rows)
    assert set(times.values()) == {1}
    assert load.known.keys() <= times.keys()
    assert verify(log_folder(home)).findings == []


@pytest.fixture(autouse=True)
def own_console_port(monkeypatch):
    """The usual one other demos take as well."""
    monkeypatch.setenv("SENTINEL_CONSOLE_PORT", str(free_port("127.0.0.1")))


def sentinel(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "sentinel", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """Payments, and the events beside them."""
    folder = tmp_path_factory.mktemp("simulated")
    given = ["--transactions", 30_000, "--out", folder / "p.parquet", "--events-out", folder / "e.csv", "--json"]
    facts = json.loads(sentinel("simulate", *given).stdout)
    assert facts["events"] == len(pl.read_csv(folder / "e.csv")) > 500
    return ["--data", folder / "p.parquet"], folder / "e.csv"


def test_from_two_files_to_a_proven_model(tmp_path, simulated):
    data, events = simulated
    built = sentinel("features", "build", *data, "--events-file", events, "--out", tmp_path / "f.parquet", "--json")
    assert json.loads(built.stdout)["transactions"] == 30_000
    assert "login" in built.stderr
    trained = json.loads(sentinel("train", *data, "--events-file", events, "--home", tmp_path / "h", "--json").stdout)
    measured = json.loads(
        sentinel("evaluate", *data, "--events-file", events, "--home", tmp_path / "h", "--json").stdout
    )
    assert measured["metrics"] == {k: value for k, value in trained["metrics"].items() if k != "score_curve"}
    assert "test part" in measured["measured_on"]
    without = CliRunner().invoke(app, ["evaluate", *map(str, data), "--home", str(tmp_path / "h"), "--json"])
    assert "test part" not in json.loads(without.stdout)["measured_on"], "a history without its events is another one"


COUNTING = f"""import msgspec
from sentinel import count, seconds_since
from sentinel.detectors import load_detector

shop = load_detector({str(Path(__file__).parents[1] / "shop_with_events_detector.py")!r})
since = seconds_since("refund", by="card")
detector = msgspec.structs.replace(shop, features=(*shop.features, count(event="login", by="card", over="1d"), since))
"""


@pytest.fixture
def counting(tmp_path):
    """The arguments that name the shop's detector with features of logins and refunds."""
    (tmp_path / "counting.py").write_text(COUNTING)
    return ["--detector", str(tmp_path / "counting.py")]


@pytest.mark.parametrize("command", [["train"], ["features", "build", "--out", "f.parquet"], ["parity"], ["demo"]])
def test_events_that_features_count_are_not_left_out_in_silence(tmp_path, monkeypatch, counting, command):
    monkeypatch.chdir(tmp_path)
    port = ["--port", str(free_port(HOST))] if command == ["demo"] else []
    done = CliRunner().invoke(app, [*command, *counting, "--data", "p.csv", *port])
    said = " ".join(done.stderr.split())
    assert done.exit_code == 1, said
    assert "count context events (login, refund), and no file" in said
    assert "--events-file none" in said


def test_a_model_is_not_measured_without_the_events_it_counts_in_silence(tmp_path, monkeypatch, counting, shop_file):
    monkeypatch.chdir(tmp_path)
    given = [*counting, "--data", str(shop_file), "--home", "h"]
    sentinel("train", *given, "--events-file", "none")
    done = CliRunner().invoke(app, ["evaluate", *given])
    assert (done.exit_code, "--events-file none" in done.stderr) == (1, True)
    (tmp_path / "e.csv").write_text("event,event_id,event_time,card\nlogin,e1,2025-01-02T00:00:00Z,card-1\n")
    said = " ".join(sentinel("evaluate", *given, "--events-file", "e.csv").stderr.replace("│", " ").split())
    assert "refund is declared and the file has none of it: features count it" in said
    assert "password_change is declared and the file has none of it: no feature counts it" in said
    assert "login is declared" not in said


def test_parity_sends_the_events_in_their_place(simulated):
    data, events = simulated
    given = [*data, "--events-file", events, "--events", 1500, "--json"]
    report = json.loads(sentinel("parity", *given).stdout)
    assert (report["transactions"], report["differing"]) == (1500, 0)
    assert min(report["events"], report["outcomes"], report["late"], report["repeated"]) > 0


def test_the_demo_tells_them_live(tmp_path):
    done = sentinel("demo", "--seconds", 4, "--transactions", 6000, "--rate", 300, "--home", tmp_path / "demo",
                    "--port", free_port(HOST))  # fmt: skip
    summary = json.loads(done.stdout.strip().splitlines()[-1])
    assert summary["errors"] == 0
    log = FileLogReader(log_folder(tmp_path / "demo"))
    kinds = [record.kind for page in Follower(log, 0).rest() for record in page]
    log.close()
    assert Kind.CONTEXT in kinds
