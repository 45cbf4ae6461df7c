"""Pruning the log of an engine: what leaves is missed by nobody, and what is needed stays and is named."""

import shutil
import threading
import time
from contextlib import closing

import msgspec
import pytest

from sentinel.events.reference_tables.versions import Row
from sentinel.model.bundle import load_bundle
from sentinel.model.registry import Registry
from sentinel.policy.deployment import Deployment
from sentinel.record.applied import apply, deployment_in
from sentinel.record.archive.archiver import Archiver
from sentinel.record.archive.place import open_archive
from sentinel.record.audit import SENTINEL, Change
from sentinel.record.entries import TableRows
from sentinel.record.log_reader import FileLogReader
from sentinel.record.projector import Projector, schemas_of
from sentinel.record.pruning import Outlook, Pruner, Retention
from sentinel.record.segment import bases_in
from sentinel.record.snapshots import Snapshots
from sentinel.record.snapshotter import Snapshotter
from sentinel.record.verify import verify
from sentinel.record.views.place import ViewPlace
from sentinel.record.views.sqlite import FILE, SqliteView
from sentinel.serve.lineup import Contender, Lineup
from sentinel.shadow.needs import fingerprint, shadow_needs, snapshot_folder
from sentinel.shadow.scoring import Shadow
from sentinel.shadow.settings import ShadowSettings

HOUR_US = 3_600_000_000
KEPT = Retention(keep_us=10 * HOUR_US, remember_us=10 * HOUR_US)


@pytest.fixture(scope="module")
def lineup(shop_home):
    return Lineup(1, Contender(load_bundle(shop_home / "models" / "v1")))


class PrunedHome:
    """A home whose log has many small segments, and its pruner."""

    def __init__(self, home, models) -> None:
        self.home = home
        shutil.copytree(models, home.folder / "models")
        home.segment = 8_192
        home.open()
        apply(home.log, lambda _nothing: Deployment().with_champion("v1"), home.now_us)

    @property
    def log(self):
        return self.home.log

    def pay_for_hours(self, begin, hours, *, saved=True):
        """Ten payments an hour, and snapshots of the states twice at the end."""
        for hour in range(begin, begin + hours):
            self.home.now_us += HOUR_US
            self.home.pay(range(10 * hour, 10 * hour + 10))
            if saved and hour >= begin + hours - 2:
                self.save()

    def save(self):
        """What the snapshotter does now and then."""
        snapshotter = Snapshotter(
            self.log, Registry(self.home.folder / "models"), Snapshots(self.home.folder / "snapshots"), every=1
        )
        while snapshotter.step(0.0):
            pass
        assert snapshotter.problem is None

    def project(self):
        with closing(SqliteView(self.home.folder / FILE)) as view:
            projector = Projector(view, self.log, lambda: schemas_of(self.home.folder))
            while projector.step():
                pass

    def close_segment(self, made_before_us):
        self.log.close_segment(made_before_us, self.home.now_us)

    def forget_ids(self, before):
        self.home.engine.journal.forget_before(before)

    def outlook(self):
        return Outlook(self.home.folder, self.log, ViewPlace(self.home.folder), shadow_needs)

    def prune(self, retention=KEPT, rest=time.sleep):
        pruner, steps = Pruner(self.log, self.outlook(), self, rest), []
        while not steps or steps[-1].more:
            steps.append(pruner.step(retention, self.home.now_us))
        return steps

    def archive(self, address):
        with closing(FileLogReader(self.home.folder / "log")) as log:
            archiver = Archiver(self.home.folder, log, open_archive(address, self.home.folder))
            while archiver.step(self.home.now_us):
                pass

    def held_by(self, retention=KEPT):
        return [need.why for need in self.outlook().plan(retention, 99, self.home.now_us).held_by]


@pytest.fixture
def pruned(home_of, lineup, shop_home):
    return PrunedHome(home_of(lineup), shop_home / "models")


