"""The server as a process: killed, ended, out of disk, without a model. Nothing acknowledged is ever lost."""

import asyncio
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid

import pytest

from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.record.journal import Journal
from sentinel.transport.client import Client, Unreachable

HOST = "127.0.0.1"


@pytest.fixture
def home(shop_home, tmp_path):
    shutil.copytree(shop_home, tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def server(home):
    server = ServerProcess(home, HOST, free_port(HOST))
    yield server
    server.stop()


def payment(i, card=None):
    return json.dumps(
        {"transaction_id": f"{i}-{uuid.uuid4().hex}", "event_time": 1_738_400_000 + i, "amount": 10 + i % 50,
         "card": card or f"card-{i % 20}", "shop": f"shop-{i % 7}"}
    ).encode()  # fmt: skip


async def keep_sending(port, acknowledged, until):
    """Eight clients send until the server is gone; what was answered is kept."""

    async def one(client, start):
        i = start
        while not until.is_set():
            body = payment(i)
            status, answer, _ = await client.post("/v1/score", body)
            if status == 200:
                acknowledged[json.loads(answer)["transaction_id"]] = (body, json.loads(answer))
            i += 8

    async with Client(HOST, port, 8) as client:
        await asyncio.gather(*(one(client, start) for start in range(8)), return_exceptions=True)


def test_kill_9_under_load_loses_nothing_that_was_acknowledged(server):
    server.start()
    acknowledged = {}

    async def run():
        until = asyncio.Event()
        sending = asyncio.ensure_future(keep_sending(server.port, acknowledged, until))
        await asyncio.sleep(1.0)
        await asyncio.get_running_loop().run_in_executor(None, server.kill)
        until.set()
        await sending

    asyncio.run(run())
    assert len(acknowledged) > 50
    server.start()

    async def ask_again():
        async with Client(HOST, server.port, 1) as client:
            for body, answer in acknowledged.values():
                status, again, _ = await client.post("/v1/score", body)
                assert status == 200
                assert json.loads(again) == {**answer, "replayed": True}

    asyncio.run(ask_again())


def test_sigterm_answers_what_has_arrived_and_saves_the_state(server, home):
    server.start()
    acknowledged = {}

    async def run():
        until = asyncio.Event()
        sending = asyncio.ensure_future(keep_sending(server.port, acknowledged, until))
        await asyncio.sleep(0.7)
        until.set()
        await asyncio.get_running_loop().run_in_executor(None, server.stop)
        await sending

    asyncio.run(run())
    assert acknowledged
    journal = Journal(home / "journal.db")
    assert journal.find(list(acknowledged)[:500]).keys() == set(list(acknowledged)[:500])
    (snapshot,) = (home / "snapshots").glob("*.npz")
    assert int(snapshot.stem.split("-")[1]) == journal.last_seq
    journal.close()


def test_a_full_disk_refuses_but_loses_nothing_and_recovers(home):
    """The file size limit stands for a full disk: writes fail, and succeed again once it is raised."""
    port = free_port(HOST)
    limit = 400_000

    def small_disk():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    process = subprocess.Popen(
        [sys.executable, "-m", "sentinel", "serve", "--home", str(home), "--port", str(port)],
        preexec_fn=small_disk, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_ready(port)
        accepted, refused = asyncio.run(fill(port))
        assert refused["status"] == 503
        assert "free some space" in refused["error"]
        assert get_status(port, "/health/live") == 200
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        asyncio.run(check(port, accepted))
    finally:
        process.terminate()
        process.wait()


async def fill(port):
    accepted = []
    async with Client(HOST, port, 1) as client:
        for i in range(3000):
            body = payment(i)
            status, answer, _ = await client.post("/v1/score", body)
            if status != 200:
                return accepted, json.loads(answer)
            accepted.append((body, json.loads(answer)))
    raise AssertionError("the disk was never full")


async def check(port, accepted):
    async with Client(HOST, port, 1) as client:
        status, _, _ = await client.post("/v1/score", payment(9999))
        assert status == 200
        for body, answer in accepted:
            _, again, _ = await client.post("/v1/score", body)
            assert json.loads(again) == {**answer, "replayed": True}


def wait_ready(port):
    for _ in range(400):
        if get_status(port, "/health/ready") == 200:
            return
        time.sleep(0.05)
    raise AssertionError("not ready")


def get_status(port, path):
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=2) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def get_json(port, path):
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=2) as reply:
            return json.load(reply)
    except urllib.error.HTTPError as error:
        return json.load(error)


