"""Faults of what the deciding process has within itself, brought about for real: is it answered as the table says?"""

import errno
import os
import shutil
import threading
import time

import msgspec
import numpy as np
import pytest

from sentinel.errors import SentinelError, StorageProblem
from sentinel.model.bundle import Bundle
from sentinel.model.registry import Registry
from sentinel.policy.breaker import BreakerSettings
from sentinel.policy.deployment import Deployment, Experiment
from sentinel.policy.fail_policy import FailPolicy
from sentinel.policy.fault_matrix import Dependency, Fault, Then
from sentinel.policy.model_call import MAX_STUCK, Limits
from sentinel.policy.thresholds import ACTIONS
from sentinel.record.disk import RealDisk, RealFile
from sentinel.record.file_log import FileLog
from sentinel.record.ids import IdIndex
from sentinel.record.journal import Journal
from sentinel.record.log_reader import FileLogReader
from sentinel.record.snapshots import Snapshots
from sentinel.review.drift import DriftSettings
from sentinel.serve.engine import Engine
from sentinel.serve.lineup import Contender, load_lineup
from sentinel.serve.observers import Observers
from sentinel.telemetry.counters import Counters, Slot

SERVED = Deployment(revision=1).with_champion("v1")
NEVER_NS = 2**62
CALM = Limits(deadline_s=10.0)
STUBBORN = BreakerSettings(trip_in_a_row=1_000, remembered=1_000, trip_share=1.0)
SLOTS = {"approve": Slot.ON_FAULT_APPROVE, "review": Slot.ON_FAULT_REVIEW, "block": Slot.ON_FAULT_BLOCK}
ANSWERS = ("rules", *SLOTS)
GENERATION = 16


@pytest.fixture(scope="module")
def lineup(shop_home):
    return load_lineup(SERVED, Registry(shop_home / "models"))


@pytest.fixture
def home(home_of, lineup):
    home = home_of(lineup)
    home.open()
    return home


def outcome_of(decide) -> Then:
    """What callers get: `decide` decides some transactions."""
    try:
        answers = decide()
    except SentinelError:  # the running engine refuses them with it
        return Then.REFUSED
    by = {one.decided_by for one in answers}
    assert len(by) == 1
    return Then.DECIDED if by == {"model"} else Then.CHOSEN


# the model


class Odd:
    """A model that does what it is told to, and else what the bundle's does."""

    def __init__(self, scorer, act=None) -> None:
        self.scorer = scorer
        self.n_features = scorer.n_features
        self.act = act

    def score(self, rows):
        return self.scorer.score(rows) if self.act is None else self.act(rows)


def altered(contender, scorer, version="v1", **on_fault):
    """A contender of the same history and features, with another model and another choice."""
    of = contender.bundle
    chosen = msgspec.to_builtins(FailPolicy(**on_fault))
    manifest = msgspec.structs.replace(of.manifest, version=version, on_fault=chosen)
    return Contender(Bundle(manifest, scorer, of.reference, of._state))


class Desk:
    """A home whose champion (a) or challenger (b) is odd; payments are those that this one decides."""

    def __init__(self, home, variant, on_fault):
        self.home, self.variant = home, variant
        champion = home.lineup.champion
        self.model = Odd(champion.scorer)
        home.lineup = home.lineup._replace(
            champion=altered(champion, champion.scorer if variant == "b" else self.model, **on_fault)
        )
        if variant == "b":
            challenger = altered(champion, self.model, "v2", **on_fault)
            experiment = Experiment("spring", "v2", 50.0, "2025-01-31T00:00:00Z")
            home.lineup = home.lineup._replace(challenger=challenger, experiment=experiment)
        self.numbers = [i for i in range(200) if home.lineup.variant(f"card-{i % 23}") == variant]

    def open(self, limits):
        self.home.reopen(limits)
        return self

    def pay(self, begin, end, due_ns=None):
        payments = [self.home.payment(i) for i in self.numbers[begin:end]]
        return self.home.handle(payments, due_ns and [due_ns] * len(payments))


@pytest.fixture(params=["a", "b"])
def variant(request):
    return request.param


@pytest.fixture(params=ANSWERS)
def chosen(request):
    return request.param


@pytest.fixture
def desk(home, variant, chosen, cell):
    return Desk(home, variant, {cell.choice: chosen})


