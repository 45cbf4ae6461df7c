"""The shadow's score beside an answer: the decision is the same with it, and what is late, wrong or broken is left out."""

import threading
import time

import msgspec
import numpy as np
import pytest

from sentinel.errors import BundleProblem, UnknownVersion
from sentinel.model.registry import Registry
from sentinel.policy.deployment import Deployment
from sentinel.serve.batch import Decision
from sentinel.serve.inline_shadow import Beside, InlineShadow
from sentinel.serve.lineup import load_lineup, with_inline_shadow

SERVED = Deployment().with_champion("v1")


@pytest.fixture(scope="module")
def registry(four_models_home):
    return Registry(four_models_home / "models")


def shadowed(registry, version):
    deployment = msgspec.structs.replace(SERVED, shadow=version)
    return with_inline_shadow(load_lineup(SERVED, registry), deployment, registry)


def joined(answered, patience_s=10.0):
    until = time.monotonic() + patience_s
    while answered.late is not None and answered.late.scores is None and time.monotonic() < until:
        time.sleep(0.001)
    return answered.answers if answered.late is None else answered.late.joined(answered.answers)


def bare(one):
    return msgspec.structs.replace(
        one, shadow_fraud_probability=msgspec.UNSET, latency_us=0, model_version=""
    )  # fmt: skip


def test_the_decision_is_the_same_and_the_score_is_the_shadows(home_of, registry):
    alone, beside = home_of(load_lineup(SERVED, registry), folder="alone"), home_of(shadowed(registry, "v2"))
    alone.open()
    beside.open()
    payments = [alone.payment(i) for i in range(40)]
    without = alone.handle([alone.payment(i) for i in range(40)])
    answered = beside.answered(payments)
    found = joined(answered)
    assert [bare(one) for one in found] == [bare(one) for one in without]
    (state,) = beside.engine.states.values()
    rows = np.concatenate([np.frombuffer(one.features, np.float64) for one in beside.decisions()]).reshape(40, -1)
    expected = beside.engine.lineup.shadow.scorer.score(rows)
    assert [one.shadow_fraud_probability for one in found] == expected.astype(float).tolist()
    assert [one.shadow_fraud_probability for one in found] != [one.fraud_probability for one in found]
    assert alone.decisions()[0].fraud_probability == beside.decisions()[0].fraud_probability
    assert state.bundle.manifest.version == "v1"  # no state is kept for the shadow


def test_a_repeat_and_an_error_are_as_they_were(home_of, registry):
    home = home_of(shadowed(registry, "v2"))
    home.open()
    home.handle([home.payment(1)])
    again = joined(home.answered([home.payment(1), home.payment(2), home.payment(1, amount=9.0)]))
    assert again[0].shadow_fraud_probability is msgspec.UNSET
    assert again[0].replayed
    assert isinstance(again[1].shadow_fraud_probability, float)
    assert not isinstance(again[2], Decision)


def test_other_features_are_refused_with_what_to_do(registry):
    with pytest.raises(UnknownVersion, match="takes other features than the champion v1"):
        shadowed(registry, "v4")
    with pytest.raises(BundleProblem, match="no model 'v9'"):
        shadowed(registry, "v9")
    assert with_inline_shadow(load_lineup(SERVED, registry), SERVED, registry).shadow is None


class Odd:
    """A model that hangs until it is let go, fails, or says what is no probability."""

    is_bounded = False

    def __init__(self, says=None):
        self.go, self.says, self.asked = threading.Event(), says, 0

    def score(self, rows):
        self.asked += 1
        assert len(rows)
        self.go.wait(20)
        if self.says is None:
            raise RuntimeError("broken on purpose")
        return np.array(self.says, np.float32)


def test_a_shadow_that_hangs_is_waited_for_by_nobody_and_asked_no_more():
    thread, model, rows = InlineShadow(), Odd([0.5]), np.zeros((1, 2))
    beside = thread.ask(model, rows, ["a"])
    answers = ["stands for a decision"]
    assert beside.joined(answers) is answers
    assert [thread.ask(model, rows, ["b"]) for _ in range(5)] == [None] * 5
    model.go.set()
    until = time.monotonic() + 10
    while beside.scores is None and time.monotonic() < until:
        time.sleep(0.001)
    assert beside.scores == {"a": 0.5}
    while (again := thread.ask(model, rows, ["c"])) is None and time.monotonic() < until:
        time.sleep(0.001)
    assert again is not None
    assert model.asked <= 2
    thread.stop()


@pytest.mark.parametrize(
    ("says", "expected"),
    [(None, None), ([0.1], None), ([0.1, np.nan], {"a": np.float32(0.1)}), ([2.0, 1.0], {"b": 1.0})],
)
def test_what_is_no_probability_is_left_out(says, expected):
    model = Odd(says)
    model.go.set()
    beside = Beside(model, np.zeros((2, 1)), ["a", "b"])
    beside.compute()
    assert beside.scores == expected
