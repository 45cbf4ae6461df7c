"""What a shadow stores, whatever its model does, and that it goes on where it stopped."""

import subprocess
import sys
import threading
import time
from contextlib import closing

import msgspec
import numpy as np
import pytest
from onnx import TensorProto, helper

from sentinel.errors import BundleProblem, StorageProblem
from sentinel.model.bundle import load_bundle, read_manifest
from sentinel.policy.thresholds import Thresholds
from sentinel.record.applied import apply
from sentinel.record.entries import decision_rows
from sentinel.record.log import Kind
from sentinel.record.views.sqlite import SqliteView
from sentinel.review.shadow_report import shadow_report
from sentinel.review.shadow_scores import FILE, ShadowScores
from sentinel.shadow.scoring import Shadow
from sentinel.shadow.settings import ShadowSettings

SETTINGS = ShadowSettings()


class Shadows:
    """The shadows of a home folder; all of them end with the test."""

    def __init__(self, home):
        self._home, self._running = home, []

    def __call__(self, version, settings=SETTINGS):
        self._running.append(Shadow(self._home, version, settings))
        return self._running[-1]

    def stop(self, shadow):
        self._running.remove(shadow)
        shadow.close()

    def stop_all(self):
        for shadow in [*self._running]:
            self.stop(shadow)


@pytest.fixture
def shadow_of(home):
    shadows = Shadows(home)
    yield shadows
    shadows.stop_all()


def drain(shadow):
    while shadow.step():
        pass


def stored(home, version):
    scores = ShadowScores(home / "shadow.db")
    rows = scores.page_before(version, None)
    scores.close()
    return sorted(rows, key=lambda row: row.seq)


def test_scores_are_those_of_one_pass_over_everything(home, server, shadow_of):
    server.decide(400)
    begun, shadow = server.log.durable, shadow_of("v2")
    for n in (1, 700, 60):
        server.decide(n)
        drain(shadow)
    expected = {seq: score for seq, score in server.offline("v2").items() if seq >= begun}
    rows = stored(home, "v2")
    assert len(expected) == 761
    assert {row.seq: row.fraud_probability for row in rows} == expected
    assert shadow.progress.scored == 761
    assert shadow.progress.lag == 0


def test_the_own_thresholds_decide_beside_what_was_answered(home, server, shadow_of):
    shadow = shadow_of("v2")
    server.decide(300)
    server.decide(20, degraded="the model was slow")
    drain(shadow)
    own = msgspec.convert(load_bundle(home / "models" / "v2").manifest.thresholds, Thresholds)
    live = {row.position: row for record in server.log.read(1, 2**40) if record.kind == Kind.DECIDED
            for row in decision_rows(record)}  # fmt: skip
    rows = stored(home, "v2")
    assert len({row.decision for row in rows}) > 1
    for row in rows:
        answered = live[row.seq]
        assert row.decision == own.action(row.fraud_probability)
        assert (row.live_fraud_probability, row.live_decision) == (answered.fraud_probability, answered.decision)
        assert (row.transaction_id, row.live_version) == (answered.transaction_id, "v1")
        assert row.live_degraded == (answered.decider.degraded is not None)


def test_it_goes_on_where_the_scores_end(home, server, shadow_of):
    server.decide(50)
    begun, first = server.log.durable, shadow_of("v2")
    server.decide(1500)
    assert first.step()
    shadow_of.stop(first)
    server.decide(30)
    second = shadow_of("v2")
    assert second.progress.seq == first.progress.seq
    drain(second)
    expected = {seq: score for seq, score in server.offline("v2").items() if seq >= begun}
    assert {row.seq: row.fraud_probability for row in stored(home, "v2")} == expected


def test_a_snapshot_changes_nothing(home, server, shadow_of, monkeypatch):
    monkeypatch.setattr("sentinel.shadow.scoring._SNAPSHOT_EVERY", 200)
    first = shadow_of("v2")
    server.decide(900)
    drain(first)
    shadow_of.stop(first)
    assert list((home / "shadow").rglob("*.npz"))
    server.decide(100)
    drain(shadow_of("v2"))
    assert {row.seq: row.fraud_probability for row in stored(home, "v2")} == server.offline("v2")


