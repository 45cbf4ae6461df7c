"""Calls of models that are quick, slow, stuck, broken or nonsense: the callers always get an answer in time."""

import gc
import threading
import time

import numpy as np
import pytest

from sentinel.model.bundle import load_bundle
from sentinel.policy.breaker import BreakerSettings, Circuit
from sentinel.policy.model_call import CIRCUIT_OPEN, FAILED, MAX_STUCK, TOO_SLOW, Limits, ModelCaller

SOON_S = 2.0  # far above any deadline here, far below how long a stuck model hangs
TOLERANT = BreakerSettings(trip_in_a_row=10_000, trip_share=1.0, remembered=10_000)
ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)


class Steady:
    """Says for each row its first value / 100."""

    def score(self, rows):
        return rows[:, 0] / np.float32(100)


STEADY = Steady()


class Saying:
    """Says one thing, whatever it is asked."""

    def __init__(self, word):
        self.word = word

    def score(self, _rows):
        return self.word


class Raising:
    def score(self, _rows):
        raise RuntimeError("the weights are gone")


class Hanging:
    """Answers nobody until it is let go; then those that waited get nonsense, and the others an answer."""

    def __init__(self):
        self.gate = threading.Event()
        self.asked = 0

    def score(self, rows):
        self.asked += 1
        if self.gate.is_set():
            return STEADY.score(rows)
        assert self.gate.wait(30)
        return np.ones(len(rows), np.float32)


@pytest.fixture
def judge_of():
    made = []

    def make(**changes):
        judge = ModelCaller(Limits(**{"deadline_s": 5.0} | changes))
        made.append(judge)
        return judge

    yield make
    for judge in made:
        judge.stop()


@pytest.fixture
def hanging():
    model = Hanging()
    yield model
    model.gate.set()


def model_threads():
    return {thread for thread in threading.enumerate() if thread.name == "model"}


def wait_until(condition):
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.002)


def timed(judge, model, rows=ROWS):
    begun = time.monotonic()
    answer = judge.ask(model, rows)
    return answer, time.monotonic() - begun


def test_a_model_in_time_is_taken_at_its_word_bit_by_bit(shop_home, judge_of):
    scorer, judge = load_bundle(shop_home / "models" / "v1").scorer, judge_of()
    rng = np.random.default_rng(3)
    for n in (1, 2, 47, 48, 49, 300):
        rows = rng.normal(10, 30, (n, scorer.n_features)).astype(np.float32)
        rows[rng.random(rows.shape) < 0.1] = np.nan
        answer = judge.ask(scorer, rows)
        assert (answer.degraded, answer.circuit) == (None, Circuit.CLOSED)
        assert answer.scores.tobytes() == scorer.score(rows).tobytes()


def test_a_slow_model_costs_the_deadline_and_no_more(judge_of, hanging):
    answer, took = timed(judge_of(deadline_s=0.08), hanging)
    assert answer == (None, TOO_SLOW, Circuit.CLOSED)
    assert 0.079 <= took < SOON_S


def test_a_model_that_hangs_holds_up_no_other_call(judge_of, hanging):
    judge = judge_of(deadline_s=0.5)
    judge.ask(hanging, ROWS)
    answer, took = timed(judge, STEADY)
    assert answer.scores.tolist() == STEADY.score(ROWS).tolist()
    assert took < 0.5


def test_what_a_stuck_thread_says_in_the_end_is_no_ones_answer(judge_of, hanging):
    judge = judge_of(deadline_s=0.05, breaker=TOLERANT)
    assert judge.ask(hanging, ROWS).degraded == TOO_SLOW
    hanging.gate.set()
    for first in range(20):
        rows = ROWS + np.float32(first)
        answer = judge.ask(hanging, rows)
        assert answer.degraded is not None or answer.scores.tolist() == STEADY.score(rows).tolist()


def test_a_model_that_hangs_takes_a_limited_number_of_threads(judge_of, hanging):
    before = model_threads()
    judge = judge_of(deadline_s=0.005, breaker=TOLERANT)
    for _ in range(3 * MAX_STUCK):
        answer, took = timed(judge, hanging)
        assert answer.degraded == TOO_SLOW
        assert took < SOON_S
    assert hanging.asked == MAX_STUCK
    assert len(model_threads() - before) == MAX_STUCK


def test_with_every_thread_stuck_its_next_call_waits_for_nothing_and_other_models_answer(judge_of, hanging):
    judge = judge_of(deadline_s=0.1, breaker=TOLERANT)
    for _ in range(MAX_STUCK):
        judge.ask(hanging, ROWS)
    begun = time.monotonic()
    assert [judge.ask(hanging, ROWS).degraded for _ in range(20)] == [TOO_SLOW] * 20
    assert time.monotonic() - begun < 1.0
    assert hanging.asked == MAX_STUCK
    assert judge.ask(STEADY, ROWS).degraded is None


def test_threads_that_come_back_are_used_again_or_ended(judge_of, hanging):
    before = model_threads()
    judge = judge_of(deadline_s=0.1, breaker=TOLERANT)
    for _ in range(2 * MAX_STUCK):
        judge.ask(hanging, ROWS)
    hanging.gate.set()
    wait_until(lambda: judge.ask(hanging, ROWS).degraded is None and len(model_threads() - before) == 1)


