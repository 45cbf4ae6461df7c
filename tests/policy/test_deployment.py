"""The deployment record: what may follow what, and a file that survives whatever happens to its writers."""

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.errors import BundleProblem, DeploymentRefused, JournalProblem, NoExperiment
from sentinel.policy.deployment import REMEMBERED, Deployment, DeploymentRecord
from sentinel.policy.thresholds import Thresholds

STRICT = Thresholds(review=0.2, block=0.4)
LAX = Thresholds(review=0.8, block=None)
SERVED = Deployment().with_champion("v1")
TRYING = SERVED.with_experiment("v2")


@pytest.fixture
def record(tmp_path):
    return DeploymentRecord(tmp_path)


# what may follow what


def test_a_new_champion_remembers_the_one_before():
    third = SERVED.with_champion("v2").with_champion("v3")
    assert (third.champion, third.previous) == ("v3", ("v1", "v2"))


def test_the_first_champion_has_none_before_it():
    assert (SERVED.champion, SERVED.previous) == ("v1", ())


def test_the_same_champion_again_is_no_change():
    tuned = SERVED.with_thresholds(STRICT, "a")
    assert tuned.with_champion("v1") == tuned


def test_thresholds_go_with_the_champion_they_were_set_for():
    assert SERVED.with_thresholds(STRICT, "a").with_champion("v2").thresholds is None


def test_only_so_many_former_champions_are_remembered():
    deployment = Deployment()
    for n in range(REMEMBERED + 10):
        deployment = deployment.with_champion(f"v{n}")
    assert deployment.previous == tuple(f"v{n}" for n in range(9, REMEMBERED + 9))


def test_rolling_back_again_and_again_goes_back_to_the_first():
    deployment = SERVED.with_champion("v2").with_champion("v3").with_champion("v1")
    seen = []
    while deployment.previous:
        deployment = deployment.rolled_back()
        seen.append(deployment.champion)
    assert seen == ["v3", "v2", "v1"]
    with pytest.raises(DeploymentRefused, match="no other champion"):
        deployment.rolled_back()


def test_rolling_back_takes_the_thresholds_of_the_bundle():
    assert SERVED.with_champion("v2").with_thresholds(LAX, "a").rolled_back().thresholds is None


def test_an_experiment_begins_without_traffic_and_under_a_name_of_its_own():
    other = SERVED.with_experiment("v2")
    assert (TRYING.experiment.version, TRYING.experiment.split_percent) == ("v2", 0.0)
    assert TRYING.experiment.thresholds is None
    assert TRYING.experiment.id != other.experiment.id


def test_the_split_changes_and_the_experiment_stays_the_same():
    wider = TRYING.with_split(25.0)
    assert wider.experiment == msgspec.structs.replace(TRYING.experiment, split_percent=25.0)
    assert (wider.champion, wider.previous) == ("v1", ())


def test_a_promoted_challenger_brings_its_thresholds():
    after = TRYING.with_thresholds(LAX, "a").with_thresholds(STRICT, "b").with_split(50.0).promoted()
    assert (after.champion, after.previous, after.thresholds, after.experiment) == ("v2", ("v1",), STRICT, None)
    assert (after.ended.id, after.ended.version, after.ended.how) == (TRYING.experiment.id, "v2", "promoted")


def test_a_promoted_challenger_without_thresholds_has_those_of_its_bundle():
    assert TRYING.with_thresholds(LAX, "a").promoted().thresholds is None


def test_an_aborted_experiment_leaves_the_champion_as_it_was():
    tuned = TRYING.with_thresholds(LAX, "a").with_split(50.0)
    after = tuned.aborted("too many blocks", TRYING.experiment.id)
    assert (after.champion, after.previous, after.thresholds, after.experiment) == ("v1", (), LAX, None)
    assert (after.ended.how, after.ended.reason) == ("aborted", "too many blocks")


@pytest.mark.parametrize("before", [SERVED, TRYING, TRYING.promoted()], ids=["none", "another", "ended"])
def test_aborting_an_experiment_that_runs_no_more_changes_nothing(before):
    assert before.aborted("a guardrail of long ago", "0badcafe") == before


