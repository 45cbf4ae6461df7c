"""What is applied stands in the log: what may follow what, who sees it, and a change that cannot be made."""

import contextlib
import os
import pwd
import signal
import subprocess
import sys
import threading

import msgspec
import pytest

from sentinel.errors import BundleProblem, DeploymentRefused, NoExperiment, StorageProblem
from sentinel.policy.deployment import Deployment
from sentinel.policy.thresholds import Thresholds
from sentinel.record.applied import NAME, HomeDeployment, apply, by_this_user, deployment_in, log_folder
from sentinel.record.file_log import FileLog
from sentinel.record.log import Follower, Kind
from sentinel.record.log_reader import FileLogReader


@pytest.fixture
def log(fake_log):
    return fake_log.FakeLog()


@pytest.fixture
def home(tmp_path):
    return tmp_path / "some" / "home"


@pytest.fixture
def record(home):
    return HomeDeployment(home)


def promote(log, version):
    return apply(log, lambda deployment: deployment.with_champion(version), 7)


# in a log


def test_an_empty_log_has_an_empty_deployment(log):
    assert deployment_in(log) == Deployment()


def test_a_change_is_one_entry_with_the_next_revision_behind_one_that_says_whose_it_is(log):
    assert promote(log, "v1") == deployment_in(log) == Deployment(revision=1, champion="v1")
    after = apply(log, lambda deployment: deployment.with_experiment("v2"), 8)
    assert (after.revision, after.champion, after.experiment.version) == (2, "v1", "v2")
    assert [(one.kind, one.rows, one.received_us) for one in log.records] == [
        (Kind.AUDIT, 1, 7),
        (Kind.APPLIED, 1, 7),
        (Kind.AUDIT, 1, 8),
        (Kind.APPLIED, 1, 8),
    ]
    assert deployment_in(log) == after


def test_it_stands_whatever_is_written_later(log):
    promote(log, "v1")
    for n in range(100):
        log.write(Kind.HEARTBEAT, 1, 10 + n, b"")
    assert deployment_in(log).champion == "v1"


def test_no_change_is_no_entry(log):
    before = promote(log, "v1")
    assert promote(log, "v1") == before
    assert len(log.records) == 2


def test_a_refused_change_changes_nothing(log):
    before = promote(log, "v1")
    with pytest.raises(NoExperiment):
        apply(log, lambda deployment: deployment.promoted(), 7)
    assert (deployment_in(log), len(log.records)) == (before, 2)
    assert promote(log, "v2").revision == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one.with_split(150.0),
        lambda one: one.with_split(-0.1),
        lambda one: one.with_split(float("nan")),
        lambda one: one.with_thresholds(Thresholds(review=1.5, block=None), "a"),
        lambda one: one.with_thresholds(Thresholds(review=float("nan"), block=None), "b"),
    ],
)
def test_a_change_that_no_one_could_read_back_is_refused(log, change):
    promote(log, "v1")
    before = apply(log, lambda deployment: deployment.with_experiment("v2"), 7)
    with pytest.raises(DeploymentRefused, match="nothing is changed"):
        apply(log, change, 7)
    assert (deployment_in(log), len(log.records)) == (before, 4)


def test_a_change_that_the_log_does_not_take_changes_nothing(log):
    before = promote(log, "v1")
    log.fail()
    with pytest.raises(StorageProblem):
        promote(log, "v2")
    log.heal()
    log.recover()
    assert deployment_in(log) == before
    assert (promote(log, "v3").revision, deployment_in(log).previous) == (2, ("v1",))


def test_a_change_is_in_force_when_it_is_durable(fake_log):
    log = fake_log.FakeLog(delayed=True)
    promote(log, "v1")
    assert deployment_in(log) == Deployment()
    log.advance()
    assert deployment_in(log) == Deployment()  # only its entry of the audit is
    log.advance()
    assert deployment_in(log).champion == "v1"


def test_a_follower_meets_a_change_in_its_place(log):
    promote(log, "v1")
    log.write(Kind.HEARTBEAT, 1, 7, b"")
    after = promote(log, "v2")
    seen = [(one.position, one.kind) for one in Follower(log, 1).next()]
    assert seen == [
        (1, Kind.AUDIT), (2, Kind.APPLIED), (3, Kind.HEARTBEAT), (4, Kind.AUDIT), (5, Kind.APPLIED),
    ]  # fmt: skip
    assert msgspec.json.decode(log.at(5).body, type=Deployment) == after


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"revision": "three"}',
        b'{"champion": "v1", "canary": "v2"}',
        b'{"champion": "v1", "thresholds": {"review": 1.5, "block": null}}',
        b'{"champion": "\xff"}',
        b"[]",
    ],
)
def test_a_deployment_of_another_version_says_so_and_nothing_is_written_over_it(log, body):
    log.write(Kind.APPLIED, 1, 7, body, standing=NAME)
    for attempt in (lambda: deployment_in(log), lambda: promote(log, "v1")):
        with pytest.raises(
            BundleProblem, match="deployment at position 1 of the log is of another version of Sentinel"
        ):
            attempt()
    assert len(log.records) == 1


