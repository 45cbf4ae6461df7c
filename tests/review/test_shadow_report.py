"""The shadow report beside scikit-learn and NumPy, on scores in real files."""

from contextlib import closing

import msgspec
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, confusion_matrix, precision_score, recall_score

from sentinel.errors import StorageProblem
from sentinel.record.views.rows import rows_of
from sentinel.record.views.sqlite import SqliteView
from sentinel.review.shadow_report import ACTIONS, LARGEST, shadow_report
from sentinel.review.shadow_scores import ShadowProgress, ShadowRecord, ShadowScore, ShadowScores

N = 6_000  # more than a page
BOUNDS = np.array([0.3, 0.45, 0.7])


def drawn(n, seed=0):
    """n decisions: scores of both sides on a coarse grid, so that many tie, and the truth of a third."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.2).astype(np.int8)
    live = np.clip(0.2 + 0.3 * labels + rng.normal(0, 0.2, n), 0, 1).astype(np.float32).round(2)
    shadow = np.clip(0.2 + 0.4 * labels + rng.normal(0, 0.2, n), 0, 1).astype(np.float32).round(2)
    return live, shadow, labels, rng.random(n) < 0.33


def scored(live, shadow, version="v2", first=1):
    actions = [[ACTIONS[code] for code in np.searchsorted(BOUNDS, side, side="right")] for side in (live, shadow)]
    return [
        ShadowScore(version, first + i, f"t{first + i}", float(shadow[i]), actions[1][i], float(live[i]), actions[0][i],
                    "v1", False, 1000 + first + i)
        for i in range(len(live))
    ]  # fmt: skip


@pytest.fixture
def view(tmp_path):
    with closing(SqliteView(tmp_path / "views.db")) as view:
        yield view


def tell(view, made, told):
    """Have the view learn the outcomes, (is fraud, position of the decision), of some decisions."""
    since = max(view.position.position, 2 * N)
    rows = [{"id": f"t{about}", "is_fraud": is_fraud, "about": about} for is_fraud, about in told]
    view.project(rows_of([made.outcomes_record(since, rows)], {}.get), "log", view.position.position, now_us=1)


@pytest.fixture
def record(tmp_path):
    record = ShadowRecord(tmp_path / "shadow.db")
    record.begin(progress("v2"))
    yield record
    record.close()


def progress(version, **changes):
    return ShadowProgress(version, "0" * 64, 0, 0)._replace(**changes)


def test_the_numbers_are_those_of_scikit_learn(view, record, made):
    live, shadow, labels, known = drawn(N)
    rows = scored(live, shadow)
    record.store(rows, progress("v2"))
    seen = np.flatnonzero(known)
    tell(view, made, [(not labels[i], 1 + i) for i in seen[:50]])
    tell(view, made, [(bool(labels[i]), 1 + i) for i in seen])
    report = shadow_report(view, record)
    actions = [[row.live_decision for row in rows], [row.decision for row in rows]]
    matrix = confusion_matrix(*actions, labels=ACTIONS)

    assert (report.version, report.compared, report.failed, report.degraded) == ("v2", N, 0, 0)
    assert [[report.matrix[a][b] for b in ACTIONS] for a in ACTIONS] == matrix.tolist()
    assert report.agreement == pytest.approx(np.mean(np.array(actions[0]) == np.array(actions[1])))
    assert report.live_decisions == {action: actions[0].count(action) for action in ACTIONS}
    assert report.shadow_decisions == {action: actions[1].count(action) for action in ACTIONS}
    assert report.correlation == pytest.approx(np.corrcoef(live, shadow)[0, 1], rel=1e-6)
    assert report.mean_difference == pytest.approx(np.mean(shadow.astype(float) - live), rel=1e-9)
    assert report.mean_absolute_difference == pytest.approx(np.mean(np.abs(shadow.astype(float) - live)), rel=1e-9)
    assert (report.first_us, report.last_us) == (1001, 1000 + N)
    assert (report.labelled, report.frauds) == (len(seen), labels[seen].sum())
    for side, scores, answers in ((report.live, live, actions[0]), (report.shadow, shadow, actions[1])):
        alarms = np.array(answers)[seen] != "approve"
        assert side.precision == pytest.approx(precision_score(labels[seen], alarms))
        assert side.recall == pytest.approx(recall_score(labels[seen], alarms))
        assert side.average_precision == pytest.approx(average_precision_score(labels[seen], scores[seen]))
    assert report.shadow.average_precision > report.live.average_precision


def test_the_distribution_counts_every_score_and_tells_how_far_they_are_apart(view, record):
    live, shadow, *_ = drawn(N)
    record.store(scored(live, shadow), progress("v2"))
    found = shadow_report(view, record).distribution
    assert len(found.edges) == 21
    assert sum(found.live) == sum(found.shadow) == N
    assert found.live == tuple(np.histogram(live.astype(float), np.linspace(0, 1, 21))[0])
    edges = np.unique(np.quantile(live.astype(float), np.arange(1, 20) / 20, method="inverted_cdf"))
    p, q = (np.bincount(np.searchsorted(edges, one.astype(float)), minlength=len(edges) + 1) for one in (live, shadow))
    p, q = (p + 0.5) / (N + 0.5 * len(p)), (q + 0.5) / (N + 0.5 * len(q))
    assert found.psi == pytest.approx(np.sum((q - p) * np.log(q / p)))


def test_equal_scores_are_equal(view, record):
    live, *_ = drawn(500)
    record.store(scored(live, live), progress("v2"))
    report = shadow_report(view, record)
    assert (report.agreement, report.mean_absolute_difference, report.distribution.psi) == (1.0, 0.0, 0.0)
    assert report.correlation == pytest.approx(1.0)


def test_what_cannot_be_compared_is_left_out_and_counted(view, record):
    live, shadow, *_ = drawn(100)
    rows = scored(live, shadow)
    rows[:7] = [row._replace(fraud_probability=None, decision=None) for row in rows[:7]]
    rows[7:12] = [row._replace(live_degraded=True) for row in rows[7:12]]
    record.store(rows, progress("v2"))
    report = shadow_report(view, record)
    assert (report.compared, report.failed, report.degraded) == (88, 7, 5)
    assert sum(report.live_versions.values()) == 88


def test_only_what_was_decided_since_then(view, record):
    live, shadow, *_ = drawn(100)
    record.store(scored(live, shadow), progress("v2"))
    report = shadow_report(view, record, since_us=1091)
    assert (report.compared, report.first_us, report.last_us) == (10, 1091, 1100)


def test_only_the_newest_are_loaded(view, record, monkeypatch):
    assert LARGEST == 200_000
    monkeypatch.setattr("sentinel.review.shadow_report.LARGEST", 5_500)
    live, shadow, *_ = drawn(N)
    record.store(scored(live, shadow), progress("v2"))
    report = shadow_report(view, record)
    assert (report.compared, report.first_us) == (5_500, 1000 + N - 5_500 + 1)


@pytest.mark.parametrize("n", [0, 1])
def test_numbers_that_do_not_exist_are_null(view, record, n):
    live, shadow, *_ = drawn(n)
    record.store(scored(live, shadow), progress("v2"))
    report = msgspec.json.decode(msgspec.json.encode(shadow_report(view, record)))
    assert report["compared"] == n
    assert report["correlation"] is None
    assert report["live"] == {
        "alarms": 0, "caught": 0, "precision": None, "recall": None, "average_precision": None
    }  # fmt: skip
    assert (report["agreement"] is None) == (n == 0)


def test_without_a_fraud_among_the_outcomes_there_is_no_recall_and_no_average_precision(view, record, made):
    live, shadow, *_ = drawn(100)
    record.store(scored(live, shadow), progress("v2"))
    tell(view, made, [(False, 1)])
    report = shadow_report(view, record)
    assert (report.labelled, report.frauds) == (1, 0)
    assert {(side.recall, side.average_precision) for side in (report.live, report.shadow)} == {(None, None)}


def test_shadows_are_kept_apart(view, record):
    live, shadow, *_ = drawn(100)
    record.store(scored(live, shadow), progress("v2", heartbeat_us=1))
    record.begin(progress("v3"))
    record.store(scored(live, live, "v3"), progress("v3", heartbeat_us=2))
    assert shadow_report(view, record).version == "v3"
    assert shadow_report(view, record).agreement == 1.0
    assert shadow_report(view, record, version="v2").agreement < 1.0
    assert [row.model_version for row in record.scores_of("t5")] == ["v2", "v3"]
    assert record.scores_of("t5")[0].fraud_probability == float(shadow[4])
    assert record.scores_of("unheard of") == []


def test_scores_are_read_while_they_are_written(view, record):
    reader = ShadowScores(record.path)
    live, shadow, *_ = drawn(100)
    record.store(scored(live, shadow), progress("v2", seq=100, scored=100))
    assert shadow_report(view, reader).compared == 100
    assert reader.progress("v2") == progress("v2", seq=100, scored=100)
    reader.close()


def test_without_a_shadow_there_is_nothing_to_read(tmp_path):
    with pytest.raises(StorageProblem, match="set up a shadow first"):
        ShadowScores(tmp_path / "shadow.db")


def test_a_damaged_file_says_so(tmp_path):
    (tmp_path / "shadow.db").write_bytes(b"not a database at all, and long enough to be read" * 100)
    with pytest.raises(StorageProblem, match="cannot be read"):
        ShadowScores(tmp_path / "shadow.db").latest()
    with pytest.raises(StorageProblem, match="cannot be opened"):
        ShadowRecord(tmp_path / "shadow.db")