@pytest.fixture
def twin(home_of, lineup, shop_home):
    return PrunedHome(home_of(lineup, folder="twin"), shop_home / "models")


def features(pruned):
    return [(row.transaction_id, row.features.tobytes()) for row in pruned.home.decisions()]


def test_after_pruning_and_a_restart_all_is_as_in_a_twin_that_was_never_pruned(pruned, twin):
    for one in (pruned, twin):
        one.pay_for_hours(0, 30)
        one.home.handle([one.home.outcome(i, is_fraud=i % 3 == 0) for i in range(250, 300)])
        one.project()
    steps = pruned.prune()
    assert len(steps) > 2
    assert all(step.removed <= 4 for step in steps)
    first = pruned.log.first
    assert first > 150 > twin.log.first == 1
    assert verify(pruned.home.folder / "log").findings == []
    for restart in (False, True, True):
        if restart:
            pruned.home.reopen()
            twin.home.reopen()
        assert pruned.home.held() == twin.home.held()
        repeats = [
            [msgspec.structs.replace(one, latency_us=0) for one in each.home.pay(range(290, 295))]
            for each in (pruned, twin)
        ]
        assert repeats[0] == repeats[1]
        assert all(one.replayed for one in repeats[0])
        begin = 30 + 2 * len(pruned.home.outcomes())
        for one in (pruned, twin):
            one.pay_for_hours(begin, 2)
            one.home.handle([one.home.outcome(10 * begin)])
        assert features(pruned) == features(twin)[-len(features(pruned)) :]


def test_what_is_forgotten_is_new_and_what_is_remembered_is_not(pruned):
    pruned.pay_for_hours(0, 30)
    pruned.project()
    before = pruned.home.pay(range(250, 300))
    assert all(one.replayed for one in before)
    pruned.prune(Retention(20 * HOUR_US, 10 * HOUR_US))
    assert [one.replayed for one in pruned.home.pay([199, 150])] == [False, False]  # in the log, and forgotten
    assert [one.replayed for one in pruned.home.pay(range(200, 300))] == [True] * 100
    (unknown,) = pruned.home.handle([pruned.home.outcome(5)])
    assert not unknown.known


def test_an_outcome_of_a_decision_that_is_forgotten_is_none_of_the_next_one(pruned):
    pruned.pay_for_hours(0, 30)
    pruned.home.handle([pruned.home.outcome(150)])
    pruned.project()
    pruned.prune(Retention(20 * HOUR_US, 10 * HOUR_US))
    assert [one.replayed for one in pruned.home.pay([150])] == [False]
    assert [one.replayed for one in pruned.home.handle([pruned.home.outcome(150)] * 2)] == [False, True]


def test_nothing_leaves_on_the_strength_of_a_plan_that_a_change_came_after(pruned, monkeypatch):
    """The plan knows nobody who needs the oldest entries; then, before they leave, a change names somebody who may."""
    pruned.pay_for_hours(0, 30)
    pruned.project()
    plan, changes = Outlook.plan, iter(["none yet", "now"])

    def changed_after(outlook, *args):
        made = plan(outlook, *args)
        if next(changes, None) == "now":
            apply(pruned.log, lambda now: msgspec.structs.replace(now, fallback_only=True), pruned.home.now_us)
        return made

    monkeypatch.setattr(Outlook, "plan", changed_after)
    pruner = Pruner(pruned.log, pruned.outlook(), pruned, time.sleep)
    assert pruner.step(KEPT, pruned.home.now_us).removed == 0
    assert pruned.log.first == 1
    assert pruner.step(KEPT, pruned.home.now_us).removed == 4