def check_chosen(desk, cell, chosen, begin, answers):
    """Decided as chosen, for the reason in the table; counted, stored, and the same when it is asked again."""
    assert outcome_of(lambda: answers) is cell.then
    assert {one.degraded for one in answers} == {cell.reason}
    assert {one.decided_by for one in answers} == {"rules" if chosen == "rules" else "on_fault"}
    totals = desk.home.counters.totals()
    if chosen == "rules":
        assert {one.fraud_probability for one in answers} == {0.05}
        assert totals[Slot.ON_FAULT_RULES] >= len(answers)
    else:
        assert {one.decision for one in answers} == {chosen}
        assert totals[SLOTS[chosen]] >= len(answers)
        assert totals[Slot.ON_FAULT_RULES] == 0
    assert all(one.thresholds.action(one.fraud_probability) == one.decision for one in answers)
    desk.model.act = None
    desk.open(CALM)
    again = desk.pay(begin, begin + len(answers))
    assert [msgspec.structs.replace(one, replayed=True) for one in answers] == again
    stored = {row.transaction_id: row for row in desk.home.decisions()}
    for one in answers:
        row = stored[one.transaction_id]
        levels = desk.home.lineup.contender(desk.variant).on_fault.stand_in(row.decider.degraded)
        recomputed = levels.rules.score(row.features[None, :])
        assert recomputed.tolist() == [row.fraud_probability]
        assert ACTIONS[levels.rules.thresholds.levels(recomputed)[0]] == row.decision


@pytest.mark.fault(Dependency.MODEL, Fault.TIMEOUT)
def test_a_model_that_is_too_slow(desk, cell, chosen):
    desk.open(Limits(deadline_s=0.03, breaker=STUBBORN))
    desk.model.act = lambda _: time.sleep(0.2)
    check_chosen(desk, cell, chosen, 0, desk.pay(0, 5))


def nothing_like_a_probability(rows):
    return np.full(len(rows), np.nan, np.float32)


def no_answer(rows):
    raise RuntimeError("out of sorts")


@pytest.mark.parametrize("act", [
    no_answer, nothing_like_a_probability, lambda rows: np.full(len(rows), 1.01, np.float32), lambda _: None,
    lambda rows: np.zeros(len(rows) + 1, np.float32), lambda rows: [0.5] * len(rows),
])  # fmt: skip
@pytest.mark.parametrize("chosen", ["review"], indirect=True)
@pytest.mark.fault(Dependency.MODEL, Fault.ERROR)
def test_a_model_that_fails_in_whatever_way(desk, cell, chosen, act):
    desk.open(CALM)
    desk.model.act = act
    check_chosen(desk, cell, chosen, 0, desk.pay(0, 5))


@pytest.mark.fault(Dependency.MODEL, Fault.ERROR)
def test_a_model_that_raises(desk, cell, chosen):
    desk.open(CALM)
    desk.model.act = no_answer
    check_chosen(desk, cell, chosen, 0, desk.pay(0, 5))


@pytest.mark.fault(Dependency.MODEL, Fault.ABSENT)
def test_a_model_that_is_left_alone(desk, cell, chosen):
    desk.open(Limits(deadline_s=10.0, breaker=BreakerSettings(trip_in_a_row=1)))
    desk.model.act = no_answer
    desk.pay(0, 1)
    desk.model.act = None
    before = desk.home.counters.totals()[Slot.SHED_BREAKER_OPEN]
    answers = desk.pay(1, 6)
    assert desk.home.counters.totals()[Slot.SHED_BREAKER_OPEN] == before + 5
    desk.home.counters = Counters()
    desk.open(Limits(force_open=True))
    check_chosen(desk, cell, chosen, 6, desk.pay(6, 11))
    assert [one.decided_by for one in desk.pay(1, 6)] == [one.decided_by for one in answers]


@pytest.mark.fault(Dependency.MODEL, Fault.FULL)
def test_a_model_all_of_whose_threads_hang(desk, cell, chosen):
    desk.open(Limits(deadline_s=0.01, breaker=STUBBORN))
    release = threading.Event()
    desk.model.act = lambda _: release.wait(10) and None
    for i in range(MAX_STUCK + 1):
        desk.pay(i, i + 1)
    begun = time.monotonic()
    answers = desk.pay(20, 25)
    assert time.monotonic() - begun < 5
    release.set()
    check_chosen(desk, cell, chosen, 20, answers)


