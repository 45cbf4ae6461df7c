"""The snapshotter's process: started again when it dies, asked to finish at the end, and how far behind it is is known."""

import contextlib
import os
import shutil
import signal
import time

import pytest

from sentinel.model.registry import Registry
from sentinel.record.applied import deployment_in, log_folder
from sentinel.record.file_log import FileLog
from sentinel.record.problem import problem_of
from sentinel.serve.lineup import load_lineup
from sentinel.serve.snapshotter_process import SnapshotterProcess

PATIENCE_S = 20.0


@pytest.fixture
def home(home_of, four_models_home, tmp_path):
    """A home folder with an engine on its log."""
    shutil.copytree(four_models_home, tmp_path / "home")
    registry = Registry(tmp_path / "home" / "models")
    log = FileLog.open(log_folder(tmp_path / "home"), 1)
    home = home_of(load_lineup(deployment_in(log), registry), log)
    home.now_us = log.clock(home.now_us)
    home.open()
    return home


@pytest.fixture
def process_of(home):
    """Makes processes, which end with the test: `process_of(every=..., patience_s=...)`."""
    with contextlib.ExitStack() as ending:

        def make(every=20, patience_s=PATIENCE_S):
            process = SnapshotterProcess(home.folder, home.log, every, patience_s)
            ending.callback(process.close)
            process.start()
            return process

        yield make


def status(home, process):
    return process.status(home.engine.states.values())


def until(what):
    end = time.monotonic() + 120
    while not what():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)


def newest(home):
    return max((int(path.stem.split("-")[1]) for path in (home.folder / "snapshots").glob("*.npz")), default=None)


def test_how_much_a_start_would_replay_is_known(home, process_of):
    (state,) = home.engine.states.values()
    unstarted = SnapshotterProcess(home.folder, home.log, 20, 0.0)
    home.pay(range(15))
    assert status(home, unstarted) == ("ok", home.log.durable - state.begin, 0)
    process = process_of()
    home.pay(range(15, 30))
    until(lambda: status(home, process).lag == 0)
    home.pay(range(30, 35))
    assert status(home, process).lag == 5


def test_at_the_end_it_saves_what_there_is(home, process_of):
    process = process_of()
    home.pay(range(30))
    until(lambda: newest(home))
    home.pay(range(30, 39))
    begun_s = time.monotonic()
    process.close()
    assert time.monotonic() - begun_s < PATIENCE_S
    assert newest(home) == home.log.durable
    before = home.held()
    home.close()
    home._given = FileLog.open(log_folder(home.folder), 1)
    home.open()
    assert home.held() == before


def test_without_patience_it_is_killed(home, process_of):
    process = process_of(patience_s=0.0)
    home.pay(range(30))
    until(lambda: newest(home))
    os.kill(process._child.pid, signal.SIGSTOP)
    home.pay(range(30, 60))
    pid = process._child.pid
    process.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    home.assert_states_are_those_of_a_replay()


def test_one_that_dies_is_started_again_and_told_of(home, process_of):
    process = process_of()
    home.pay(range(30))
    until(lambda: newest(home))
    os.kill(process._child.pid, signal.SIGKILL)
    until(lambda: "signal 9" in status(home, process).status)
    home.pay(range(30, 60))
    until(lambda: status(home, process) == ("ok", 0, 1))


def test_its_problem_is_told(home, process_of):
    """The bundle of the champion is altered after the server has loaded it."""
    model = home.folder / "models" / "v1" / "model.onnx"
    content = model.read_bytes()
    model.write_bytes(content[:-1])
    process = process_of()
    until(lambda: problem_of(home.folder, "snapshotter"))
    assert "v1: " in status(home, process).status
    assert "altered after training" in status(home, process).status