def test_a_change_and_a_removal_do_not_happen_at_once(pruned):
    pruned.pay_for_hours(0, 30)
    pruned.project()
    seen = []

    def change(now):
        pruning = threading.Thread(target=pruned.prune)
        pruning.start()
        pruning.join(0.3)
        seen.append((pruning.is_alive(), pruned.log.first))
        waiting.append(pruning)
        return msgspec.structs.replace(now, fallback_only=True)

    waiting = []
    apply(pruned.log, change, pruned.home.now_us)
    waiting[0].join()
    assert seen == [(True, 1)]


def test_nothing_young_leaves(pruned):
    pruned.pay_for_hours(0, 5)
    pruned.project()
    (step,) = pruned.prune()
    assert (step.removed, step.held_by, step.first) == (0, [], 1)


def test_a_log_that_is_kept_for_ever_is_not_pruned(pruned):
    pruned.pay_for_hours(0, 30)
    pruned.project()
    bases = bases_in(path.name for path in (pruned.home.folder / "log").iterdir())
    (step,) = pruned.prune(Retention(None, HOUR_US))
    assert (step.removed, step.held_by, step.segments) == (0, [], len(bases))
    assert [one.replayed for one in pruned.home.pay([0, 299])] == [False, True]


def test_a_segment_that_is_never_full_is_closed_and_leaves(pruned):
    """Three payments, then silence for days."""
    pruned.home.pay(range(3))
    pruned.project()
    assert len(bases_in(path.name for path in (pruned.home.folder / "log").iterdir())) == 1
    while pruned.log.first <= 3:
        pruned.home.now_us += 11 * HOUR_US
        assert pruned.home.now_us < 1_800_000_000_000_000
        pruned.project()
        pruned.save()
        pruned.prune()
    assert pruned.log.durable < 12
    pruned.home.close()
    pruned.home.open()
    assert [one.replayed for one in pruned.home.pay(range(3))] == [False] * 3


def test_an_idle_log_gains_a_heartbeat_a_day_and_no_more(pruned):
    pruned.home.pay(range(3))
    pruned.project()
    retention = Retention(30 * 24 * HOUR_US, 24 * HOUR_US)
    pruned.home.now_us += 25 * HOUR_US
    pruned.prune(retention)
    end = pruned.log.durable
    for _ in range(48):
        pruned.home.now_us += HOUR_US
        pruned.prune(retention)
    assert pruned.log.durable - end == 1


def test_what_leaves_is_archived_before_and_is_the_log_again_when_it_is_put_back(pruned, tmp_path):
    pruned.pay_for_hours(0, 30)
    pruned.project()
    everything = features(pruned)
    kept = msgspec.structs.replace(KEPT, archive=str(tmp_path / "archive"))
    pruned.prune(kept)
    assert features(pruned) == everything, "nothing is in the archive yet"
    assert pruned.held_by(kept) == [f"the archive {tmp_path / 'archive'} has its segments before position 0"]
    pruned.archive(kept.archive)
    pruned.prune(kept)
    assert len(features(pruned)) < len(everything)
    for copy in (tmp_path / "archive" / pruned.log.log_id).glob("*.segment"):
        shutil.copy(copy, pruned.home.folder / "log")
    assert features(pruned) == everything
    pruned.home.reopen()
    assert verify(pruned.home.folder / "log").findings == []
    assert [one.replayed for one in pruned.home.pay(range(300))] == [True] * 300


# what holds back


def test_ids_that_are_remembered_hold_it_back(pruned):
    pruned.pay_for_hours(0, 30)
    pruned.project()
    (why, *_) = pruned.held_by(Retention(10 * HOUR_US, 48 * HOUR_US))
    assert why == "its ids are remembered for 2 days (SENTINEL_REMEMBER_IDS)"
    assert why not in pruned.held_by(Retention(10 * HOUR_US, 10 * HOUR_US))


def test_a_view_that_is_behind_holds_it_back(pruned):
    pruned.pay_for_hours(0, 30)
    assert "the view, views.db, has read up to position 0" in pruned.held_by()
    pruned.project()
    assert not any("view" in why for why in pruned.held_by())