def test_thresholds_of_one_variant_leave_the_other_alone():
    both = TRYING.with_thresholds(STRICT, "a").with_thresholds(LAX, "b")
    assert (both.thresholds, both.experiment.thresholds) == (STRICT, LAX)
    assert both.with_thresholds(None, "b").thresholds == STRICT
    assert both.with_thresholds(None, "a").experiment.thresholds == LAX


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda: TRYING.with_champion("v3"), "v2 is running"),
        (lambda: TRYING.with_champion("v1"), "v2 is running"),
        (lambda: SERVED.with_champion("v3").with_experiment("v2").rolled_back(), "v2 is running"),
        (lambda: TRYING.with_experiment("v3"), "v2 is running already"),
        (lambda: SERVED.with_experiment("v1"), "champion itself"),
        (lambda: Deployment().with_experiment("v1"), "no champion"),
        (lambda: Deployment().rolled_back(), "no other champion"),
        (lambda: SERVED.with_split(10.0), "no experiment"),
        (lambda: SERVED.promoted(), "no experiment"),
        (lambda: SERVED.aborted("asked to"), "no experiment"),
        (lambda: SERVED.with_thresholds(LAX, "b"), "no experiment"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(change, words):
    with pytest.raises(NoExperiment if words == "no experiment" else DeploymentRefused, match=words):
        change()


VERSIONS = st.sampled_from(["v1", "v2", "v3"])
CHOSEN = st.sampled_from([None, STRICT, LAX])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("with_champion"), VERSIONS),
        st.tuples(st.just("with_experiment"), VERSIONS),
        st.tuples(st.just("rolled_back")),
        st.tuples(st.just("promoted")),
        st.tuples(st.just("aborted"), st.just("asked to")),
        st.tuples(st.just("with_split"), st.floats(0, 100)),
        st.tuples(st.just("with_thresholds"), CHOSEN, st.sampled_from("ab")),
    ),
    max_size=60,
)


@given(steps)
def test_no_order_of_changes_leads_astray(changes):
    deployment = Deployment()
    for name, *given_ in changes:
        try:
            deployment = getattr(deployment, name)(*given_)
        except (DeploymentRefused, NoExperiment):
            continue
        assert len(deployment.previous) <= REMEMBERED
        assert deployment.champion not in deployment.previous[-1:]
        assert deployment.champion is not None or (deployment.experiment is None and not deployment.previous)
        assert deployment.experiment is None or deployment.experiment.version != deployment.champion
    assert msgspec.json.decode(msgspec.json.encode(deployment), type=Deployment) == deployment


# the file


def test_a_home_without_a_record_has_an_empty_deployment_and_no_champion(record):
    assert record.read() == Deployment()
    assert record.mark() == DeploymentRecord(record.path.parent).mark()
    with pytest.raises(BundleProblem, match="sentinel train"):
        record.champion()


def test_a_change_is_read_by_everyone_and_has_the_next_revision(record):
    record.promote("v1")
    after = record.change(lambda deployment: deployment.with_experiment("v2"))
    assert DeploymentRecord(record.path.parent).read() == after
    assert (after.revision, after.champion, after.experiment.version) == (2, "v1", "v2")
    assert record.champion() == "v1"


def test_a_home_that_is_not_there_yet_is_made(tmp_path):
    record = DeploymentRecord(tmp_path / "some" / "home")
    record.promote("v1")
    assert record.champion() == "v1"


def test_no_change_is_no_revision_and_touches_no_file(record):
    record.promote("v1")
    before, raw = record.mark(), record.path.read_bytes()
    record.promote("v1")
    assert (record.mark(), record.path.read_bytes()) == (before, raw)


def test_a_refused_change_leaves_the_record_and_its_lock_as_they_were(record):
    record.promote("v1")
    with pytest.raises(NoExperiment):
        record.change(lambda deployment: deployment.promoted())
    assert record.read().revision == 1
    record.promote("v2")
    assert record.read().revision == 2


def test_every_change_changes_the_mark(record):
    marks = [record.mark()]
    for n in range(200):
        record.promote(f"v{n}")
        marks.append(record.mark())
    assert len(set(marks)) == len(marks)


def test_the_file_is_replaced_and_never_written_into(record):
    record.promote("v1")
    with record.path.open("rb") as reader:
        record.promote("v2")
        held = msgspec.json.decode(reader.read(), type=Deployment)
    assert (held.champion, record.champion()) == ("v1", "v2")


CANNOT = r"deployment\.json cannot be written \(.*\); nothing is changed. Free some space, or make the folder writable"


def on_call(number, monkeypatch, name):
    """The call of that number finds the disk full; it alone, since a test that goes on may write again."""
    called, real = [], os.fsync if name == "os.fsync" else Path.rename

    def sometimes(*given_):
        called.append(given_)
        if len(called) == number:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*given_)

    monkeypatch.setattr(name, sometimes)
    return called


@pytest.mark.parametrize("before", [None, "v1"])
@pytest.mark.parametrize(
    ("name", "number"),
    [("os.fsync", 1), ("pathlib.Path.rename", 1), ("os.fsync", 2)],
    ids=["the file", "its name", "the folder"],
)
def test_a_change_that_the_disk_does_not_take_leaves_the_old_one_and_no_draft(
    record, monkeypatch, before, name, number
):
    if before:
        record.promote(before)
    raw = record.path.read_bytes() if before else None
    with monkeypatch.context() as patched:
        called = on_call(number, patched, name)
        with pytest.raises(JournalProblem, match=CANNOT):
            record.promote("v2")
    assert len(called) >= number
    assert record.read().champion == before
    assert (record.path.read_bytes() if record.path.exists() else None) == raw
    assert not record.path.with_suffix(".draft").exists()
    record.promote("v3")
    assert (record.read().champion, record.read().previous) == ("v3", (before,) if before else ())