@pytest.mark.fault(Dependency.MODEL, Fault.STALE)
def test_a_model_whose_files_are_altered_or_gone_after_it_was_loaded(home_of, shop_home, tmp_path, cell):
    shutil.copytree(shop_home / "models", tmp_path / "models")
    home = home_of(load_lineup(SERVED, Registry(tmp_path / "models")))
    home.open()
    home.pay(range(5))
    (tmp_path / "models" / "v1" / "model.onnx").write_bytes(b"")
    assert outcome_of(lambda: home.pay(range(5, 10))) is cell.then
    shutil.rmtree(tmp_path / "models")
    assert outcome_of(lambda: home.pay(range(10, 15))) is cell.then


@pytest.mark.fault(Dependency.QUEUE, Fault.TIMEOUT)
def test_who_has_waited_too_long(desk, cell, chosen):
    desk.open(CALM)
    answers = desk.pay(0, 5, due_ns=time.monotonic_ns() - 1)
    in_time = desk.pay(5, 10, due_ns=NEVER_NS)
    assert {one.decided_by for one in in_time} == {"model"}
    check_chosen(desk, cell, chosen, 0, answers)


def test_the_operators_word_is_no_fault(home):
    """The rules alone: whatever the detector chose for faults."""
    champion = altered(
        home.lineup.champion, home.lineup.champion.scorer, left_alone="block", no_time="block", failed="block"
    )
    home.lineup = home.lineup._replace(champion=champion, fallback_only=True)
    home.reopen()
    assert {(one.degraded, one.decided_by, one.decision) for one in home.pay(range(5))} == {
        ("fallback only", "rules", "approve")
    }


# the features' state


@pytest.mark.fault(Dependency.FEATURES, Fault.ERROR)
def test_a_snapshot_that_is_damaged(home, cell):
    for begin in (0, 20, 40):
        home.pay(range(begin, begin + 20))
        home.save()
    newest = max((home.folder / "snapshots").glob("*.npz"))
    data = bytearray(newest.read_bytes())
    for place in range(len(data) // 3, len(data) // 3 * 2):
        data[place] ^= 0x55
    newest.write_bytes(data)
    home.reopen()
    assert outcome_of(lambda: home.pay(range(60, 70))) is cell.then
    home.assert_states_are_those_of_a_replay()


@pytest.mark.fault(Dependency.FEATURES, Fault.ABSENT)
def test_no_snapshot_at_all(home, cell):
    home.pay(range(20))
    home.save()
    shutil.rmtree(home.folder / "snapshots")
    (home.folder / "snapshots").mkdir()
    home.reopen()
    assert outcome_of(lambda: home.pay(range(20, 30))) is cell.then
    home.assert_states_are_those_of_a_replay()


@pytest.mark.fault(Dependency.FEATURES, Fault.STALE)
def test_a_transaction_older_than_the_newest_of_its_card(home, cell):
    home.pay(range(40))
    late = home.payment(500, event_time=home.payment(1).event_time, card="card-1", shop="elsewhere")
    answers = home.handle([late])
    assert outcome_of(lambda: answers) is cell.then
    assert answers[0].features_state == "late"


# the log


class Grudging(RealDisk):
    """A disk that does not return from a sync, or refuses to write, while it is told to."""

    def __init__(self):
        self.returns = threading.Event()
        self.returns.set()
        self.refuses: int | None = None

    def create(self, path):
        super().create(path).close()
        return self.open_to_write(path)

    def open_to_write(self, path):
        return GrudgingFile(os.open(path, os.O_RDWR), self)


class GrudgingFile(RealFile):
    def __init__(self, descriptor, disk):
        super().__init__(descriptor)
        self._disk = disk

    def write(self, offset, data):
        if self._disk.refuses is not None:
            raise OSError(self._disk.refuses, os.strerror(self._disk.refuses))
        super().write(offset, data)

    def sync(self):
        assert self._disk.returns.wait(30)
        super().sync()


@pytest.fixture
def disk():
    return Grudging()


@pytest.fixture
def on_disk(home_of, lineup, disk, tmp_path):
    log = FileLog(tmp_path / "home" / "log", 1_738_000_000_000_000, disk, segment_bytes=1 << 20)
    home = home_of(lineup, log)
    home.open()
    return home


@pytest.mark.fault(Dependency.LOG, Fault.TIMEOUT)
def test_a_disk_that_does_not_return(on_disk, disk, cell):
    answers = []
    disk.returns.clear()
    asking = threading.Thread(target=lambda: answers.extend(on_disk.pay(range(5))))
    asking.start()
    asking.join(0.5)
    assert (Then.HELD if asking.is_alive() and not answers else None) is cell.then
    disk.returns.set()
    asking.join(10)
    assert outcome_of(lambda: answers) is Then.DECIDED


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS])
@pytest.mark.fault(Dependency.LOG, Fault.ERROR)
def test_a_write_that_fails(on_disk, disk, cell, number):
    on_disk.pay(range(5))
    disk.refuses = number
    assert outcome_of(lambda: on_disk.pay(range(5, 10), at_once=5)) is cell.then
    disk.refuses = None
    on_disk.recover()
    assert [row.transaction_id for row in on_disk.decisions()] == [f"t{i}" for i in range(5)]
    assert not any(one.replayed for one in on_disk.pay(range(5, 10)))
    on_disk.assert_states_are_those_of_a_replay()