def test_a_long_save_is_no_silence(home, server, shadow_of, monkeypatch):
    monkeypatch.setattr("sentinel.shadow.scoring._SNAPSHOT_EVERY", 200)
    monkeypatch.setattr("sentinel.shadow.scoring.REST_S", 0.4)
    monkeypatch.setattr("sentinel.record.snapshots._PIECE", 1_024)
    shadow, heard = shadow_of("v2"), []
    server.decide(300)

    def listen():
        with closing(ShadowScores(home / FILE)) as scores:
            while saving.is_alive():
                heard.append(scores.progress("v2").heartbeat_us)
                time.sleep(0.05)

    saving = threading.Thread(target=shadow.step)
    saving.start()
    listen()
    assert list((home / "shadow").rglob("*.npz"))
    assert heard[-1] - heard[0] > 2_000_000
    assert max(np.diff(heard)) < 1_500_000


def test_a_save_that_fails_is_told_and_the_scores_go_on(home, server, shadow_of, monkeypatch, caplog):
    monkeypatch.setattr("sentinel.shadow.scoring._SNAPSHOT_EVERY", 200)
    monkeypatch.setattr("sentinel.record.disk._KEPT_FREE", 2**60)
    shadow = shadow_of("v2")
    server.decide(900)
    drain(shadow)
    assert shadow.progress.scored == 900
    assert 1 <= caplog.text.count("the next start takes longer") <= 4


def test_what_is_too_far_behind_is_dropped_but_remembered(home, server, shadow_of):
    shadow = shadow_of("v2", ShadowSettings(max_lag=200))
    server.decide(1300)
    server.decide(10)
    drain(shadow)
    rows, expected = stored(home, "v2"), server.offline("v2")
    assert 0 < len(rows) < 1310
    assert rows[-1].seq == server.positions[-1]
    assert all(row.fraud_probability == expected[row.seq] for row in rows)
    assert shadow.progress.dropped == 1310 - len(rows)
    assert shadow.progress.scored == len(rows)


def test_only_the_newest_scores_are_kept_and_none_is_made_again(home, server, shadow_of):
    few = ShadowSettings(keep_scores=120)
    first = shadow_of("v2", few)
    for n in (100, 900, 60):
        server.decide(n)
        drain(first)
        assert len(stored(home, "v2")) == min(120, first.progress.scored)
    assert first.progress.scored == 1060
    shadow_of.stop(first)
    server.decide(40)
    second = shadow_of("v2", few)
    assert (second.progress.seq, second.progress.scored) == (first.progress.seq, 1060)
    drain(second)
    expected = sorted(server.offline("v2").items())
    rows = stored(home, "v2")
    assert [(row.seq, row.fraud_probability) for row in rows] == expected[-120:]
    assert second.progress.scored == 1100
    scores = ShadowScores(home / "shadow.db")
    with closing(SqliteView(home / "views.db")) as view:
        report = shadow_report(view, scores)
    assert (report.version, report.compared, report.first_us) == ("v2", 120, rows[0].decided_at_us)
    assert scores.scores_of(rows[-1].transaction_id) == [rows[-1]]
    assert scores.scores_of(f"t{server.positions[0]}") == []
    scores.close()


def test_a_lower_bound_is_reached_without_news(home, server, shadow_of):
    first = shadow_of("v2")
    server.decide(900)
    drain(first)
    shadow_of.stop(first)
    second = shadow_of("v2", ShadowSettings(keep_scores=7))
    drain(second)
    assert [row.transaction_id for row in stored(home, "v2")] == [f"t{i}" for i in server.positions[-7:]]
    assert second.progress.scored == 900