def test_a_full_device_leaves_the_old_one_and_no_draft(record):
    record.promote("v1")
    raw, mark = record.path.read_bytes(), record.mark()
    record.path.with_suffix(".draft").symlink_to("/dev/full")
    with pytest.raises(JournalProblem, match="No space left on device"):
        record.promote("v2")
    assert (record.path.read_bytes(), record.mark()) == (raw, mark)
    assert not record.path.with_suffix(".draft").is_symlink()
    record.promote("v2")
    assert record.read().revision == 2


@pytest.mark.parametrize("home", ["file", "file/home"])
def test_a_home_that_cannot_be_made_is_said(tmp_path, home):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(JournalProblem, match=CANNOT):
        DeploymentRecord(tmp_path / home).promote("v1")


def test_a_record_that_the_disk_does_not_give_is_said(record):
    record.path.mkdir()
    for attempt in (record.read, record.champion, lambda: record.promote("v1")):
        with pytest.raises(
            JournalProblem, match=r"deployment\.json cannot be read \(Is a directory\); look at the disk"
        ):
            attempt()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b'{"revision": 3, "champion": "v1", "prev',
        b'{"revision": "three"}',
        b'{"champion": "v1", "canary": "v2"}',
        b'{"champion": "v1", "experiment": {"id": "1", "version": "v2", "split_percent": 5, "began_at": "", "to": "x"}}',
        b'{"champion": "v1", "experiment": {"id": "1", "version": "v2", "split_percent": 101, "began_at": ""}}',
        b'{"champion": "v1", "thresholds": {"review": 1.5, "block": null}}',
        b'{"champion": "\xff"}',
        b"[]",
    ],
)
def test_a_damaged_file_says_what_to_do_and_is_not_written_over(record, raw):
    record.path.write_bytes(raw)
    for attempt in (record.read, record.champion, lambda: record.promote("v1")):
        with pytest.raises(BundleProblem, match=r"deployment\.json cannot be read .*; restore it, or delete it"):
            attempt()
    assert record.path.read_bytes() == raw
    record.path.unlink()
    record.promote("v1")
    assert record.champion() == "v1"


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
def test_a_change_that_no_one_could_read_back_is_refused(record, change):
    record.change(lambda deployment: deployment.with_champion("v1").with_experiment("v2"))
    before = record.read()
    with pytest.raises(DeploymentRefused):
        record.change(change)
    assert record.read() == before


# several writers

COUNTING = """
import msgspec, pathlib, sys
from sentinel.policy.deployment import DeploymentRecord

def next_one(deployment):
    return msgspec.structs.replace(deployment, shadow=str(int(deployment.shadow or 0) + 1))

record = DeploymentRecord(pathlib.Path(sys.argv[1]))
for _ in range(int(sys.argv[2])):
    print(record.change(next_one).revision, flush=True)
"""


def counting(home, times):
    return subprocess.Popen([sys.executable, "-c", COUNTING, str(home), str(times)], stdout=subprocess.PIPE, text=True)


def count_here(record, times):
    for _ in range(times):
        record.change(lambda one: msgspec.structs.replace(one, shadow=str(int(one.shadow or 0) + 1)))


def test_processes_and_threads_that_change_at_once_lose_nothing(record):
    writers = [counting(record.path.parent, 30) for _ in range(2)]
    threads = [threading.Thread(target=count_here, args=(record, 30)) for _ in range(2)]
    for thread in threads:
        thread.start()
    seen = [0]
    while any(writer.poll() is None for writer in writers):
        seen.append(record.read().revision)
    for thread in threads:
        thread.join()
    told = [int(line) for writer in writers for line in writer.stdout.read().split()]
    for writer in writers:
        writer.stdout.close()
        assert writer.wait() == 0
    after = record.read()
    assert (after.revision, after.shadow) == (120, "120")
    assert len(told) == len(set(told)) == 60
    assert seen == sorted(seen)


def test_a_writer_that_is_killed_leaves_a_whole_record_and_no_lock(record):
    acknowledged = 0
    for more in (1, 7, 20):
        with counting(record.path.parent, 10**6) as writer:
            for _ in range(more):
                acknowledged = int(writer.stdout.readline())
            os.kill(writer.pid, signal.SIGKILL)
            acknowledged = max([acknowledged, *map(int, writer.stdout.read().split("\n")[:-1])])
        after = record.read()
        assert after.revision in (acknowledged, acknowledged + 1)
        assert after.shadow == str(after.revision)
    count_here(record, 1)
    assert record.read().revision == after.revision + 1


def test_a_draft_that_was_left_behind_does_not_matter(record):
    record.promote("v1")
    record.path.with_suffix(".draft").write_bytes(b'{"champion": "v9"')
    assert record.champion() == "v1"
    record.promote("v2")
    assert record.champion() == "v2"