# of a home folder


def test_a_home_without_a_log_has_no_champion(record, home):
    assert record.read() == Deployment()
    with pytest.raises(BundleProblem, match="sentinel train"):
        record.champion()
    assert not home.exists()


def test_a_change_is_read_by_everyone_who_has_the_log_open(record, home):
    record.promote("v1")
    other = HomeDeployment(home)
    assert other.read() == record.read() == Deployment(revision=1, champion="v1")
    after = record.change(lambda deployment: deployment.with_experiment("v2"))
    assert other.read() == record.read() == after
    assert other.champion() == "v1"


def test_while_a_server_owns_the_log_only_it_can_change_and_others_see_it(record, home):
    record.promote("v1")
    with contextlib.closing(FileLog.open(log_folder(home), 1)) as log:
        with pytest.raises(StorageProblem, match=rf"in use by another Sentinel \(pid {os.getpid()}\)"):
            record.promote("v2")
        assert record.champion() == "v1"
        apply(log, lambda deployment: deployment.with_champion("v3"), log.clock(1))
        assert record.champion() == "v3"
    record.promote("v2")
    assert record.read().previous == ("v1", "v3")


def test_it_is_found_behind_many_segments(home):
    with contextlib.closing(FileLog(log_folder(home), 1, segment_bytes=4_096)) as log:
        promote(log, "v1")
        for n in range(200):
            log.write(Kind.HEARTBEAT, 1, 10 + n, bytes(100))
        assert log.sizes.segments > 3
    assert HomeDeployment(home).champion() == "v1"


@pytest.mark.parametrize("folder", ["file", "file/home"])
def test_a_home_that_cannot_be_made_is_said(tmp_path, folder):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageProblem, match="cannot be opened"):
        HomeDeployment(tmp_path / folder).promote("v1")


# several writers

COUNTING = """
import msgspec, pathlib, sys
from sentinel.errors import StorageProblem
from sentinel.record.applied import HomeDeployment

def next_one(deployment):
    return msgspec.structs.replace(deployment, shadow=str(int(deployment.shadow or 0) + 1))

record = HomeDeployment(pathlib.Path(sys.argv[1]))
done = 0
while done < int(sys.argv[2]):
    try:
        print(record.change(next_one).revision, flush=True)
        done += 1
    except StorageProblem as problem:
        assert "in use by another" in str(problem), problem
"""


def counting(home, times):
    return subprocess.Popen([sys.executable, "-c", COUNTING, str(home), str(times)], stdout=subprocess.PIPE, text=True)


def test_two_processes_that_change_at_once_lose_nothing_and_who_has_to_wait_is_told(record, home):
    record.change(lambda one: msgspec.structs.replace(one, shadow="0"))
    writers = [counting(home, 15) for _ in range(2)]
    told: list[list[int]] = [[], []]

    def listen(number):
        told[number] += [int(line) for line in writers[number].stdout]

    threads = [threading.Thread(target=listen, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    seen = [0]
    while any(writer.poll() is None for writer in writers):
        seen.append(record.read().revision)
    for thread in threads:
        thread.join()
    for writer in writers:
        writer.stdout.close()
        assert writer.wait() == 0
    after = record.read()
    assert (after.revision, after.shadow) == (31, "30")
    assert sorted(told[0] + told[1]) == list(range(2, 32))
    assert seen == sorted(seen)


def test_a_writer_that_is_killed_leaves_a_whole_deployment_and_no_lock(record, home):
    acknowledged = 0
    for more in (1, 3, 6):
        with counting(home, 10**6) as writer:
            for _ in range(more):
                acknowledged = int(writer.stdout.readline())
            os.kill(writer.pid, signal.SIGKILL)
            acknowledged = max([acknowledged, *map(int, writer.stdout.read().split("\n")[:-1])])
        after = record.read()
        assert after.revision in (acknowledged, acknowledged + 1)
        assert after.shadow == str(after.revision)
    after = record.change(lambda one: msgspec.structs.replace(one, champion="v1"))
    with contextlib.closing(FileLogReader(log_folder(home))) as log:
        assert deployment_in(log) == after


def test_who_asks_is_who_runs_the_process_and_not_who_the_environment_says(monkeypatch):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody-else")
    assert by_this_user("promote").who == f"user {pwd.getpwuid(os.getuid()).pw_name}"
