"""Drift: what is counted, what is far enough to alarm, and what must never alarm."""

import itertools
import threading

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, hypergeom, ks_2samp

from sentinel.errors import InvalidDefinition
from sentinel.features import definitions as features
from sentinel.model.reference import Reference, kind_of
from sentinel.review.drift import MONTH_S, DriftMonitor, DriftReport, DriftSettings
from sentinel.review.drift_bounds import (
    LEAST_EXPECTED,
    ks_threshold,
    mean_threshold,
    pool,
    psi,
    psi_threshold,
    share_evidence,
)

NAMES = ("normal", "heavy", "rare", "small", "gaps", "country", "constant", "hour_of_day")
KINDS = ("numeric", "numeric", "numeric", "numeric", "numeric", "categorical", "numeric", "time")
SHARES = (0.6, 0.25, 0.1, 0.048, 0.002)
NO_FLOORS = DriftSettings(least_mean_shift=0, least_psi=0, least_ks=0, least_share_change=0)


def draw(rng, n):
    rows = np.column_stack(
        [
            rng.normal(10, 2, n),
            rng.lognormal(0, 2, n),
            rng.random(n) < 0.01,
            rng.poisson(0.7, n),
            np.where(rng.random(n) < 0.05, np.nan, rng.random(n)),
            rng.choice(len(SHARES), n, p=SHARES),
            np.full(n, 3.25),
            rng.integers(0, 24, n),
        ]
    ).astype(np.float32)
    return rows, rng.beta(0.5, 20, n).astype(np.float32)


@pytest.fixture(scope="module")
def training():
    return draw(np.random.default_rng(1), 40_000)


@pytest.fixture(scope="module")
def reference(training):
    return Reference.learn(NAMES, KINDS, *training)


def compared(reference, rows, scores, settings=None):
    monitor = DriftMonitor(reference, settings)
    monitor.observe(rows, scores)
    return monitor.report(0.0)


def changed(reference, name, change, n=5_000, seed=2):
    """The report after `change` was made to one column of rows that do not drift."""
    rows, scores = draw(np.random.default_rng(seed), n)
    rows[:, NAMES.index(name)] = change(rows[:, NAMES.index(name)])
    report = compared(reference, rows, scores)
    assert [one.name for one in report.per_feature if one.drifted] == ([name] if report.drift_detected else [])
    assert report.drifted_features == report.drift_detected
    return report.per_feature[NAMES.index(name)]


def test_kinds_come_from_the_definitions():
    made = [features.category("mcc"), features.hour_of_day(), features.is_night(), features.field("amount")]
    assert [kind_of(one) for one in made] == ["categorical", "time", "time", "numeric"]
    cyclic = [features.sine(one, period=24) for one in ("amount", features.time_of_day("Europe/Madrid"))]
    assert [kind_of(one) for one in cyclic] == ["numeric", "time"]


def test_a_reference_survives_json_and_is_small(reference, training):
    text = msgspec.json.encode(reference)
    again = msgspec.json.decode(text, type=Reference)
    assert again == reference
    assert len(text) < 3_500 * (len(NAMES) + 1)
    rows, scores = draw(np.random.default_rng(3), 5_000)
    assert compared(again, rows, scores) == compared(reference, rows, scores)


def test_a_reference_counts_every_row_once(reference):
    for column in (*reference.features, reference.score):
        assert sum(column.counts) == column.rows == 40_000
        assert column.counts[-1] == column.missing
        assert len(column.counts) <= 32
    found = dict(zip(NAMES, reference.features, strict=True))
    assert len(found["normal"].counts) == 21
    assert set(found["normal"].counts[:20]) == {2_000}
    assert found["small"].edges[:3] == (0.0, 1.0, 2.0)
    assert found["country"].edges == (0.0, 1.0, 2.0, 3.0)  # the rarest is one of the others
    assert (found["constant"].kind, found["constant"].counts) == ("constant", (40_000, 0, 0))
    assert reference.tests == 6 * 4 + 3 + 2


