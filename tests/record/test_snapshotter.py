"""The snapshotter saves every state that a start may need, and a start from what it saved is as good as a whole replay."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from child_processes import parent_of, running, wait_until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentinel.errors import StorageProblem
from sentinel.events.reference_tables.versions import Row
from sentinel.events.times import instant_us
from sentinel.features.packed import pack
from sentinel.model.bundle import load_bundle, read_manifest
from sentinel.model.registry import Registry
from sentinel.record.applied import apply, deployment_in, log_folder
from sentinel.record.disk import RealDisk
from sentinel.record.entries import Activation, TableRows, body_of
from sentinel.record.feature_state import FeatureState, activation_of, first_after_history, origin_of
from sentinel.record.file_log import FileLog
from sentinel.record.log import Kind
from sentinel.record.log_reader import FileLogReader
from sentinel.record.problem import problem_of
from sentinel.record.snapshots import Snapshots
from sentinel.record.snapshotter import AT_LATEST_S, LOOK_EVERY_S, RETRY_S, Snapshotter, kept_in
from sentinel.record.table_state import NAME as TABLES
from sentinel.record.table_state import TableState, append_rows, tables_origin

FIRST_US = instant_us("2025-02-02T00:00:00Z")  # after the history of v1, v2 and v4, before the end of that of v3
EVERY = 20


@pytest.fixture(scope="module")
def registry(four_models_home):
    return Registry(four_models_home / "models")


class Shop:
    """What a server does to a log: it decides, learns, and changes what is deployed."""

    def __init__(self, log, registry, made):
        self.log, self.registry, self.made = log, registry, made
        self.us, self.n = FIRST_US, 0

    def decide(self, n=10):
        rows = [{"id": f"t{self.n + i}", "card": f"card-{(self.n + i) % 7}", "amount": 1.0 + i % 9} for i in range(n)]
        self.n += n
        self._write(Kind.DECIDED, n, self.made.decided(rows))

    def learn(self, n=3):
        rows = [{"id": f"t{max(self.n - i, 0)}", "is_fraud": i % 2 == 0, "about": 0} for i in range(n)]
        self._write(Kind.OUTCOMES, n, self.made.outcomes(rows))

    def beat(self, _n=1):
        self._write(Kind.HEARTBEAT, 1, b"")

    def deploy(self, change):
        """Change what is in force; what decides from now on takes every later entry."""
        deployment = apply(self.log, change, self.log.clock(self.us))
        for version in {deployment.champion, deployment.experiment and deployment.experiment.version} - {None}:
            self.activate(version)

    def activate(self, version):
        bundle = self.bundle(version)
        if activation_of(self.log, bundle.state_id) is None:
            begin = first_after_history(self.log, bundle.manifest)
            body = body_of(Activation(bundle.state_id, begin))
            self._write(Kind.ACTIVATION, 1, body, standing=f"activation:{bundle.state_id}")

    def promote(self, version):
        self.deploy(lambda deployment: deployment.with_champion(version))

    def state_id(self, version):
        return read_manifest(self.registry.path(version)).state_id

    def bundle(self, version):
        return load_bundle(self.registry.path(version))

    def _write(self, kind, rows, body, standing=None):
        self.us += 3_600_000_000
        self.log.write(kind, rows, self.log.clock(self.us), body, standing)


@pytest.fixture
def shop(fake_log, registry, made):
    shop = Shop(fake_log.FakeLog(), registry, made)
    shop.promote("v1")
    return shop


@pytest.fixture
def snapshots(tmp_path):
    return Snapshots(tmp_path / "snapshots")


@pytest.fixture
def snapshotter(shop, snapshots):
    return Snapshotter(shop.log, shop.registry, snapshots, EVERY)


def loaded(shop, version, snapshots):
    """The state as a start has it."""
    bundle = shop.bundle(version)
    state = FeatureState(bundle, activation_of(shop.log, bundle.state_id))
    state.load(shop.log, snapshots)
    return state


def bits(state):
    return pack(state.store.snapshot())


def saved(shop, version, snapshots):
    """The positions of its snapshots."""
    return snapshots.positions(shop.state_id(version), origin_of(shop.log, read_manifest(shop.registry.path(version))))


def assert_starts_are_as_good_as_replays(shop, snapshots, tmp_path, versions=("v1", "v2", "v3", "v4")):
    for version in versions:
        if activation_of(shop.log, shop.state_id(version)) is not None:
            assert all(one <= shop.log.durable for one in saved(shop, version, snapshots))
            start, replay = loaded(shop, version, snapshots), loaded(shop, version, Snapshots(tmp_path / "none"))
            assert (start.position, bits(start)) == (replay.position, bits(replay))


# when it saves


def test_the_tables_are_saved_once_there_are_any(shop, snapshotter, snapshots):
    def saved_tables():
        return snapshots.positions(TABLES, tables_origin(shop.log))

    def told(limit):
        append_rows(
            shop.log, TableRows.of("cards", "exact", [Row("c", 0, b"%d" % limit)], "feed"), shop.log.clock(shop.us)
        )

    now_s = 0.0
    for limit in range(12):
        shop.decide(10)
        if limit >= 6:
            told(limit)
        now_s += RETRY_S
        while snapshotter.step(now_s):
            pass
        assert (TABLES in snapshotter.states) == (limit >= 6)
    assert snapshotter.problem is None
    assert len(saved_tables()) == 2
    start = TableState.of(shop.log, snapshots)
    assert start.tables.of("cards", "exact").values_at("c", 1) == b"11"
    assert start.position == shop.log.durable
    told(99)
    snapshotter.finish()
    assert saved_tables()[-1] == shop.log.durable


def test_a_state_is_saved_when_enough_has_come(shop, snapshotter, snapshots, tmp_path):
    now_s = 0.0
    while shop.log.durable < 100:
        shop.decide(7)
        snapshotter.step(now_s := now_s + 1)
    first, second = saved(shop, "v1", snapshots)
    assert EVERY <= second - first < EVERY + 7
    assert shop.log.durable - second < EVERY
    assert loaded(shop, "v1", snapshots).entries_since_snapshot == shop.log.durable - second
    assert_starts_are_as_good_as_replays(shop, snapshots, tmp_path)


def test_the_little_that_came_is_saved_after_a_while_and_nothing_when_nothing_came(shop, snapshotter, snapshots):
    shop.decide(EVERY - 5)
    snapshotter.step(0.0)
    shop.decide(1)
    snapshotter.step(AT_LATEST_S - 1)
    assert saved(shop, "v1", snapshots) == []
    snapshotter.step(AT_LATEST_S)
    assert saved(shop, "v1", snapshots) == [shop.log.durable]
    snapshotter.step(3 * AT_LATEST_S)
    shop.decide(1)
    snapshotter.step(3 * AT_LATEST_S + 1)
    assert saved(shop, "v1", snapshots)[-1] == shop.log.durable


def test_at_the_end_the_rest_is_taken_and_saved(shop, snapshotter, snapshots):
    snapshotter.step(0.0)
    shop.decide(5_000)
    shop.learn()
    snapshotter.finish()
    assert saved(shop, "v1", snapshots) == [shop.log.durable]
    snapshotter.finish()
    assert saved(shop, "v1", snapshots) == [shop.log.durable]


def test_a_step_is_bounded_and_it_saves_once_it_has_caught_up(shop, snapshotter, snapshots):
    for _ in range(100):
        shop.decide(50)
    assert snapshotter.step(0.0)
    (state,) = snapshotter.states.values()
    assert 4_096 <= state.position < 4_096 + 60
    assert saved(shop, "v1", snapshots) == []
    assert not snapshotter.step(1.0)
    assert saved(shop, "v1", snapshots) == [state.position] == [shop.log.durable]


def test_one_that_never_catches_up_saves_after_a_while(shop, snapshotter, snapshots):
    for step in range(3):
        for _ in range(100):
            shop.decide(50)
        assert snapshotter.step(step * AT_LATEST_S / 2)
    (position,) = saved(shop, "v1", snapshots)
    assert position < shop.log.durable - 2_000


# what it keeps


def test_it_keeps_what_decides_and_what_a_roll_back_returns_to(shop, snapshotter):
    def kept():
        for _ in range(2):  # it sees the change, then acts
            snapshotter.step(0.0)
        return set(snapshotter.states)

    of = {version: shop.state_id(version) for version in ("v1", "v2", "v3", "v4")}
    assert of["v1"] == of["v2"]
    assert kept() == {of["v1"]}
    shop.deploy(lambda deployment: deployment.with_experiment("v3"))
    assert kept() == {of["v1"], of["v3"]}
    shop.deploy(lambda deployment: deployment.aborted("enough"))
    assert kept() == {of["v1"]}
    shop.promote("v3")
    assert kept() == {of["v3"], of["v1"]}
    shop.promote("v4")
    assert kept() == {of["v4"], of["v3"]}
    shop.deploy(lambda deployment: deployment.rolled_back())
    assert kept() == {of["v3"], of["v1"]}
    assert snapshotter.problem is None
    assert kept_in(deployment_in(shop.log)) == ["v3", "v1"]


def test_a_state_that_is_let_go_and_returns_is_as_if_it_had_stayed(shop, snapshotter, snapshots, tmp_path):
    for now_s, version in enumerate(["v3", "v4", "v4", "v2", "v3"]):
        shop.promote(version)
        shop.decide(EVERY)
        for _ in range(2):
            snapshotter.step(float(now_s))
        assert_starts_are_as_good_as_replays(shop, snapshots, tmp_path)


def test_a_state_waits_until_it_is_known_where_it_begins(shop, snapshotter, snapshots, tmp_path):
    """v3 begins at the end of the log as it will be when it first decides."""
    apply(shop.log, lambda deployment: deployment.with_champion("v3"), shop.us)
    shop.decide(EVERY)
    snapshotter.step(0.0)
    assert set(snapshotter.states) == {shop.state_id("v1")}
    assert saved(shop, "v3", snapshots) == []
    shop.activate("v3")
    shop.decide(EVERY)
    for _ in range(2):
        snapshotter.step(1.0)
    assert saved(shop, "v3", snapshots) == [shop.log.durable]
    assert_starts_are_as_good_as_replays(shop, snapshots, tmp_path)


@pytest.fixture
def own_registry(four_models_home, tmp_path):
    shutil.copytree(four_models_home / "models", tmp_path / "models")
    return Registry(tmp_path / "models")


@pytest.mark.parametrize("damage", ["altered", "gone"])
def test_a_state_that_cannot_be_loaded_is_told_keeps_no_other_waiting_and_is_tried_again(
    shop, own_registry, snapshots, tmp_path, damage
):
    shop.promote("v3")
    model = own_registry.folder / "v1" / ("model.onnx" if damage == "altered" else "manifest.json")
    content = model.read_bytes()
    model.unlink() if damage == "gone" else model.write_bytes(content[:-1])
    snapshotter = Snapshotter(shop.log, own_registry, snapshots, EVERY)
    shop.decide(EVERY)
    snapshotter.step(0.0)
    assert "v1" in snapshotter.problem
    assert damage == "gone" or "altered after training" in snapshotter.problem
    assert saved(shop, "v3", snapshots) == [shop.log.durable]
    model.write_bytes(content)
    snapshotter.step(RETRY_S)
    assert snapshotter.problem is None
    assert saved(shop, "v1", snapshots) == saved(shop, "v3", snapshots)
    assert_starts_are_as_good_as_replays(shop, snapshots, tmp_path)


def test_a_state_is_loaded_anew_after_a_fault_in_the_middle_of_a_page(shop, snapshotter, snapshots, tmp_path):
    """What was taken of the page would be taken twice otherwise."""
    snapshotter.step(0.0)
    shop.decide(5)
    good = shop.made.decided([{"id": "a"}])
    shop.log.write(Kind.OUTCOMES, 1, shop.us, shop.made.outcomes([{"id": "t1", "is_fraud": True, "about": 0}]))
    shop.log.write(Kind.DECIDED, 1, shop.us, b"\xc1")
    snapshotter.step(1.0)
    assert "of a format that this version of Sentinel does not read" in snapshotter.problem
    assert snapshotter.states == {}
    shop.log.records[-1] = shop.log.records[-1]._replace(body=good)
    snapshotter.step(1.0 + RETRY_S)
    assert snapshotter.problem is None
    snapshotter.finish()
    assert saved(shop, "v1", snapshots) == [shop.log.durable]
    assert_starts_are_as_good_as_replays(shop, snapshots, tmp_path)


def test_a_state_that_fell_behind_what_the_log_keeps_is_told_of(shop, snapshotter):
    snapshotter.step(0.0)
    for _ in range(3):
        shop.decide(5)
    shop.log.prune(shop.log.durable - 5)
    snapshotter.step(1.0)
    assert "no longer kept" in snapshotter.problem
    snapshotter.step(1.0 + RETRY_S)
    assert "need the log from position" in snapshotter.problem


def test_a_full_disk_is_told_and_saving_is_tried_again(shop, snapshotter, snapshots, monkeypatch):
    shop.decide(EVERY)
    with monkeypatch.context() as full:
        full.setattr("sentinel.record.disk._KEPT_FREE", 2**60)
        snapshotter.step(0.0)
    assert "free some space" in snapshotter.problem
    shop.decide(1)
    snapshotter.step(RETRY_S)
    assert snapshotter.problem is None
    assert saved(shop, "v1", snapshots) == [shop.log.durable]


# what became void


def test_what_is_not_durable_is_in_no_snapshot(fake_log, registry, made, snapshots, tmp_path):
    """Later entries take the positions of those that are void: a snapshot of these would pass for one of them."""
    shop = Shop(fake_log.FakeLog(), registry, made)
    shop.promote("v1")
    snapshotter = Snapshotter(shop.log, registry, snapshots, EVERY)
    shop.log.delayed = True
    shop.decide(2 * EVERY)
    shop.decide(2 * EVERY)
    shop.log.advance()
    snapshotter.step(0.0)
    assert saved(shop, "v1", snapshots) == [shop.log.durable] != [shop.log.end]
    shop.log.recover()
    shop.decide(3 * EVERY)
    shop.log.advance()
    snapshotter.finish()
    assert saved(shop, "v1", snapshots)[-1] == shop.log.durable
    assert_starts_are_as_good_as_replays(shop, snapshots, tmp_path)


class FullDisk:
    """A disk that cannot sync for a while."""

    def __init__(self, disk):
        self._disk = disk
        self.is_full = False

    def __getattr__(self, name):
        return getattr(self._disk, name)

    def open_to_write(self, path):
        return self._watched(self._disk.open_to_write(path))

    def create(self, path):
        return self._watched(self._disk.create(path))

    def _watched(self, file):
        sync = file.sync

        def sync_or_not():
            if self.is_full:
                raise OSError(28, "No space left on device")
            sync()

        file.sync = sync_or_not
        return file


def test_what_a_failed_sync_made_void_is_in_no_snapshot(registry, made, snapshots, tmp_path):
    """On files: the record is there and whole, but the log never told that it is durable, and voids it."""
    disk = FullDisk(RealDisk())
    with contextlib.closing(FileLog(tmp_path / "log", FIRST_US, disk)) as log:
        shop = Shop(log, registry, made)
        shop.promote("v1")
        with contextlib.closing(FileLogReader(tmp_path / "log")) as reader:
            snapshotter = Snapshotter(reader, registry, snapshots, EVERY)
            shop.decide(EVERY)
            disk.is_full = True
            with pytest.raises(StorageProblem):
                shop.decide(EVERY)
            snapshotter.step(0.0)
            assert saved(shop, "v1", snapshots) == [log.durable]
            disk.is_full = False
            log.recover()
            shop.decide(2 * EVERY)
            snapshotter.step(1.0)
            assert saved(shop, "v1", snapshots)[-1] == log.durable
        assert_starts_are_as_good_as_replays(shop, snapshots, tmp_path)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["decide", "decide", "learn", "beat"]), st.integers(1, 30)),
        st.tuples(st.just("promote"), st.sampled_from(["v1", "v2", "v3", "v4"])),
        st.tuples(st.sampled_from(["roll back", "try", "promoted", "aborted"]), st.sampled_from(["v3", "v4"])),
        st.tuples(st.sampled_from(["step", "step", "restart", "finish", "damage", "void"]), st.integers(1, 20)),
    ),
    min_size=3,
    max_size=25,
)
CHANGES = {
    "promote": lambda deployment, version: deployment.with_champion(version),
    "roll back": lambda deployment, _: deployment.rolled_back(),
    "try": lambda deployment, version: deployment.with_experiment(version),
    "promoted": lambda deployment, _: deployment.promoted(),
    "aborted": lambda deployment, _: deployment.aborted("enough"),
}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_whatever_happens_a_start_from_a_snapshot_is_the_replay_to_the_last_bit(
    fake_log, registry, made, tmp_path_factory, steps
):
    folder = tmp_path_factory.mktemp("home")
    snapshots, shop = Snapshots(folder / "snapshots"), Shop(fake_log.FakeLog(), registry, made)
    shop.promote("v1")
    snapshotter, now_s = Snapshotter(shop.log, registry, snapshots, EVERY), 0.0
    for step, value in steps:
        if step in CHANGES:
            with contextlib.suppress(Exception):  # what is refused changes nothing
                shop.deploy(lambda deployment: CHANGES[step](deployment, value))  # noqa: B023 - called at once
        elif step == "step":
            snapshotter.step(now_s := now_s + value * LOOK_EVERY_S)
        elif step == "finish":
            snapshotter.finish()
        elif step == "restart":
            snapshotter = Snapshotter(shop.log, registry, snapshots, EVERY)
        elif step == "damage":
            for newest in sorted(snapshots.folder.glob("*.npz"))[-1:]:
                newest.write_bytes(newest.read_bytes()[:-value])
        elif step == "void":
            shop.log.delayed = True
            shop.decide(value)
            snapshotter.step(now_s)
            snapshotter.finish()
            shop.log.recover()
            shop.log.delayed = False
        else:
            getattr(shop, step)(value)
    snapshotter.finish()
    assert_starts_are_as_good_as_replays(shop, snapshots, folder)


# as a process


@pytest.fixture
def home(four_models_home, tmp_path):
    shutil.copytree(four_models_home, tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def live(home, made):
    """A shop that writes to the log of `home`."""
    with contextlib.closing(FileLog(log_folder(home), FIRST_US)) as log:
        shop = Shop(log, Registry(home / "models"), made)
        shop.us = log.clock(FIRST_US)
        shop.activate("v1")
        yield shop


@pytest.fixture
def start(home):
    """Starts a process, which ends with the test."""
    processes = []

    def starting(every=EVERY):
        command = [sys.executable, "-m", "sentinel.record.snapshotter", "--home", str(home), "--every", str(every)]
        processes.append(subprocess.Popen(command, stderr=subprocess.PIPE))
        return processes[-1]

    yield starting
    for process in processes:
        process.kill()
        process.communicate()


def test_it_follows_and_saves_a_last_time_when_it_is_asked_to_end(home, live, start):
    snapshots = Snapshots(home / "snapshots")
    live.decide(EVERY)
    process = start()
    wait_until(lambda: saved(live, "v1", snapshots) == [live.log.durable])
    live.decide(3)
    live.promote("v3")
    live.decide(2)
    wait_until(lambda: saved(live, "v3", snapshots) or process.poll() is None)
    time.sleep(LOOK_EVERY_S + 1)
    live.decide(1)
    process.terminate()
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, b"")
    for version in ("v1", "v3"):
        assert saved(live, version, snapshots)[-1] == live.log.durable
        assert loaded(live, version, snapshots).entries_since_snapshot == 0
    assert_starts_are_as_good_as_replays(live, snapshots, home)


def test_killed_at_any_moment_it_leaves_nothing_that_a_start_would_not_do_without(home, live, start):
    """Many cards, so that a snapshot takes a while to write, and most kills come in the middle of one."""
    snapshots, rng = Snapshots(home / "snapshots"), random.Random(1)
    half_written = 0
    for _ in range(6):
        process = start(every=1)
        before = set(snapshots.folder.iterdir())
        wait_until(lambda: set(snapshots.folder.iterdir()) - before)  # noqa: B023 - called at once
        until = time.monotonic() + rng.random() / 2
        while time.monotonic() < until:
            live.decide(5)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        half_written += any(path.suffix == ".spare" for path in snapshots.folder.iterdir())
        assert_starts_are_as_good_as_replays(live, snapshots, home, ["v1"])
    assert half_written
    assert saved(live, "v1", snapshots)


def test_a_second_one_waits_for_the_first(home, live, start):
    first = start()
    wait_until(lambda: (home / "snapshots" / "lock").exists() and (home / "snapshots" / "lock").stat().st_size)
    start()
    wait_until(lambda: problem_of(home, "snapshotter"))
    assert f"pid {first.pid}" in problem_of(home, "snapshotter")
    first.kill()
    live.decide(EVERY)
    wait_until(lambda: saved(live, "v1", Snapshots(home / "snapshots")))
    wait_until(lambda: problem_of(home, "snapshotter") is None)


def test_the_process_ends_with_its_parent(home, live):
    parent, child = parent_of("sentinel.record.snapshotter", home, "--every", "1")
    live.decide(1)
    wait_until(lambda: saved(live, "v1", Snapshots(home / "snapshots")))
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate()
    wait_until(lambda: not running(child))
    assert_starts_are_as_good_as_replays(live, Snapshots(home / "snapshots"), home, ["v1"])