@pytest.mark.fault(Dependency.LOG, Fault.STALE)
def test_a_log_put_back_from_an_older_copy(home, cell, tmp_path):
    home.pay(range(10))
    home.close()
    shutil.copytree(home.folder / "log", tmp_path / "copy")
    home.open()
    home.pay(range(10, 30))
    home.save()
    home.close()
    shutil.rmtree(home.folder / "log")
    shutil.copytree(tmp_path / "copy", home.folder / "log")
    home.open()
    answers = home.pay(range(10, 30))
    assert outcome_of(lambda: answers) is cell.then
    assert not any(one.replayed for one in answers)
    assert all(one.replayed for one in home.pay(range(30)))
    home.assert_states_are_those_of_a_replay()


@pytest.mark.fault(Dependency.LOG, Fault.ABSENT)
def test_a_log_without_a_segment(home, cell):
    home.pay(range(10))
    home.close()
    for segment in (home.folder / "log").glob("*.segment"):
        segment.unlink()
    with pytest.raises(StorageProblem, match="missing"):
        home.open()
    assert cell.then is Then.NOT_STARTED


# the id index


def open_with_small_files(home) -> None:
    """An engine whose id index writes a file after so many ids."""
    home.close()
    home.log = FileLog.open(home.folder / "log", home.now_us, 1 << 20)
    journal = Journal(home.log, IdIndex(home.folder / "ids", home.log, GENERATION))
    home.engine = Engine(home.lineup, journal, Snapshots(home.folder / "snapshots"), CALM, home.counters)
    home.engine.begin(home.now_us)


@pytest.fixture
def indexed(home):
    open_with_small_files(home)
    home.pay(range(100))
    until(lambda: len(files(home)) >= 2)
    return home


def files(home):
    return sorted((home.folder / "ids").glob("*.ids"))


def until(what):
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)


def check_ids(home, cell, numbers):
    """New ones are decided, and all are found again."""
    assert outcome_of(lambda: home.pay(numbers)) is cell.then
    assert all(one.replayed for one in home.pay(range(numbers[-1])))


@pytest.mark.fault(Dependency.IDS, Fault.ERROR)
def test_a_file_of_ids_that_is_damaged(indexed, cell):
    data = bytearray(files(indexed)[0].read_bytes())
    data[-3] ^= 1
    files(indexed)[0].write_bytes(data)
    open_with_small_files(indexed)
    check_ids(indexed, cell, range(100, 110))


@pytest.mark.fault(Dependency.IDS, Fault.STALE)
def test_files_of_ids_without_the_newest(indexed, cell):
    indexed.close()
    for newer in files(indexed)[1:]:
        newer.unlink()
    indexed.open()
    open_with_small_files(indexed)
    check_ids(indexed, cell, range(100, 110))


@pytest.mark.fault(Dependency.IDS, Fault.ABSENT)
def test_the_files_of_ids_are_gone(indexed, cell):
    shutil.rmtree(indexed.folder / "ids")  # while it runs
    check_ids(indexed, cell, range(100, 140))
    open_with_small_files(indexed)
    check_ids(indexed, cell, range(140, 150))