def test_the_clipped_moments_are_those_of_the_clipped_values(reference, training):
    values = training[0][:, 1].astype(np.float64)
    low, high = np.quantile(values, [0.001, 0.999], method="inverted_cdf")
    found = reference.features[1].moments
    assert (np.float32(found.low), np.float32(found.high)) == (np.float32(low), np.float32(high))
    assert found.mean == pytest.approx(np.clip(values, low, high).mean(), rel=1e-6)
    assert found.std == pytest.approx(np.clip(values, low, high).std(), rel=1e-6)


def test_what_does_not_fit_is_refused(reference):
    rows, scores = draw(np.random.default_rng(0), 10)
    for names, kinds, some in ((NAMES[1:], KINDS, scores), (NAMES, KINDS[1:], scores), (NAMES, KINDS, scores[1:])):
        with pytest.raises(InvalidDefinition, match="do not fit"):
            Reference.learn(names, kinds, rows, some)
    with pytest.raises(InvalidDefinition, match="at least 1"):
        Reference.learn(NAMES, KINDS, rows[:0], scores[:0])
    with pytest.raises(ValueError, match="expected"):
        DriftMonitor(reference).observe(rows[:, :1], scores)


@pytest.mark.parametrize(
    "wrong",
    [{"least_rows": 0}, {"window": 10}, {"stride": 0}, {"false_alarms_per_month": 0}, {"evaluations_per_month": 1}],
)
def test_settings_that_cannot_work_are_refused(wrong):
    with pytest.raises(InvalidDefinition):
        DriftSettings(**wrong)


def test_ks_is_that_of_scipy_up_to_the_grid(reference, training):
    rows, scores = draw(np.random.default_rng(4), 3_000)
    rows[:, :5] = rows[:, :5] * np.float32(1.1)
    for index, entry in enumerate(compared(reference, rows, scores).per_feature[:5]):
        live, base = (part[~np.isnan(part)] for part in (rows[:, index], training[0][:, index]))
        exact = ks_2samp(live, base, method="asymp").statistic
        assert exact - 0.011 <= entry.ks <= exact + 1e-12
    few = compared(reference, *draw(np.random.default_rng(5), 3_000)).per_feature[3]
    live = draw(np.random.default_rng(5), 3_000)[0][:, 3]
    assert few.ks == pytest.approx(ks_2samp(live, training[0][:, 3], method="asymp").statistic)


def test_z_is_the_shift_of_the_clipped_mean_in_standard_errors(reference, training):
    rows, scores = draw(np.random.default_rng(6), 4_000)
    entry = compared(reference, rows, scores).per_feature[1]
    moments = reference.features[1].moments
    live, base = (np.clip(part[:, 1].astype(np.float64), moments.low, moments.high) for part in (rows, training[0]))
    pooled = (live.var() * len(live) + base.var() * len(base)) / (len(live) + len(base))
    assert entry.current_mean == pytest.approx(live.mean())
    assert entry.z_score == pytest.approx((live.mean() - base.mean()) / np.sqrt(pooled * (1 / 4_000 + 1 / 40_000)))


def test_psi_is_that_of_its_definition(reference, training):
    rows, scores = draw(np.random.default_rng(7), 5_000)
    base, live = training[0][:, 0], rows[:, 0]
    edges = [-np.inf, *np.sort(base)[1_999:38_001:2_000].astype(float), np.inf]
    counts = [np.array([((x > a) & (x <= b)).sum() for a, b in itertools.pairwise(edges)]) for x in (live, base)]
    # the empty bin of missing values is pooled with the first: 20 bins remain
    q, p = ((count + 0.5) / (count.sum() + 10) for count in counts)
    entry = compared(reference, rows, scores).per_feature[0]
    assert entry.psi == pytest.approx(sum((q - p) * np.log(q / p)))