def test_a_state_without_two_snapshots_holds_it_back(pruned):
    pruned.pay_for_hours(0, 30, saved=False)
    pruned.project()
    (why,) = pruned.held_by()
    assert why.startswith("the champion v1 needs the log from position 1 on")
    pruned.save()
    (why,) = pruned.held_by()
    assert "saved whole at" in why
    pruned.pay_for_hours(30, 1)
    assert pruned.held_by() == []


def test_an_experiment_holds_back_what_its_tallies_count(pruned, two_models_home):
    shutil.copytree(two_models_home / "models", pruned.home.folder / "models", dirs_exist_ok=True)
    pruned.pay_for_hours(0, 15)
    apply(pruned.log, lambda now: now.with_experiment("v2"), pruned.home.now_us)
    began = deployment_in(pruned.log).experiment
    began = msgspec.structs.replace(began, began_at="2025-02-02T14:00:00Z")  # as if it had begun then
    apply(pruned.log, lambda now: msgspec.structs.replace(now, experiment=began), pruned.home.now_us)
    pruned.pay_for_hours(15, 15)
    pruned.project()
    assert any(why.startswith("the experiment with v2 is counted from position") for why in pruned.held_by())


def test_who_begins_to_need_a_segment_meanwhile_keeps_it(pruned, four_models_home):
    shutil.copytree(four_models_home / "models", pruned.home.folder / "models", dirs_exist_ok=True)
    pruned.pay_for_hours(0, 30)
    pruned.project()
    second = pruned.log.closed(1)[0].until

    def rest(_seconds):  # after the first segment was removed
        apply(pruned.log, lambda now: now.with_experiment("v3"), pruned.home.now_us)

    (step,) = pruned.prune(KEPT, rest)
    assert (step.removed, pruned.log.first) == (1, second)
    assert "the challenger v3 was not served yet" in step.held_by


def test_a_challenger_that_was_not_served_yet_holds_all_of_it_back(pruned, four_models_home):
    shutil.rmtree(pruned.home.folder / "models")
    shutil.copytree(four_models_home / "models", pruned.home.folder / "models")
    pruned.pay_for_hours(0, 30)
    pruned.project()
    apply(pruned.log, lambda now: now.with_experiment("v3"), pruned.home.now_us)
    assert "the challenger v3 was not served yet" in pruned.held_by()


def test_the_champion_before_it_holds_it_back_until_new_snapshots_are_made(pruned, four_models_home):
    """v4 has another state than v1."""
    shutil.rmtree(pruned.home.folder / "models")
    shutil.copytree(four_models_home / "models", pruned.home.folder / "models")
    home = pruned.home
    pruned.pay_for_hours(0, 10)
    home.close()
    home.open()
    lineup = Lineup(2, Contender(load_bundle(four_models_home / "models" / "v4")))
    home.engine.switch(lineup, home.engine.prepare(lineup), home.now_us)
    apply(home.log, lambda now: now.with_champion("v4"), home.now_us)
    home.lineup = lineup
    pruned.pay_for_hours(10, 30, saved=False)
    pruned.project()
    assert any(why.startswith("the champion v4 needs the log") for why in pruned.held_by())
    assert any(why.startswith("the previous champion v1 needs the log") for why in pruned.held_by())
    pruned.pay_for_hours(40, 2)
    pruned.project()
    pruned.prune()
    assert pruned.log.first > 250
    old = Lineup(3, Contender(load_bundle(four_models_home / "models" / "v1")))
    fresh = home.engine.prepare(old)  # it can return
    home.engine.switch(old, fresh, home.now_us)
    shutil.rmtree(home.folder / "models" / "v1")
    assert not any("v1" in why for why in pruned.held_by()), "one that was deleted cannot return"


def test_a_model_that_cannot_be_read_holds_all_of_it_back(pruned):
    pruned.pay_for_hours(0, 30)
    pruned.project()
    shutil.rmtree(pruned.home.folder / "models" / "v1")
    (why,) = pruned.held_by()
    assert "there is no model 'v1'" in why