def test_a_judge_that_stops_leaves_no_thread_behind(hanging):
    before = model_threads()
    judge = ModelCaller(Limits(deadline_s=0.01, breaker=TOLERANT))
    for _ in range(3):
        judge.ask(hanging, ROWS)
    judge.stop()
    hanging.gate.set()
    wait_until(lambda: not model_threads() - before)


@pytest.mark.parametrize(
    "word",
    [
        np.array([0.1, np.nan, 0.2, 0.3], np.float32),
        np.array([0.1, 0.2, 0.3, np.inf], np.float32),
        np.array([0.1, 0.2, 0.3, -1e-7], np.float32),
        np.array([0.1, 0.2, 0.3, 1.0000001], np.float32),
        np.array([0.1, 0.2, 0.3], np.float32),
        np.array([0.1] * 5, np.float32),
        np.array([], np.float32),
        np.full((4, 2), 0.5, np.float32),
        np.full((4, 1), 0.5, np.float32),
        np.float32(0.5),
        np.array(["0.1"] * 4),
        [0.1, 0.2, 0.3, 0.4],
        "four",
        None,
    ],
    ids=lambda word: f"{type(word).__name__} {word}".replace("\n", " "),
)
def test_whatever_is_no_probability_for_each_row_is_a_failure(judge_of, word):
    judge, model = judge_of(), Saying(word)
    assert judge.ask(model, ROWS) == (None, FAILED, Circuit.CLOSED)
    model.word = STEADY.score(ROWS)
    assert judge.ask(model, ROWS).degraded is None


def test_zero_and_one_are_probabilities(judge_of):
    word = np.array([0.0, 1.0, -0.0, 0.5], np.float32)
    assert judge_of().ask(Saying(word), ROWS).scores.tolist() == [0.0, 1.0, 0.0, 0.5]


def test_a_model_that_raises_fails_and_its_thread_goes_on(judge_of, caplog):
    before = model_threads()
    judge, model = judge_of(breaker=TOLERANT), Raising()
    for _ in range(10):
        assert judge.ask(model, ROWS) == (None, FAILED, Circuit.CLOSED)
    assert "the weights are gone" in caplog.text
    assert len(model_threads() - before) == 1


def test_a_model_that_fails_too_often_is_left_alone(judge_of):
    judge, model = judge_of(breaker=BreakerSettings(open_s=60.0, longest_open_s=60.0)), Saying(None)
    assert [judge.ask(model, ROWS).circuit for _ in range(3)] == [Circuit.CLOSED, Circuit.CLOSED, Circuit.OPEN]
    model.word = STEADY.score(ROWS)
    assert judge.ask(model, ROWS) == (None, CIRCUIT_OPEN, Circuit.OPEN)


class Moody:
    well = False

    def score(self, rows):
        if not self.well:
            raise RuntimeError("out of sorts")
        return STEADY.score(rows)


def test_a_model_that_is_well_again_is_asked_again(judge_of):
    judge, model = judge_of(breaker=BreakerSettings(open_s=0.02, probes=2)), Moody()
    for _ in range(3):
        judge.ask(model, ROWS)
    assert judge.circuit is Circuit.OPEN
    model.well = True
    wait_until(lambda: judge.ask(model, ROWS).degraded is None)
    assert judge.circuit is Circuit.HALF_OPEN
    answer = judge.ask(model, ROWS)
    assert (answer.degraded, answer.circuit) == (None, Circuit.CLOSED)


def test_a_broken_model_says_nothing_against_another(judge_of):
    judge, broken = judge_of(breaker=BreakerSettings(open_s=60.0, longest_open_s=60.0)), Raising()
    for _ in range(30):
        judge.ask(broken, ROWS)
        answer = judge.ask(STEADY, ROWS)
        assert (answer.degraded, answer.circuit) == (None, Circuit.CLOSED)
    assert (judge.circuit, judge.openings) == (Circuit.OPEN, 1)


def test_a_model_that_is_gone_takes_its_breaker_and_its_threads_along(judge_of):
    before = model_threads()
    judge, broken = judge_of(breaker=BreakerSettings(open_s=60.0, longest_open_s=60.0)), Saying(None)
    for _ in range(4):
        judge.ask(broken, ROWS)
    assert judge.circuit is Circuit.OPEN
    del broken
    gc.collect()
    wait_until(lambda: not model_threads() - before)
    assert (judge.circuit, judge.openings) == (Circuit.CLOSED, 1)


def test_a_forced_circuit_asks_nobody_and_says_so(judge_of):
    judge, model = judge_of(force_open=True), Hanging()
    for _ in range(5):
        assert judge.ask(model, ROWS) == (None, CIRCUIT_OPEN, Circuit.OPEN)
    assert (model.asked, judge.circuit) == (0, Circuit.OPEN)


def test_injected_latency_above_the_deadline_opens_the_circuit(judge_of):
    judge = judge_of(deadline_s=0.02, inject_latency_s=0.3, breaker=BreakerSettings(open_s=60.0, longest_open_s=60.0))
    assert [judge.ask(STEADY, ROWS).degraded for _ in range(4)] == [TOO_SLOW] * 3 + [CIRCUIT_OPEN]
    assert judge.openings == 1


def test_injected_latency_below_the_deadline_only_delays(judge_of):
    judge = judge_of(inject_latency_s=0.03)
    for _ in range(3):
        answer, took = timed(judge, STEADY)
        assert answer.degraded is None
        assert took >= 0.03