@pytest.mark.parametrize("base", [[100] * 20, [50, 950], [900, 60, 25, 15], [10_000] * 5])
@pytest.mark.parametrize("n", [500, 5_000])
@pytest.mark.parametrize("alpha", [1e-3, 1e-7])
def test_the_psi_threshold_is_the_chi2_quantile_with_a_margin(base, n, alpha):
    base = np.array(base) * 10
    asymptotic = chi2.isf(alpha, len(base) - 1) * (1 / n + 1 / base.sum())
    found = psi_threshold(alpha, n, base)
    assert asymptotic <= found <= 2.6 * asymptotic
    assert psi_threshold(alpha, 10**7, base * 10**7) == pytest.approx(
        chi2.isf(alpha, len(base) - 1) * (1 / 10**7 + 1 / (base.sum() * 10**7)), rel=0.02
    )


def test_thresholds_of_mean_and_distance():
    assert ks_threshold(0.05, 1_000, 1_000) == pytest.approx(1.3581 * np.sqrt(0.002), rel=1e-3)
    assert mean_threshold(1e-7, 10**9, 10**9, 3.0) == pytest.approx(np.sqrt(2 * np.log(2e7)), rel=1e-3)
    t, kappa = mean_threshold(1e-7, 500, 50_000, 10.0), 10 / (3 * 500 * np.sqrt(1 / 500 + 1 / 50_000))
    assert t * t / (2 * (1 + kappa * t)) == pytest.approx(np.log(2e7))


def test_the_evidence_on_a_share_bounds_the_exact_test():
    for x, n, y, m in ((5, 500, 20, 40_000), (60, 5_000, 0, 5_000), (0, 500, 300, 1_000), (500, 500, 1_000, 1_000)):
        one_sided = min(hypergeom.sf(x - 1, n + m, x + y, n), hypergeom.cdf(x, n + m, x + y, n))
        assert np.exp(-share_evidence(x, n, y, m)) >= one_sided * (1 - 1e-9)


def test_small_bins_are_pooled_and_nothing_is_lost():
    base, live = pool(np.array([1, 40_000, 3, 2_000, 70]), np.array([0, 900, 7, 90, 3]))
    assert (base.tolist(), live.tolist()) == ([2_074, 40_000], [100, 900])
    assert pool(np.array([0, 10]), np.array([3, 4]))[0].tolist() == [10]


@given(st.lists(st.integers(0, 5_000), min_size=2, max_size=20).filter(any), st.integers(500, 5_000))
@settings(max_examples=100, deadline=None)
def test_every_pooled_bin_expects_enough(base, n):
    live = np.random.default_rng(0).multinomial(n, np.array(base) / sum(base))
    pooled, counted = pool(np.array(base), live)
    assert (pooled.sum(), counted.sum()) == (sum(base), n)
    assert (pooled * n / pooled.sum() >= LEAST_EXPECTED - 1e-9).all()
    if len(pooled) > 1:
        assert 0 <= psi(counted, pooled) < psi_threshold(1e-9, n, pooled)


@given(st.randoms(use_true_random=False))
@settings(max_examples=15, deadline=None)
def test_the_order_of_rows_makes_no_difference(random):
    reference = Reference.learn(NAMES, KINDS, *draw(np.random.default_rng(8), 2_000))
    rows, scores = draw(np.random.default_rng(9), 800)
    order = np.array(random.sample(range(800), 800))
    assert compared(reference, rows, scores) == compared(reference, rows[order], scores[order])
    assert Reference.learn(NAMES, KINDS, rows, scores) == Reference.learn(NAMES, KINDS, rows[order], scores[order])


@given(st.integers(0, 2**32 - 1), st.integers(500, 5_000))
@settings(max_examples=40, deadline=None)
def test_rows_of_the_training_set_never_alarm(reference, training, seed, n):
    some = np.random.default_rng(seed).integers(0, 40_000, n)
    report = compared(reference, training[0][some], training[1][some], NO_FLOORS)
    assert report.enough_data
    assert not report.drift_detected


