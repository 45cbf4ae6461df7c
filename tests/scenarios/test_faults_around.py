"""Faults around a running server, brought about for real: full disks, dead and hanging children, altered files.

Every test asks for decisions while the fault lasts, and compares what is answered with the table of the fail policy.
"""

import contextlib
import http.client
import json
import os
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.detectors import load_detector
from sentinel.events.files import history_of_frame
from sentinel.model.registry import Registry
from sentinel.policy.fail_policy import FailPolicy
from sentinel.policy.fault_matrix import Dependency, Fault, Then
from sentinel.record.applied import HomeDeployment
from sentinel.train.pipeline import train

HOST = "127.0.0.1"
PATIENCE_S = 120.0  # children are nice, and a busy machine has little for them
TRACED = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
SETTINGS = {
    "SENTINEL_DEADLINE_MS": "5000", "SENTINEL_CIRCUIT_THRESHOLD_MS": "5000",  # a busy machine is no fault of ours
    "SENTINEL_SNAPSHOT_EVERY": "100", "SENTINEL_MAX_WAITING": "1500", "SENTINEL_MAX_BATCH": "2000",
    "SENTINEL_LOG_LEVEL": "CRITICAL", "SENTINEL_LAST_SNAPSHOT_S": "1",
}  # fmt: skip
SMALL = 4096
"""Bytes that a file may have while its process meets a full disk: enough to say what is wrong."""