@pytest.fixture
def next_file(home_of, lineup, indexed):
    """The name under which the index will write next, found with a home that is treated alike."""
    twin = home_of(lineup, folder="twin")
    twin.open()
    open_with_small_files(twin)
    twin.pay(range(100))
    until(lambda: len(files(twin)) >= len(files(indexed)))
    before = files(twin)
    twin.pay(range(100, 100 + 3 * GENERATION))
    until(lambda: len(files(twin)) > len(before))
    return indexed.folder / "ids" / min(set(files(twin)) - set(before)).with_suffix(".draft").name


@pytest.mark.fault(Dependency.IDS, Fault.FULL)
def test_no_room_for_a_file_of_ids(indexed, next_file, cell, caplog):
    next_file.symlink_to("/dev/full")
    check_ids(indexed, cell, range(100, 100 + 3 * GENERATION))
    until(lambda: "no ids written, they stay in memory" in caplog.text)
    assert "No space left" in caplog.text
    check_ids(indexed, cell, range(148, 160))


@pytest.mark.fault(Dependency.IDS, Fault.TIMEOUT)
def test_a_file_of_ids_that_takes_for_ever(indexed, next_file, cell, request):
    os.mkfifo(next_file)  # whoever opens it to write waits until someone reads
    request.addfinalizer(lambda: os.close(os.open(next_file, os.O_RDONLY | os.O_NONBLOCK)))
    before = files(indexed)
    check_ids(indexed, cell, range(100, 100 + 3 * GENERATION))
    time.sleep(1.0)
    assert files(indexed) == before
    check_ids(indexed, cell, range(148, 160))


# drift and tallies


class Grumpy(FileLogReader):
    """A reader of the log that waits, or fails, while it is told to."""

    problem: StorageProblem | None = None

    def __init__(self, folder):
        super().__init__(folder)
        self.reads = threading.Event()
        self.asked = threading.Event()

    def read(self, position, limit):
        self.asked.set()
        assert self.reads.wait(30)
        if self.problem is not None:
            raise self.problem
        return super().read(position, limit)


@pytest.fixture
def observed(home):
    """A reader for observers beside the engine, and the observers."""
    home.pay(range(5))
    reader = Grumpy(home.folder / "log")
    observers = Observers(reader, DriftSettings(window=500), 10.0, 5.0)
    observers.follow(SERVED, home.lineup)
    yield reader, observers
    reader.reads.set()
    observers.stop()
    reader.close()


@pytest.mark.fault(Dependency.OBSERVERS, Fault.TIMEOUT)
def test_observers_that_wait_for_the_log(home, observed, cell):
    reader, observers = observed
    observers.start()
    assert reader.asked.wait(10)
    assert outcome_of(lambda: home.pay(range(5, 10))) is cell.then
    reader.reads.set()
    observers.catch_up()
    assert observers.drift_report().current_count == 10


@pytest.mark.fault(Dependency.OBSERVERS, Fault.ERROR)
def test_observers_that_cannot_read_the_log(home, observed, cell, caplog):
    reader, observers = observed
    reader.problem = StorageProblem("the disk is in a mood")
    reader.reads.set()
    observers.start()
    until(lambda: "cannot be counted: the disk is in a mood" in caplog.text)
    assert outcome_of(lambda: home.pay(range(5, 10))) is cell.then
    reader.problem = None
    until(lambda: observers.drift_report().current_count == 10)


@pytest.mark.fault(Dependency.OBSERVERS, Fault.STALE)
def test_observers_that_are_behind(home, observed, cell):
    reader, observers = observed
    reader.reads.set()
    observers.catch_up()
    assert outcome_of(lambda: home.pay(range(5, 25))) is cell.then
    assert observers.drift_report().current_count == 5
    observers.catch_up()
    assert observers.drift_report().current_count == 25


@pytest.mark.fault(Dependency.OBSERVERS, Fault.FULL)
def test_observers_whose_window_is_full(home, observed, cell):
    reader, observers = observed
    reader.reads.set()
    assert outcome_of(lambda: home.pay(range(5, 600), at_once=100)) is cell.then
    observers.catch_up()
    assert observers.drift_report().current_count == 500


@pytest.mark.fault(Dependency.OBSERVERS, Fault.ABSENT)
def test_observers_without_a_log(home, cell):
    observers = Observers(None, DriftSettings(window=500), 10.0, 5.0)
    observers.follow(SERVED, home.lineup)
    observers.catch_up()
    assert outcome_of(lambda: home.pay(range(5))) is cell.then
    observers.observe(np.zeros((3, 12), np.float32), np.zeros(3, np.float32))
    assert observers.drift_report().current_count == 3