EXTREME = st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -0.0, 3.4e38, -3.4e38, 1e-45, 1.0, 2.0])


@given(st.lists(EXTREME, min_size=1, max_size=40), st.lists(EXTREME, min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_any_numbers_give_a_report_that_is_json(base, live):
    sets = [np.resize(np.array(part), 600) for part in (base, live)]
    for kind in ("numeric", "categorical", "time"):
        reference = Reference.learn(["x"], [kind], sets[0][:, None], sets[0])
        reference = msgspec.json.decode(msgspec.json.encode(reference), type=Reference)
        same = compared(reference, sets[0][:, None], sets[0])
        assert not same.drift_detected
        report = compared(reference, sets[1][:, None], sets[1])
        text = msgspec.json.encode(report)
        assert b"null" in text  # msgspec writes NaN as null: decoding back tells them apart
        assert msgspec.json.decode(text, type=DriftReport) == report


def test_a_shift_of_the_mean_is_seen(reference):
    found = changed(reference, "normal", lambda x: x + 1.0)
    assert {"mean", "psi", "ks"} <= set(found.reasons)
    assert found.current_mean - found.baseline_mean == pytest.approx(1.0, abs=0.1)


def test_a_shift_too_small_to_matter_is_not(reference):
    assert not changed(reference, "normal", lambda x: x + 0.1).drifted


def test_a_change_in_spread_alone_is_seen(reference):
    found = changed(reference, "normal", lambda x: (x - 10) * 1.5 + 10)
    assert set(found.reasons) == {"psi", "ks"}


def test_a_change_of_missing_values_is_seen_both_ways(reference):
    found = changed(reference, "gaps", lambda x: np.where(np.arange(len(x)) % 8 == 0, np.nan, x))
    assert "missing" in found.reasons
    assert found.missing_share == pytest.approx(0.17, abs=0.02)
    assert changed(reference, "gaps", lambda x: np.where(np.isnan(x), 0.5, x)).reasons == ("psi", "missing")
    assert "missing" in changed(reference, "constant", lambda x: np.where(np.arange(len(x)) < 100, np.nan, x)).reasons
    everything = changed(reference, "normal", lambda x: x * np.nan)
    assert everything.reasons == ("psi", "missing")
    assert everything.current_mean is everything.z_score is everything.ks is None


def test_a_new_category_is_seen(reference):
    found = changed(reference, "country", lambda x: np.where(np.arange(len(x)) % 50 == 0, 77, x))
    assert found.reasons == ("other",)
    assert changed(reference, "country", lambda x: np.where(x == 0, 1, x)).reasons == ("psi",)


def test_a_constant_that_changes_is_seen(reference):
    found = changed(reference, "constant", lambda x: np.where(np.arange(len(x)) % 50 == 0, 9.0, x))
    assert found.reasons == ("other",)
    assert found.other_share == 0.02
    assert not changed(reference, "constant", lambda x: np.where(np.arange(len(x)) < 10, 9.0, x)).drifted


def test_a_rare_flag_that_grows_common_is_seen(reference):
    assert "mean" in changed(reference, "rare", lambda x: np.where(np.arange(len(x)) % 20 == 0, 1.0, x)).reasons


def test_the_clock_is_shown_and_not_tested(reference):
    found = changed(reference, "hour_of_day", lambda x: x * 0 + 3)
    assert not found.drifted
    assert (found.current_mean, found.z_score, found.psi, found.ks) == (3.0, None, None, None)


def test_the_score_is_compared_like_a_feature(reference):
    rows, scores = draw(np.random.default_rng(2), 5_000)
    report = compared(reference, rows, scores * 2)
    assert report.score.drifted
    assert report.drift_detected
    assert (report.score.feature_index, report.drifted_features) == (None, 0)


def test_few_rows_are_not_enough(reference):
    rows, scores = draw(np.random.default_rng(2), 499)
    report = compared(reference, rows + 100, scores)
    assert (report.enough_data, report.drift_detected, report.current_count) == (False, False, 499)
    assert compared(
        reference, *(np.resize(part + 100, (501, *part.shape[1:])) for part in (rows, scores))
    ).drift_detected
    little = Reference.learn(NAMES, KINDS, rows, scores)
    assert not compared(little, *draw(np.random.default_rng(2), 5_000)).enough_data


def test_the_window_forgets(reference):
    monitor = DriftMonitor(reference)
    rows, scores = draw(np.random.default_rng(2), 5_000)
    monitor.observe(rows + 100, scores)
    assert monitor.report(0.0).drift_detected
    for part in range(0, 5_000, 700):  # in pieces that wrap around the end
        monitor.observe(rows[part : part + 700], scores[part : part + 700])
    found = monitor.report(60.0)
    assert not found.drift_detected
    assert msgspec.structs.replace(found, evaluated_at_s=0.0) == compared(reference, rows, scores)
    monitor.observe(np.concatenate([rows + 100, rows]), np.concatenate([scores, scores]))  # more than it holds
    assert msgspec.structs.replace(monitor.report(120.0), evaluated_at_s=60.0) == found


def test_reset_forgets_the_window_and_keeps_the_limit(reference):
    monitor = DriftMonitor(reference)
    rows, scores = draw(np.random.default_rng(2), 5_000)
    monitor.observe(rows + 100, scores)
    assert monitor.report(0.0).drift_detected
    monitor.reset()
    assert (monitor.report(1.0).current_count, monitor.report(1.0).drift_detected) == (0, False)
    monitor.observe(rows, scores)
    assert not monitor.report(59.0).enough_data
    assert monitor.report(60.0).enough_data


def test_an_evaluation_takes_a_stride_of_rows_and_its_share_of_the_month(reference):
    monitor = DriftMonitor(reference, DriftSettings(window=1_000, evaluations_per_month=int(MONTH_S)))
    rows, scores = draw(np.random.default_rng(2), 1_000)
    monitor.observe(rows, scores)
    first = monitor.report(0.0)
    monitor.observe(rows[:199], scores[:199])
    assert monitor.report(100.0) is first
    monitor.observe(rows[:1], scores[:1])
    assert monitor.report(0.9) is first
    assert monitor.report(1.0).evaluated_at_s == 1.0
    assert first.alpha_per_test * reference.tests * MONTH_S == pytest.approx(1.0)


def test_rows_may_arrive_while_reports_are_made(reference):
    monitor = DriftMonitor(reference, DriftSettings(window=2_000, stride=1, evaluations_per_month=10**12))
    rows, scores = draw(np.random.default_rng(2), 2_000)
    done = threading.Event()

    def serve():
        for i in range(400):
            if i % 100 == 99:
                monitor.reset()
            monitor.observe(rows[: 1 + i % 64], scores[: 1 + i % 64])
        done.set()

    server = threading.Thread(target=serve)
    server.start()
    moment = 0.0
    while not done.is_set():
        moment += 1.0
        report = monitor.report(moment)
        assert report.current_count <= 2_000
        assert not report.enough_data or report.current_count >= 500
    server.join()


def test_no_alarms_without_drift_and_no_more_than_the_budget_at_a_large_one():
    """The floors off: at a budget of 0.2 alarms an evaluation there are fewer; at the usual one there are none."""
    rng = np.random.default_rng(10)
    reference = Reference.learn(NAMES, KINDS, *draw(rng, 40_000))
    loose = msgspec.structs.replace(NO_FLOORS, evaluations_per_month=10, false_alarms_per_month=2.0)
    alarms = {"loose": 0, "tight": 0}
    for n in [500, 1_000, 2_000, 5_000] * 75:
        rows, scores = draw(rng, n)
        alarms["loose"] += compared(reference, rows, scores, loose).drift_detected
        alarms["tight"] += compared(reference, rows, scores, NO_FLOORS).drift_detected
    assert alarms["tight"] == 0
    assert 1 <= alarms["loose"] <= 60