def test_a_model_that_says_nan_is_counted_as_failed(home, server, shadow_of, add_model):
    nodes = [
        helper.make_node("ReduceMax", ["features"], ["largest"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["largest", "nan"], ["fraud_probability"]),
    ]
    add_model("v3", nodes, [helper.make_tensor("nan", TensorProto.FLOAT, [1], [np.nan])])
    shadow = shadow_of("v3")
    server.decide(100)
    drain(shadow)
    assert (shadow.progress.scored, shadow.progress.failed) == (0, 100)
    assert {(row.fraud_probability, row.decision) for row in stored(home, "v3")} == {(None, None)}


def test_numbers_that_are_no_probabilities_are_counted_as_failed(server, shadow_of, add_model):
    nodes = [
        helper.make_node("ReduceMax", ["features"], ["largest"], axes=[1], keepdims=1),
        helper.make_node("Exp", ["largest"], ["fraud_probability"]),
    ]
    add_model("v3", nodes)
    shadow = shadow_of("v3")
    server.decide(100)
    drain(shadow)
    assert (shadow.progress.scored, shadow.progress.failed) == (0, 100)


def test_a_model_that_raises_loses_only_its_own_rows(home, server, shadow_of, monkeypatch):
    shadow = shadow_of("v2")
    server.decide(200)
    score, calls = shadow._bundle.scorer.score, []

    def sometimes(rows):
        calls.append(len(rows))
        if len(calls) == 3:
            raise RuntimeError("a fault in the runtime")
        return score(rows)

    monkeypatch.setattr(shadow._bundle.scorer, "score", sometimes)
    drain(shadow)
    assert (shadow.progress.scored, shadow.progress.failed) == (152, 48)
    rows, expected = stored(home, "v2"), server.offline("v2")
    assert all(row.fraud_probability in (None, expected[row.seq]) for row in rows)


def test_other_fields_are_refused(home, server, shadow_of, remake):
    plan = read_manifest(home / "models" / "v1").plan
    schema = msgspec.structs.replace(plan.schema, max_ahead="2m")
    remake("v1", "v3", plan=msgspec.structs.replace(plan, schema=schema))
    apply(server.log, lambda one: one.with_champion("v3"), server.log.clock(0))
    with pytest.raises(BundleProblem, match="other fields than the champion v3"):
        shadow_of("v2")


def test_only_one_may_write(home, server, shadow_of):
    shadow_of("v2")
    with pytest.raises(StorageProblem, match="another shadow"):
        shadow_of("v2")


@pytest.mark.parametrize("entries", [10, 300])
def test_scores_of_a_log_that_is_gone_are_forgotten(home, server, shadow_of, entries):
    """Also where the new one is longer."""
    first = shadow_of("v2")
    server.decide(100)
    drain(first)
    shadow_of.stop(first)
    server.start_over()
    server.decide(entries)
    second = shadow_of("v2")
    assert second.progress.scored == 0
    assert stored(home, "v2") == []
    server.decide(20)
    drain(second)
    expected = server.offline("v2")
    assert {row.seq: row.fraud_probability for row in stored(home, "v2")} == {
        position: expected[position] for position in server.positions[-20:]
    }


def test_scores_of_another_bundle_of_that_version_are_forgotten(home, server, shadow_of, remake):
    first = shadow_of("v2")
    server.decide(100)
    drain(first)
    shadow_of.stop(first)
    remake("v1", "v2")
    second = shadow_of("v2")
    assert (second.progress.seq, second.progress.scored) == (server.log.durable, 0)
    assert stored(home, "v2") == []


def test_everything_is_compiled_before_the_first_event(home, server):
    server.decide(10)
    code = f"""
from pathlib import Path
from sentinel.features import kernel, rows
from sentinel.model.bundle import load_bundle
from sentinel.shadow.scoring import Shadow, _warm
from sentinel.shadow.settings import ShadowSettings
_warm(load_bundle(Path({str(home)!r}) / "models" / "v2"))
before = len(kernel.advance.signatures), len(rows.fill_rows.signatures)
Shadow(Path({str(home)!r}), "v2", ShadowSettings())
assert before == (len(kernel.advance.signatures), len(rows.fill_rows.signatures)) != (0, 0), before
"""
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert asked.returncode == 0, asked.stderr