def test_a_shadow_holds_back_what_it_has_not_read_or_could_not_find_again(pruned, shop_home):
    home = pruned.home
    pruned.pay_for_hours(0, 12)
    apply(home.log, lambda now: msgspec.structs.replace(now, shadow="v1"), home.now_us)
    pruned.pay_for_hours(12, 12)
    pruned.project()
    assert "the shadow v1 has not begun to read the log" in pruned.held_by()
    with closing(Shadow(home.folder, "v1", ShadowSettings())) as shadow:
        assert any(why.startswith("the shadow v1 needs the log from position 1 on") for why in pruned.held_by())
        pruned.pay_for_hours(24, 30)
        pruned.project()
        (read_up_to,) = [why for why in pruned.held_by() if "the shadow v1 has read up to position" in why]
        while shadow.step():
            pass
        assert read_up_to not in pruned.held_by()
        assert shadow.progress.seq == home.log.durable
        for hour in (54, 55):
            shadow._saved_s -= 3_601
            pruned.pay_for_hours(hour, 1)
            shadow.step()
        assert not any("shadow" in why for why in pruned.held_by())
    folder = snapshot_folder(home.folder, shadow.progress)
    assert fingerprint(shadow._bundle.manifest, home.log) == shadow.progress.bundle_sha256
    shutil.rmtree(folder)
    assert any(why.startswith("the shadow v1 needs the log") for why in pruned.held_by())


def test_a_shadow_that_begins_after_pruning_has_the_features_of_the_server(pruned, two_models_home):
    """v2 shares its state with v1, whose first entries are gone; and v1 was a shadow too, long ago."""
    home = pruned.home
    shutil.copytree(two_models_home / "models", home.folder / "models", dirs_exist_ok=True)
    pruned.pay_for_hours(0, 5)
    for version in ("v1", "v2"):
        with closing(Shadow(home.folder, version, ShadowSettings())) as shadow:
            shadow.step()
    pruned.pay_for_hours(5, 30)
    pruned.project()
    pruned.prune()
    assert pruned.log.first > 100
    for version in ("v2", "v1"):
        with closing(Shadow(home.folder, version, ShadowSettings())) as shadow:
            assert shadow.progress.seq == pruned.log.durable
            pruned.pay_for_hours(60 + int(version[1]), 1)
            while shadow.step():
                pass
            store = shadow._state.store
            held = {by: sorted(store.export(by, store.keys_of(by))) for by in store.groups}
        assert list(home.held().values()) == [held]


def test_what_tables_say_outlives_the_segments_that_said_it(pruned):
    def tell(limit):
        entry = TableRows.of("cards", "exact", [Row("c", 0, b"%d" % limit)], "feed")
        pruned.home.engine.tell(entry, pruned.home.now_us, Change.of(SENTINEL, {}, {}, pruned.home.now_us))

    tell(1)
    begin = pruned.log.first
    pruned.pay_for_hours(0, 30, saved=False)
    pruned.project()
    assert pruned.prune()[-1].removed == 0
    assert any("what the tables say needs the log from position" in why for why in pruned.held_by())
    pruned.pay_for_hours(30, 1)
    pruned.project()
    pruned.prune()
    assert any("what the tables say needs the log from position" in why for why in pruned.held_by())  # saved once
    pruned.pay_for_hours(31, 30)
    pruned.project()
    pruned.prune()
    assert pruned.log.first > begin
    assert not any("tables" in why for why in pruned.held_by())
    pruned.home.reopen()
    assert pruned.home.engine.tables.tables.of("cards", "exact").values_at("c", 1) == b"1"
    tell(2)
    pruned.home.reopen()
    assert pruned.home.engine.tables.tables.of("cards", "exact").values_at("c", 1) == b"2"
