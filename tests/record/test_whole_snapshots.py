"""Which snapshots can be relied on: whole ones of this plan and log, up to the end of the log, two of them."""

import msgspec
import numpy as np
import pytest

from sentinel.errors import DeploymentRefused, UnknownVersion
from sentinel.events.times import instant_us
from sentinel.model.bundle import load_bundle
from sentinel.record.entries import Activation, body_of
from sentinel.record.feature_state import origin_of
from sentinel.record.log import Kind
from sentinel.record.snapshots import Origin, Snapshots
from sentinel.record.whole_snapshots import StillKept, WholeSnapshots, check_kept

STATE = {"numbers": np.arange(100_000)}


@pytest.fixture(scope="module")
def manifest(shop_home):
    return load_bundle(shop_home / "models" / "v1").manifest


@pytest.fixture
def log(fake_log):
    log = fake_log.FakeLog()
    log.write(Kind.HEARTBEAT, 99, 5, b"")
    return log


@pytest.fixture
def snapshots(tmp_path):
    return Snapshots(tmp_path / "snapshots")


@pytest.fixture
def save(snapshots, manifest, log):
    def saving(*positions, origin=None):
        for position in positions:
            snapshots.save(manifest.state_id, position, origin or origin_of(log, manifest), STATE)

    return saving


@pytest.fixture
def kept_from(snapshots, manifest, log):
    whole = WholeSnapshots()
    return lambda begin=1: whole.kept_from(snapshots.folder, manifest, log, begin)


def file_at(snapshots, position):
    (path,) = snapshots.folder.glob(f"*-{position:012d}.npz")
    return path


def test_the_log_is_needed_from_the_second_newest_on(save, kept_from):
    assert kept_from() == (1, [])
    save(40)
    assert kept_from() == (1, [40])
    save(60)
    assert kept_from() == (40, [40, 60])
    save(80)
    assert kept_from() == (60, [60, 80])


def test_nothing_before_the_begin_of_a_state_is_needed(save, kept_from):
    assert kept_from(50) == (50, [])
    save(40, 60)
    assert kept_from(50) == (50, [60])


@pytest.mark.parametrize("where", [1, 5_000, 700_000, -30])
def test_a_damaged_one_does_not_count_and_a_repaired_one_does(save, kept_from, snapshots, where):
    save(40, 60)
    assert kept_from().position == 40
    path = file_at(snapshots, 60)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[where] ^= 1
    path.write_bytes(damaged)
    assert kept_from() == (1, [40])
    path.write_bytes(whole)
    assert kept_from() == (40, [40, 60])


def test_one_that_is_cut_short_does_not_count(save, kept_from, snapshots):
    save(40, 60)
    with file_at(snapshots, 40).open("r+b") as file:
        file.truncate(1_000)
    assert kept_from() == (1, [60])


def test_those_of_another_log_and_those_ahead_of_the_log_do_not_count(save, kept_from):
    save(40)
    save(60, origin=Origin("another plan or log", lambda _: None))
    assert kept_from() == (1, [40])
    save(70, 101)
    assert kept_from() == (1, [70])


def test_it_says_what_is_missing(save, kept_from):
    assert (
        str(kept_from()) == "needs the log from position 1 on: its state is not saved yet, and the last 2 saves count"
    )
    save(40)
    assert "its state is saved whole at 40, and the last 2 saves count" in str(kept_from())


def test_a_model_whose_entries_are_gone_is_refused_unless_a_snapshot_has_them(log, manifest, snapshots, save):
    check_kept(log, manifest, snapshots.folder)
    log.write(
        Kind.ACTIVATION, 1, 5, body_of(Activation(manifest.state_id, 50)), standing=f"activation:{manifest.state_id}"
    )
    check_kept(log, manifest, snapshots.folder)
    log.write(Kind.HEARTBEAT, 9, 5, b"")
    log.prune(101)
    with pytest.raises(UnknownVersion, match="need the log from position 50 on, and it begins at 101 by now"):
        check_kept(log, manifest, snapshots.folder)
    save(100)
    with pytest.raises(UnknownVersion, match="position 100 on"):
        check_kept(log, manifest, snapshots.folder)
    save(101)
    check_kept(log, manifest, snapshots.folder)


def test_what_was_checked_is_checked_again_once_entries_have_left(log, manifest, snapshots):
    log.write(Kind.HEARTBEAT, 9, 5, b"")
    kept = StillKept(log, manifest, snapshots.folder)
    kept.check()
    log.prune(101)
    with pytest.raises(DeploymentRefused, match=r"old entries left the log while v1 was checked.*ask again"):
        kept.check()


def test_a_model_that_was_never_served_is_refused_when_what_came_after_its_history_is_gone(
    fake_log, manifest, snapshots
):
    log = fake_log.FakeLog()
    last_us = manifest.history.last_us
    for received_us in (last_us - 5, last_us, last_us + 5, last_us + 9):
        log.write(Kind.HEARTBEAT, 1, received_us, b"")
    for before, is_kept in ((2, True), (3, True), (4, False)):
        log.prune(before)
        if is_kept:
            check_kept(log, manifest, snapshots.folder)
        else:
            with pytest.raises(
                UnknownVersion, match=r"ends at 2025-01-30.*is no longer kept; train on a newer history"
            ):
                check_kept(log, manifest, snapshots.folder)
    newer = msgspec.structs.replace(manifest.history, last_us=last_us + 5)
    check_kept(log, msgspec.structs.replace(manifest, history=newer), snapshots.folder)
    assert instant_us(manifest.created_at) > last_us + 9