class Collector:
    """An OTLP endpoint that answers with a status, or never."""

    def __init__(self):
        self.listener = socket.create_server((HOST, 0))
        self.url = "http://{}:{}".format(*self.listener.getsockname())
        self.status: int | None = 200
        self.taken = threading.Event()
        self._open = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self._open.append(connection)
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection):
        with contextlib.suppress(OSError):
            while connection.recv(1 << 20):
                self.taken.set()
                if self.status is not None:
                    connection.sendall(b"HTTP/1.1 %d x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n" % self.status)
                    connection.close()

    def close(self):
        """Nobody listens there any more."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in self._open:
            connection.close()


class Served:
    """A server, and what one can do to it and its children."""

    def __init__(self, server, collector=None):
        self.server, self.collector = server, collector
        self.home, self.port = server.home, server.port

    def ask(self, method, path, body=None, headers=None, timeout=PATIENCE_S):
        """Status and JSON of an answer."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=timeout)
        with contextlib.closing(connection):
            sent = None if body is None else json.dumps(body).encode()
            connection.request(method, path, sent, {"content-type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def decide(self, body, **kwargs) -> Then:
        """What a caller gets who asks for the decision of this."""
        try:
            status, answer = self.ask("POST", "/v1/score", body, **kwargs)
        except ConnectionRefusedError:
            return Then.REFUSED
        except TimeoutError:
            return Then.HELD
        if status == 503:
            return Then.REFUSED
        assert status == 200, answer
        by = {one["decided_by"] for one in (answer if isinstance(answer, list) else [answer])}
        return Then.DECIDED if by == {"model"} else Then.CHOSEN

    def outcome(self, n=5, **kwargs) -> Then:
        """What callers get, one after the other; all the same."""
        found = {self.decide(payment(), **kwargs) for _ in range(n)}
        assert len(found) == 1
        return found.pop()

    def outcome_of_many(self, n, at_once=1000) -> Then:
        found = {self.decide([payment() for _ in range(at_once)]) for _ in range(n // at_once)}
        assert len(found) == 1
        return found.pop()

    def health(self):
        return self.ask("GET", "/health")[1]

    def shadow(self):
        return self.ask("GET", "/admin/shadow/status")[1]

    def child(self, module):
        """The process id of a child, or None."""
        for status in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                parent = int(status.read_text().rsplit(")", 1)[1].split()[1])
                if parent == self.server.pid and module.encode() in (status.parent / "cmdline").read_bytes().split(
                    b"\0"
                ):
                    return int(status.parent.name)
        return None

    def running(self, module):
        """The process id of a child, once it runs."""
        until(lambda: self.child(module))
        return self.child(module)

    def is_ready(self):
        return self.ask("GET", "/health/ready")[0] == 200


def payment(**changes):
    name = uuid.uuid4().hex
    return {"transaction_id": name, "event_time": "2025-02-01T10:00:00Z", "amount": 5.0 + int(name[:4], 16) % 200,
            "card": f"card-{name[:2]}", "shop": f"shop-{name[2]}", "channel": "web", "risk": 0.1} | changes  # fmt: skip


def until(what, patience_s=PATIENCE_S):
    end = time.monotonic() + patience_s
    while not what():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.05)


@contextlib.contextmanager
def stopped(process):
    """A process that hangs."""
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGCONT)


@contextlib.contextmanager
def no_room(process, largest=0):
    """A disk on which this process can write nothing beyond so many bytes of a file."""
    before = resource.prlimit(process, resource.RLIMIT_FSIZE)
    resource.prlimit(process, resource.RLIMIT_FSIZE, (largest, before[1]))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(process, resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="module")
def served(tmp_path_factory, two_models_home):
    home = tmp_path_factory.mktemp("faults") / "home"
    shutil.copytree(two_models_home, home)
    collector = Collector()
    server = ServerProcess(
        home, HOST, free_port(HOST), environment={**SETTINGS, "SENTINEL_OTLP_ENDPOINT": collector.url}
    )
    server.start()
    yield Served(server, collector)
    server.stop()


@pytest.fixture
def fresh(tmp_path, shop_home):
    """A server of this test's own, that was not started yet."""
    shutil.copytree(shop_home, tmp_path / "home")
    server = ServerProcess(tmp_path / "home", HOST, free_port(HOST), environment=SETTINGS)
    yield Served(server)
    server.stop()


# queue and log


@pytest.mark.fault(Dependency.QUEUE, Fault.FULL)
def test_more_wait_than_may(served, cell):
    body = [payment() for _ in range(1600)]
    assert served.decide(body) is cell.then
    assert served.ask("GET", f"/v1/decisions/{body[0]['transaction_id']}")[0] == 404
    assert served.outcome() is Then.DECIDED


@pytest.mark.fault(Dependency.LOG, Fault.FULL)
def test_a_full_disk(served, cell):
    refused = [payment() for _ in range(3)]
    with no_room(served.server.pid):
        assert {served.decide(one) for one in refused} == {cell.then}
        assert served.ask("GET", "/health/ready")[0] == 503
        assert "File too large" in served.ask("GET", "/health")[1]["reason"]
    until(served.is_ready)
    for one in refused:
        status, answer = served.ask("POST", "/v1/score", one)
        assert (status, answer["replayed"], answer["decided_by"]) == (200, False, "model")


# what a detector chose


@pytest.fixture
def choosy(tmp_path, shop_detector, shop_history):
    """A home whose detector blocks for want of time, trained as a user would."""
    detector = msgspec.structs.replace(load_detector(shop_detector), on_fault=FailPolicy(no_time="block"))
    home = tmp_path / "choosy"
    history = history_of_frame(shop_history, detector.schema)
    manifest = train(detector, history, Registry(home / "models"), lambda *_: None)
    HomeDeployment(home).promote(manifest.version)
    return home


@pytest.mark.fault(Dependency.QUEUE, Fault.TIMEOUT)
def test_what_a_detector_chose_travels_in_its_bundle_and_is_told_counted_and_kept(choosy, cell):
    server = ServerProcess(choosy, HOST, free_port(HOST), environment={"SENTINEL_DEADLINE_MS": "0.0001"})
    server.start()
    try:
        served, asked = Served(server), payment()
        assert served.decide(asked) is cell.then
        answer = served.ask("POST", "/v1/score", asked)[1]
        told = {"decision": "block", "degraded": cell.reason, "decided_by": "on_fault", "fraud_probability": 1.0}
        assert told.items() <= answer.items()
        assert told.items() <= served.ask("GET", f"/v1/decisions/{asked['transaction_id']}")[1].items()
        vector = served.ask("POST", "/predict", {"features": [1.0] * 12})[1]
        assert (vector["decision"], vector["degraded"], vector["fraud_probability"]) == ("block", cell.reason, 1.0)
        figures = urllib.request.urlopen(f"http://{HOST}:{served.port}/metrics/prom").read().decode()
        assert 'sentinel_on_fault_decisions_total{answer="block"} 2.0' in figures
        assert 'sentinel_on_fault_decisions_total{answer="rules"} 0.0' in figures
        server.kill()
        server.start()
        assert served.ask("POST", "/v1/score", asked)[1] == {**answer, "replayed": True}
    finally:
        server.stop()


# deployment changes


@pytest.mark.fault(Dependency.DEPLOYMENT, Fault.TIMEOUT)
def test_a_model_that_is_still_being_loaded(served, cell):
    for version in ("v2", "v1"):
        changing = threading.Thread(target=lambda: served.ask("POST", "/admin/reload", {"version": version}))  # noqa: B023
        changing.start()
        found = []
        while changing.is_alive():
            found.append(served.outcome(1))
        assert found
        assert set(found) == {cell.then}
        assert served.ask("GET", "/admin/version")[1]["version_a"] == version


@pytest.fixture
def version_in_force(served):
    """The champion before and after."""
    before = served.ask("GET", "/admin/version")[1]["version_a"]
    yield before
    assert served.ask("GET", "/admin/version")[1]["version_a"] == before


@pytest.mark.fault(Dependency.DEPLOYMENT, Fault.ERROR)
def test_a_change_to_a_model_that_was_altered(served, cell, version_in_force):
    model = served.home / "models" / "v2" / "model.onnx"
    sound = model.read_bytes()
    model.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    try:
        status, answer = served.ask("POST", "/admin/reload", {"version": "v2"})
        assert (status, "altered" in answer["error"]) == (400, True)
        assert served.outcome() is cell.then
    finally:
        model.write_bytes(sound)


@pytest.mark.fault(Dependency.DEPLOYMENT, Fault.STALE)
def test_a_change_of_what_an_experiment_is_about(served, cell, version_in_force):
    assert served.ask("POST", "/admin/ab/setup", {"candidate_version": "v2"})[0] == 200
    try:
        assert served.ask("POST", "/admin/reload", {"version": "v2"})[0] == 409
        assert served.outcome() is cell.then
    finally:
        served.ask("POST", "/admin/ab/abort", {})


@pytest.mark.fault(Dependency.DEPLOYMENT, Fault.FULL)
def test_a_change_that_cannot_be_recorded(served, cell, version_in_force):
    with no_room(served.server.pid):
        assert served.ask("POST", "/admin/reload", {"version": "v2"})[0] == 503
        assert served.outcome(1) is cell.then
    until(served.is_ready)
    assert served.outcome() is Then.DECIDED


@pytest.mark.fault(Dependency.DEPLOYMENT, Fault.ABSENT)
def test_a_start_without_the_champions_bundle(fresh, cell):
    kept = fresh.home.parent / "kept"
    shutil.move(fresh.home / "models", kept)
    with launched(fresh):
        until(lambda: fresh.outcome(1) is cell.then and "still loading" not in fresh.health()["reason"])
        assert not fresh.is_ready()
        shutil.copytree(kept, fresh.home / "models", dirs_exist_ok=True)
        until(fresh.is_ready)
        assert fresh.outcome() is Then.DECIDED


@contextlib.contextmanager
def launched(fresh):
    """The server from its first moment on; once it listens."""
    arguments = ["serve", "--home", str(fresh.home), "--port", str(fresh.port)]
    process = subprocess.Popen(
        [sys.executable, "-m", "sentinel", *arguments], stderr=subprocess.DEVNULL, env=os.environ | SETTINGS
    )
    try:
        until(lambda: is_listening(fresh.port))
        yield process
    finally:
        process.terminate()
        process.wait(30)


def is_listening(port):
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


# the features' state


@pytest.mark.fault(Dependency.FEATURES, Fault.TIMEOUT)
def test_a_state_that_is_still_being_loaded(fresh, cell):
    with launched(fresh):
        first = fresh.outcome(1)
        until(fresh.is_ready)
        assert fresh.outcome() is Then.DECIDED
    assert first is cell.then


@pytest.mark.fault(Dependency.FEATURES, Fault.FULL)
def test_a_process_that_is_killed_for_its_memory(fresh, cell):
    fresh.server.start()
    sent = [payment() for _ in range(20)]
    answers = [fresh.ask("POST", "/v1/score", one)[1] for one in sent]
    fresh.server.kill()
    assert fresh.outcome(1) is cell.then
    fresh.server.start()
    assert [fresh.ask("POST", "/v1/score", one)[1] for one in sent] == [{**one, "replayed": True} for one in answers]
    assert fresh.outcome() is Then.DECIDED


# the snapshotter

SNAPSHOTTER, PROJECTOR, SHADOW = "sentinel.record.snapshotter", "sentinel.record.projector", "sentinel.shadow"


def saved(served):
    return {path.name for path in (served.home / "snapshots").glob("*.npz")}


def snapshots(served):
    """What is said of them; nothing yet shortly after a start."""
    return served.health().get("snapshots") or {"status": "ok", "lag": 0}


@pytest.mark.fault(Dependency.SNAPSHOTTER, Fault.TIMEOUT)
def test_a_snapshotter_that_hangs(served, cell):
    with stopped(served.running(SNAPSHOTTER)):
        assert served.outcome(150) is cell.then


@pytest.mark.fault(Dependency.SNAPSHOTTER, Fault.ERROR)
def test_a_snapshotter_that_is_killed(served, cell):
    killed = served.running(SNAPSHOTTER)
    os.kill(killed, signal.SIGKILL)
    assert served.outcome() is cell.then
    until(lambda: served.child(SNAPSHOTTER) not in (None, killed))


@pytest.mark.fault(Dependency.SNAPSHOTTER, Fault.STALE)
def test_snapshots_that_are_behind(served, cell):
    with stopped(served.running(SNAPSHOTTER)):
        assert served.outcome_of_many(1000) is cell.then
        until(lambda: snapshots(served)["lag"] >= 1000)


@pytest.mark.fault(Dependency.SNAPSHOTTER, Fault.ABSENT)
def test_a_folder_of_snapshots_that_is_gone(served, cell):
    before = saved(served)
    served.outcome_of_many(1000)
    until(lambda: saved(served) != before)  # it is at work
    shutil.rmtree(served.home / "snapshots")
    try:
        assert served.outcome_of_many(1000) is cell.then
        until(lambda: snapshots(served)["status"] != "ok")
    finally:
        (served.home / "snapshots").mkdir(exist_ok=True)


@pytest.mark.fault(Dependency.SNAPSHOTTER, Fault.FULL)
def test_no_room_for_a_snapshot(served, cell):
    with no_room(served.running(SNAPSHOTTER), SMALL):
        assert served.outcome_of_many(1000) is cell.then
        until(lambda: snapshots(served)["status"] != "ok")
    assert served.outcome() is cell.then


# the projector and its view


def is_found(served, transaction):
    """Whether a search by its card finds it."""
    status, answer = served.ask("GET", f"/v1/decisions?card={transaction['card']}")
    return status == 200 and transaction["transaction_id"] in [one["transaction_id"] for one in answer["decisions"]]


def is_in_step(served):
    view = served.health()["view"]
    return view["status"] == "ok" and view["lag"] == 0


@pytest.mark.fault(Dependency.PROJECTOR, Fault.TIMEOUT)
def test_a_projector_that_hangs(served, cell):
    with stopped(served.running(PROJECTOR)):
        asked = payment(card="of-a-hanging-projector")
        assert served.decide(asked) is cell.then
        assert is_found(served, asked)


@pytest.mark.fault(Dependency.PROJECTOR, Fault.ERROR)
def test_a_projector_that_is_killed(served, cell):
    killed = served.running(PROJECTOR)
    os.kill(killed, signal.SIGKILL)
    assert served.outcome() is cell.then
    until(lambda: served.child(PROJECTOR) not in (None, killed))
    until(lambda: is_in_step(served))


@pytest.mark.fault(Dependency.PROJECTOR, Fault.STALE)
def test_a_view_that_is_behind(served, cell):
    until(lambda: is_in_step(served))
    with stopped(served.running(PROJECTOR)):
        assert served.outcome_of_many(1000) is cell.then
        assert served.health()["view"]["lag"] >= 1000
    until(lambda: is_in_step(served))


@pytest.mark.fault(Dependency.PROJECTOR, Fault.FULL)
def test_no_room_for_the_view(served, cell):
    until(lambda: is_in_step(served))
    with no_room(served.running(PROJECTOR), SMALL):
        assert served.outcome_of_many(1000) is cell.then
        until(lambda: served.health()["view"]["status"] != "ok")
    until(lambda: is_in_step(served))


@pytest.fixture
def view(served):
    """The file of the view, which is made anew when the test is done with it."""
    until(lambda: is_in_step(served))
    path = served.home / "views.db"
    yield path
    remove(path)
    until(lambda: is_in_step(served))


def remove(view):
    for file in view.parent.glob(f"{view.name}*"):
        shutil.rmtree(file) if file.is_dir() else file.unlink()


@pytest.mark.fault(Dependency.PROJECTOR, Fault.ABSENT)
def test_a_projector_that_cannot_do_its_work(served, view, cell):
    remove(view)
    view.mkdir()
    assert served.outcome() is cell.then
    until(lambda: served.health()["view"]["status"] != "ok")
    assert served.outcome() is cell.then


@pytest.mark.fault(Dependency.VIEW, Fault.TIMEOUT)
def test_a_view_that_another_process_locks(served, view, cell):
    with contextlib.closing(sqlite3.connect(view, isolation_level=None)) as other:
        other.execute("PRAGMA busy_timeout=20000")
        other.execute("BEGIN EXCLUSIVE")
        asked = payment()
        assert served.decide(asked) is cell.then
        assert served.ask("GET", f"/v1/decisions/{asked['transaction_id']}")[0] == 200
        until(lambda: served.health()["view"]["status"] != "ok")


@pytest.mark.fault(Dependency.VIEW, Fault.ERROR)
def test_a_view_that_is_damaged(served, view, cell):
    remove(view)
    view.write_bytes(os.urandom(20_000))
    assert served.outcome() is cell.then
    until(lambda: served.health()["view"]["status"] != "ok")


@pytest.mark.fault(Dependency.VIEW, Fault.STALE)
def test_a_view_of_another_log(served, view, cell):
    with contextlib.closing(sqlite3.connect(view, isolation_level=None)) as other:
        other.execute("PRAGMA busy_timeout=20000")
        other.execute("UPDATE progress SET log_id = 'another'")
    assert served.outcome() is cell.then
    until(lambda: "another log" in served.health()["view"]["status"])


@pytest.mark.fault(Dependency.VIEW, Fault.ABSENT)
def test_a_view_that_was_removed(served, view, cell):
    remove(view)
    asked = payment(card="of-a-removed-view")
    assert served.decide(asked) is cell.then
    until(lambda: is_found(served, asked) and is_in_step(served))


# the shadow


@pytest.fixture
def shadow(served):
    """The process id of a shadow that runs."""
    assert served.ask("POST", "/admin/shadow/start", {"version": "v2"})[0] == 200
    until(lambda: served.shadow()["running"] and served.child(SHADOW) is not None)
    yield served.child(SHADOW)
    assert served.ask("POST", "/admin/shadow/stop", {})[0] == 200
    until(lambda: served.child(SHADOW) is None)


@pytest.mark.fault(Dependency.SHADOW, Fault.TIMEOUT)
def test_a_shadow_that_hangs(served, shadow, cell):
    with stopped(shadow):
        assert served.outcome() is cell.then
        until(lambda: "no sign of life" in (served.shadow()["reason"] or ""))
        assert served.shadow()["restarts"] >= 1


@pytest.mark.fault(Dependency.SHADOW, Fault.ERROR)
def test_a_shadow_that_is_killed(served, shadow, cell):
    os.kill(shadow, signal.SIGKILL)
    assert served.outcome() is cell.then
    until(lambda: (known := served.shadow())["restarts"] >= 1 and known["running"])  # a slow start is begun again


@pytest.mark.fault(Dependency.SHADOW, Fault.STALE)
def test_a_shadow_that_is_far_behind(served, shadow, cell):
    before = served.shadow()["dropped"]
    with stopped(shadow):
        assert served.outcome_of_many(24_000) is cell.then
    until(lambda: served.shadow()["dropped"] > before)


@pytest.mark.fault(Dependency.SHADOW, Fault.ABSENT)
def test_a_shadow_whose_bundle_is_gone(served, shadow, cell):
    shutil.move(served.home / "models" / "v2", served.home / "aside")
    try:
        os.kill(shadow, signal.SIGKILL)
        assert served.outcome() is cell.then
        until(lambda: "v2" in (served.shadow()["reason"] or ""))
        assert served.outcome() is cell.then
    finally:
        shutil.move(served.home / "aside", served.home / "models" / "v2")


@pytest.mark.fault(Dependency.SHADOW, Fault.FULL)
def test_no_room_for_scores_of_the_shadow(served, shadow, cell):
    with no_room(shadow, SMALL):
        assert served.outcome_of_many(1000) is cell.then
        until(lambda: served.shadow()["reason"] or served.shadow()["lag"])
        assert served.outcome() is cell.then


# traces


@pytest.fixture
def collector(served):
    """The endpoint of the spans, which is well again afterwards."""
    yield served.collector
    served.collector.status = 200


def traced(served, n=10):
    """What a caller gets whose requests are traced, each within a second."""
    begun = time.monotonic()
    found = served.outcome(n, headers=TRACED, timeout=10)
    assert time.monotonic() - begun < n
    return found


def exported(collector):
    """Wait until spans are sent: the exporter does so every few seconds."""
    collector.taken.clear()
    assert collector.taken.wait(PATIENCE_S)


@pytest.mark.parametrize("status", [pytest.param(None, marks=pytest.mark.fault(Dependency.TRACES, Fault.TIMEOUT)),
                                    pytest.param(500, marks=pytest.mark.fault(Dependency.TRACES, Fault.ERROR))])  # fmt: skip
def test_an_endpoint_that_does_not_answer_or_fails(served, collector, cell, status):
    collector.status = status
    assert traced(served) is cell.then
    exported(collector)
    assert traced(served) is cell.then


@pytest.mark.fault(Dependency.TRACES, Fault.FULL)
def test_more_spans_than_are_kept(served, collector, cell):
    collector.status = None
    assert traced(served) is cell.then
    exported(collector)

    with ThreadPoolExecutor(4) as clients:
        found = set().union(*clients.map(lambda _: decided_in_a_row(served, 700), range(4)))
    assert found == {"model"}
    assert traced(served) is cell.then


def decided_in_a_row(served, n):
    """Who decided, of so many traced transactions on one connection."""
    found = set()
    with contextlib.closing(http.client.HTTPConnection(HOST, served.port, timeout=10)) as connection:
        for _ in range(n):
            connection.request(
                "POST", "/v1/score", json.dumps(payment()), {"content-type": "application/json", **TRACED}
            )
            found.add(json.loads(connection.getresponse().read())["decided_by"])
    return found


@pytest.mark.fault(Dependency.TRACES, Fault.ABSENT)
def test_an_endpoint_at_which_nobody_listens(fresh, cell, tmp_path):
    collector = Collector()
    collector.close()
    server = ServerProcess(
        fresh.home, HOST, fresh.port, environment={**SETTINGS, "SENTINEL_OTLP_ENDPOINT": collector.url}
    )
    server.start()
    try:
        served = Served(server)
        assert traced(served) is cell.then
        time.sleep(6)  # spans are sent, in vain
        assert traced(served) is cell.then
    finally:
        server.stop()
