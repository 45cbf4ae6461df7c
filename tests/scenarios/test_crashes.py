"""The server as a process: killed, ended, out of disk, without a model. Nothing acknowledged is ever lost."""

import asyncio
import contextlib
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import pytest

from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.model.registry import Registry
from sentinel.record.log_reader import FileLogReader
from sentinel.transport.client import Client, Unreachable
from tests.http_calls import HOST, PATIENCE_S, until


@pytest.fixture
def home(shop_home, tmp_path):
    shutil.copytree(shop_home, tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def server(home):
    server = ServerProcess(home, HOST, free_port(HOST), environment={"SENTINEL_SNAPSHOT_EVERY": "100"})
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


def snapshots_in(home):
    return sorted(int(path.stem.split("-")[1]) for path in (home / "snapshots").glob("*.npz"))


def assert_saved_to_the_end(home):
    log = FileLogReader(home / "log")
    assert snapshots_in(home)[-1] == log.durable
    log.close()


def test_sigterm_answers_what_has_arrived_and_saves_the_state(server, home, stored):
    server.start()
    decide_some(server, 150)
    until(lambda: snapshots_in(home))
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
    assert set(acknowledged) <= {row.transaction_id for row in stored(home)}
    assert_saved_to_the_end(home)


def snapshotter_of(server):
    """The process id of the snapshotter of this server, or None."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(status.read_text().rsplit(")", 1)[1].split()[1])
            if parent == server.pid and b"sentinel.record.snapshotter" in (status.parent / "cmdline").read_bytes():
                return int(status.parent.name)
    return None


def test_killed_snapshotters_cost_no_answer_and_a_server_killed_while_one_saves_loses_nothing(server, home):
    server.start()
    acknowledged = {}

    async def run():
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        sending = asyncio.ensure_future(keep_sending(server.port, acknowledged, stop))
        for _ in range(2):
            before = snapshots_in(home)
            await loop.run_in_executor(None, until, lambda: snapshots_in(home) != before)  # noqa: B023 - called at once
            answered = len(acknowledged)
            os.kill(snapshotter_of(server), signal.SIGKILL)
            await loop.run_in_executor(None, until, lambda: len(acknowledged) > answered + 200)  # noqa: B023
            await loop.run_in_executor(None, until, lambda: snapshotter_of(server))
        before = snapshots_in(home)
        await loop.run_in_executor(None, until, lambda: snapshots_in(home) != before)
        assert get_json(server.port, "/health")["snapshots"]["restarts"] >= 2
        snapshotter = snapshotter_of(server)
        await loop.run_in_executor(None, until, lambda: list((home / "snapshots").glob("*.spare")))
        await loop.run_in_executor(None, server.kill)
        stop.set()
        await sending
        until(lambda: not Path(f"/proc/{snapshotter}").exists())

    asyncio.run(run())
    server.start()

    async def ask_again():
        async with Client(HOST, server.port, 1) as client:
            for body, answer in list(acknowledged.values())[::7]:
                status, again, _ = await client.post("/v1/score", body)
                assert (status, json.loads(again)) == (200, {**answer, "replayed": True})

    asyncio.run(ask_again())


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 24 MB, 6 of them in a file that can be deleted; needs root."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small file system needs root: {mounted.stderr.decode().strip()}")
    (folder / "ballast").write_bytes(bytes(6 << 20))
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_told_loses_nothing_and_is_recovered_from(shop_home, small_disk, stored):
    home = small_disk / "home"
    shutil.copytree(shop_home, home)
    server = ServerProcess(home, HOST, free_port(HOST))
    server.start()
    try:
        accepted, refused = asyncio.run(fill(server.port))
        assert "No space left" in refused["error"]
        assert "send it again with the same id" in refused["error"]
        health = get_json(server.port, "/health/ready")
        assert not health["ready"]
        assert health["reason"] == "log"
        assert get_status(server.port, "/health") == 503
        assert "No space left" in get_json(server.port, "/health")["reason"]
        assert get_status(server.port, "/health/live") == 200
        (small_disk / "ballast").unlink()
        wait_ready(server.port)
        asyncio.run(check(server.port, accepted))
        server.kill()
        server.start()
        asyncio.run(check(server.port, accepted))
    finally:
        server.stop()
    names = [row.transaction_id for row in stored(home)]
    assert len(names) == len(set(names))
    assert json.loads(accepted[-1][0])[0]["transaction_id"] in names
    assert refused["sent"] not in names


async def fill(port):
    """Send batches until one is refused: what was accepted, and the refusal."""
    accepted = []
    async with Client(HOST, port, 1) as client:
        for i in range(0, 400_000, 200):
            body = b"[" + b",".join(payment(i + n) for n in range(200)) + b"]"
            status, answer, _ = await client.post("/v1/score", body)
            if status != 200:
                return accepted, json.loads(answer) | {"sent": json.loads(body)[0]["transaction_id"]}
            accepted.append((body, json.loads(answer)))
    raise AssertionError("the disk was never full")


async def check(port, accepted):
    """All that was accepted has its answer still, and more is accepted."""
    async with Client(HOST, port, 1) as client:
        status, _, _ = await client.post("/v1/score", payment(9999))
        assert status == 200
        for body, answers in accepted[::5]:
            _, again, _ = await client.post("/v1/score", body)
            assert json.loads(again) == [{**answer, "replayed": True} for answer in answers]


def wait_ready(port):
    until(lambda: get_status(port, "/health/ready") == 200)


def get_status(port, path):
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=PATIENCE_S) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def get_json(port, path):
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=PATIENCE_S) as reply:
            return json.load(reply)
    except urllib.error.HTTPError as error:
        return json.load(error)


def test_what_was_answered_nothing_was_stored_is_not_there(server, home, stored):
    """The segment takes no more than some bytes of each write: at some it ends in the middle of a record."""
    rng = random.Random(5)
    stored_ids, refused_ids, unknown_ids = set(), set(), set()
    server.start()
    _, most = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    for n in range(12):
        limit = used_bytes(home) + rng.choice((-300, 0, 40, 200, 400, 900))
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (max(limit, 0), most))
        for body, (status, answer) in ask_whatever(server, [payment(100 * n + i) for i in range(6)]):
            name = json.loads(body)["transaction_id"]
            if status == 200:
                stored_ids.add(name)
            elif "not known" in answer["error"]:
                unknown_ids.add(name)
            else:
                assert "nothing" in answer["error"] or "No model can answer" in answer["error"]
                refused_ids.add(name)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (most, most))
        if rng.random() < 0.3:
            server.kill()
            server.start()
            _, most = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
        wait_ready(server.port)
    server.kill()
    server.start()
    decide_some(server, 5)
    server.stop()
    there = [row.transaction_id for row in stored(home)]
    assert len(there) == len(set(there))
    assert stored_ids <= set(there)
    assert not refused_ids & set(there)
    assert refused_ids


def used_bytes(home):
    return len(max((home / "log").glob("*.segment")).read_bytes().rstrip(b"\0"))


def ask_whatever(server, bodies):
    """Status and answer of each, whatever it is."""

    async def ask():
        async with Client(HOST, server.port, 1) as client:
            found = [(body, await client.post("/v1/score", body)) for body in bodies]
            return [(body, (status, json.loads(answer))) for body, (status, answer, _) in found]

    return asyncio.run(ask())


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
        Registry(home / "models").record("v1", (bundle / "manifest.json").read_bytes(), "accepted")
    port = free_port(HOST)
    process = subprocess.Popen(
        [sys.executable, "-m", "sentinel", "serve", "--home", str(home), "--port", str(port)], stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: get_status(port, "/health/live") == 200)
        until(lambda: "loading" not in str(get_json(port, "/health")["reason"]))
        assert get_json(port, "/health/ready") == {"ready": False, "reason": "model"}
        reason = get_json(port, "/health")["reason"]
        expected = {
            "no model": "sentinel train", "altered model": "altered after training", "altered manifest": "manifest of v1 was altered",
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


def refused_start(home):
    """What a server says that cannot be started, on a port of its own."""
    ended = subprocess.run(
        [sys.executable, "-m", "sentinel", "serve", "--home", str(home), "--port", str(free_port(HOST))],
        capture_output=True, timeout=60, env=os.environ | {"COLUMNS": "500"},
    )  # fmt: skip
    assert ended.returncode == 1
    assert b"Traceback" not in ended.stderr
    return " ".join(ended.stderr.decode().split())


def test_a_full_disk_at_the_start_is_a_sentence(small_disk):
    (small_disk / "more").write_bytes(bytes(17 << 20))
    with contextlib.suppress(OSError), (small_disk / "rest").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4_096))
    assert "No space left on device; free or repair the disk" in refused_start(small_disk / "home")


def test_a_second_server_on_the_same_home_does_not_start_and_says_why(server, home):
    server.start()
    assert "in use by another Sentinel" in refused_start(home)


def test_a_home_of_an_older_version_is_refused(home):
    (home / "journal.db").write_bytes(b"")
    assert "older version" in refused_start(home)


def decide_some(server, n=50):
    async def ask():
        async with Client(HOST, server.port, 1) as client:
            for i in range(n):
                assert (await client.post("/v1/score", payment(i)))[0] == 200

    asyncio.run(ask())


def test_a_flipped_byte_in_the_log_stops_the_start_and_is_named(server, home):
    server.start()
    decide_some(server)
    server.kill()
    segment = max((home / "log").glob("*.segment"))
    data = bytearray(segment.read_bytes())
    place = data.index(b'"transaction_id":"10-')
    data[place] ^= 1
    segment.write_bytes(data)
    said = refused_start(home)
    assert segment.name in said
    assert "position" in said


def accept_loss(home, position):
    command = [sys.executable, "-m", "sentinel", "log", "accept-loss", str(position), "--home", str(home), "--yes"]
    done = subprocess.run(command, capture_output=True, timeout=60, env=os.environ | {"COLUMNS": "500"})
    assert done.returncode == 0, done.stderr
    return " ".join(done.stderr.decode().split())


def test_a_loss_that_is_accepted_costs_its_own_entries_and_nothing_else(server, home):
    server.start()
    sent = [payment(i) for i in range(60)]
    answers = dict(ask_all(server, sent))
    wait_for_view(server, 60)
    server.kill()
    segment = max((home / "log").glob("*.segment"))
    data = bytearray(segment.read_bytes())
    data[data.index(b'"transaction_id":"10-')] ^= 1
    segment.write_bytes(data)
    position = re.search(r"accept-loss (\d+)", refused_start(home))[1]
    assert "1 entries; 1 of them are decisions" in accept_loss(home, position)
    server.start()
    again = dict(ask_all(server, sent))
    fresh = [body for body in sent if not again[body]["replayed"]]
    assert fresh == [sent[10]], "only what is lost is decided anew"
    assert all(again[body] == {**answers[body], "replayed": True} for body in sent if body not in fresh)
    wait_for_view(server, 61)
    lost = get_json(server.port, f"/v1/decisions/{json.loads(sent[10])['transaction_id']}")
    assert lost["decision"]


def ask_all(server, bodies):
    async def ask():
        async with Client(HOST, server.port, 1) as client:
            return [(body, json.loads((await client.post("/v1/score", body))[1])) for body in bodies]

    return asyncio.run(ask())


def wait_for_view(server, decisions):
    until(lambda: len(get_json(server.port, "/v1/decisions?limit=500")["decisions"]) == decisions)
    until(lambda: get_json(server.port, "/health")["view"]["lag"] == 0)


def test_a_log_that_is_gone_is_no_fresh_home(server, home):
    server.start()
    decide_some(server)
    server.stop()
    for segment in (home / "log").glob("*.segment"):
        segment.unlink()
    assert "is gone" in refused_start(home)
    shutil.rmtree(home / "log")
    assert "sentinel log accept-loss 1" in refused_start(home)
    accept_loss(home, 1)
    promote = [sys.executable, "-m", "sentinel", "models", "promote", "v1", "--home", str(home)]
    assert subprocess.run(promote, timeout=60).returncode == 0
    server.start()
    decide_some(server)


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
        stderr=subprocess.PIPE, env=os.environ | {"COLUMNS": "200", "SENTINEL_SNAPSHOT_EVERY": "1"},
    )  # fmt: skip
    wait_ready(port)

    async def ask():
        async with Client(HOST, port, 1) as client:
            return await client.post("/v1/score", payment(1))

    assert asyncio.run(ask())[0] == 200
    until(lambda: snapshots_in(home))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=15)
    assert b"Traceback" not in errors
    assert_saved_to_the_end(home)