@pytest.mark.parametrize("damage", ["no model", "altered model", "altered manifest", "no file", "future format"])
def test_without_a_sound_model_it_lives_says_why_and_recovers(home, damage):
    bundle = home / "models" / "v1"
    kept = home.parent / "kept"
    shutil.copytree(home / "models", kept)
    if damage == "no model":
        shutil.rmtree(home / "models")
    elif damage == "altered model":
        (bundle / "model.onnx").write_bytes((bundle / "model.onnx").read_bytes()[:-1] + b"x")
    elif damage == "altered manifest":
        text = (bundle / "manifest.json").read_text()
        (bundle / "manifest.json").write_text(text.replace('"over": "10m"', '"over": "11m"', 1))
    elif damage == "no file":
        (bundle / "state.npz").unlink()
    else:
        text = (bundle / "manifest.json").read_text()
        (bundle / "manifest.json").write_text(text.replace('"format": 2', '"format": 99'))
    port = free_port(HOST)
    process = subprocess.Popen(
        [sys.executable, "-m", "sentinel", "serve", "--home", str(home), "--port", str(port)], stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(200):
            if get_status(port, "/health/live") == 200 and "loading" not in str(
                get_json(port, "/health/ready")["reason"]
            ):
                break
            time.sleep(0.05)
        reason = get_json(port, "/health/ready")["reason"]
        expected = {
            "no model": "sentinel train", "altered model": "altered after training", "altered manifest": "plan was changed",
            "no file": "missing", "future format": "format 99",
        }  # fmt: skip
        assert expected[damage] in reason
        assert get_status(port, "/health/ready") == 503
        assert get_status(port, "/health/startup") == 503
        assert get_status(port, "/health") == 503

        async def ask():
            async with Client(HOST, port, 1) as client:
                return await client.post("/v1/score", payment(1))

        status, answer, _ = asyncio.run(ask())
        assert status == 503
        assert expected[damage] in json.loads(answer)["error"]
        shutil.copytree(kept, home / "models", dirs_exist_ok=True)
        wait_ready(port)
        assert asyncio.run(ask())[0] == 200
    finally:
        process.terminate()
        assert process.wait(10) in (0, -signal.SIGTERM)


def test_a_second_server_on_the_same_home_is_not_ready_and_says_why(server, home):
    server.start()
    other = free_port(HOST)
    process = subprocess.Popen(
        [sys.executable, "-m", "sentinel", "serve", "--home", str(home), "--port", str(other)],
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            if get_status(other, "/health/live") == 200 and "loading" not in get_json(other, "/health/ready")["reason"]:
                break
            time.sleep(0.05)
        assert "in use by another Sentinel" in get_json(other, "/health/ready")["reason"]
    finally:
        process.terminate()
        process.wait()


def test_an_unreachable_server_is_said(tmp_path):
    async def ask():
        async with Client(HOST, free_port(HOST), 1):
            pass

    with pytest.raises(Unreachable, match="no server"):
        asyncio.run(ask())


def test_ctrl_c_ends_it_in_good_order(home):
    port = free_port(HOST)
    process = subprocess.Popen(
        [sys.executable, "-m", "sentinel", "serve", "--home", str(home), "--port", str(port)],
        stderr=subprocess.PIPE, env=os.environ | {"COLUMNS": "200"},
    )  # fmt: skip
    wait_ready(port)

    async def ask():
        async with Client(HOST, port, 1) as client:
            return await client.post("/v1/score", payment(1))

    assert asyncio.run(ask())[0] == 200
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=15)
    assert b"Traceback" not in errors
    assert len(list((home / "snapshots").glob("*.npz"))) == 1
