"""Calibration: scores that mean what they say, so that of a hundred payments at 0.3 some thirty are fraud.

Both kinds are increasing functions from log-odds to log-odds. They never make two scores equal nor swap two, so
thresholds, rankings and the metrics of a ranking are as before; only the scale changes. They are a few operators behind
the trees of the exported model, and part of what its certificate compares.

- Beta calibration (Kull, Silva Filho, Flach, AISTATS 2017): three numbers, fitted as a logistic regression on ln p and
  -ln(1 - p). With two equal slopes it is Platt's; with 1, 1 and 0 it changes nothing. Works with few frauds.
- Centred isotonic regression (Oron, Flournoy, Statistics in Biopharmaceutical Research 2017): the steps of isotonic
  regression, each as one point in its middle, joined by straight lines. Plain isotonic regression gives all scores of
  a step the same value, which takes a ranking apart. Follows any shape, and needs many frauds.
"""

from typing import Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper
from scipy.optimize import minimize
from sklearn.isotonic import IsotonicRegression

Method = Literal["none", "beta", "isotonic"]
Floats: TypeAlias = NDArray[np.float64]


class Beta(msgspec.Struct, frozen=True, tag="beta", tag_field="method"):
    """log-odds = `a` ln p - `b` ln(1 - p) + `c`; `a` and `b` are positive."""

    a: float
    b: float
    c: float

    def __call__(self, logits: Floats) -> Floats:
        """Calibrated log-odds (n,) of log-odds (n,)."""
        return self.b * logits + (self.b - self.a) * np.logaddexp(0.0, -logits) + self.c


class Isotonic(msgspec.Struct, frozen=True, tag="isotonic", tag_field="method"):
    """Straight lines from each of the points (`at`, `value`) to the next, and on with slope 1 outside of them.

    Both are log-odds in ascending order.
    """

    at: list[float]
    value: list[float]

    def __call__(self, logits: Floats) -> Floats:
        """Calibrated log-odds (n,) of log-odds (n,)."""
        outside = np.minimum(logits - self.at[0], 0) + np.maximum(logits - self.at[-1], 0)
        lines: Floats = np.interp(logits, self.at, self.value) + outside
        return lines


Calibration: TypeAlias = Beta | Isotonic


def calibrate(method: Method, logits: Floats, labels: NDArray[np.int8]) -> Calibration | None:
    """The calibration of log-odds (n,) by models that had not seen these labels (n,); None for `none`."""
    match method:
        case "none":
            return None
        case "beta":
            return _beta(logits, labels)
        case "isotonic":
            return _isotonic(logits, labels)


def _beta(logits: Floats, labels: NDArray[np.int8]) -> Beta:
    """By maximum likelihood, with a weak pull towards no change where the rows hardly tell.

    Labels are taken as half a count less certain (as Platt's are), so that rows which are told apart without an error
    still have a finite best answer.
    """
    frauds = int((labels == 1).sum())
    hopes = np.where(labels == 1, (frauds + 1) / (frauds + 2), 1 / (len(labels) - frauds + 2))
    minus_ln_p, minus_ln_rest = np.logaddexp(0.0, -logits), np.logaddexp(0.0, logits)

    def cost(parameters: Floats) -> tuple[float, Floats]:
        ln_a, ln_b, c = parameters
        a, b = np.exp(ln_a), np.exp(ln_b)
        found = -a * minus_ln_p + b * minus_ln_rest + c
        error = 1 / (1 + np.exp(-np.clip(found, -700, 700))) - hopes
        loss = np.logaddexp(0.0, found) - hopes * found
        slopes = np.array([-a * (error @ minus_ln_p) + ln_a, b * (error @ minus_ln_rest) + ln_b, error.sum()])
        return float(loss.sum() + (ln_a**2 + ln_b**2) / 2), slopes

    bounds = [(-3.0, 3.0), (-3.0, 3.0), (-30.0, 30.0)]
    best = minimize(cost, np.zeros(3), jac=True, method="L-BFGS-B", bounds=bounds).x
    return Beta(a=float(np.exp(best[0])), b=float(np.exp(best[1])), c=float(best[2]))


def _isotonic(logits: Floats, labels: NDArray[np.int8]) -> Isotonic:
    at, values = logits, (labels == 1).astype(np.float64)
    at, values, weights = _steps(at, values, np.ones(len(at)))
    values = (values * weights + 0.5) / (weights + 1)  # a step without a fraud is not certain, nor one of frauds alone
    at, values, _ = _steps(at, values, weights)
    return Isotonic(at=at.tolist(), value=np.log(values / (1 - values)).tolist())


def _steps(at: Floats, values: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
    """The steps of isotonic regression: the middle of each, its value, and its weight."""
    fitted = IsotonicRegression().fit_transform(at, values, sample_weight=weights)
    levels, which = np.unique(fitted, return_inverse=True)
    total = np.bincount(which, weights)
    return np.bincount(which, weights * at) / total, levels, total.astype(np.float64)


def calibration_nodes(calibration: Calibration, logit: str, out: str) -> tuple[list[NodeProto], list[TensorProto]]:
    """The operators, and their constants, that make calibrated log-odds `out` (n, 1) of log-odds `logit` (n, 1)."""
    if isinstance(calibration, Beta):
        return _beta_nodes(calibration, logit, out)
    return _isotonic_nodes(calibration, logit, out)


def _beta_nodes(beta: Beta, logit: str, out: str) -> tuple[list[NodeProto], list[TensorProto]]:
    nodes = [
        helper.make_node("Neg", [logit], ["calibration_negative"]),  # ln(1 + exp(-x)) = max(-x, 0) + ln(1 + exp(-|x|))
        helper.make_node("Max", ["calibration_negative", "calibration_zero"], ["calibration_large"]),
        helper.make_node("Abs", [logit], ["calibration_size"]),
        helper.make_node("Neg", ["calibration_size"], ["calibration_below"]),
        helper.make_node("Exp", ["calibration_below"], ["calibration_power"]),
        helper.make_node("Add", ["calibration_power", "calibration_one"], ["calibration_sum"]),
        helper.make_node("Log", ["calibration_sum"], ["calibration_small"]),
        helper.make_node("Add", ["calibration_large", "calibration_small"], ["calibration_minus_ln_p"]),
        helper.make_node("Mul", ["calibration_minus_ln_p", "calibration_b_less_a"], ["calibration_bend"]),
        helper.make_node("Mul", [logit, "calibration_b"], ["calibration_slope"]),
        helper.make_node("Add", ["calibration_slope", "calibration_bend"], ["calibration_line"]),
        helper.make_node("Add", ["calibration_line", "calibration_c"], [out]),
    ]
    constants = {"zero": 0.0, "one": 1.0, "b_less_a": beta.b - beta.a, "b": beta.b, "c": beta.c}
    return nodes, [_constant(name, [value], []) for name, value in constants.items()]


def _isotonic_nodes(isotonic: Isotonic, logit: str, out: str) -> tuple[list[NodeProto], list[TensorProto]]:
    """A sum over the pieces: how far into each a score reaches, by its slope."""
    at = np.array([-np.inf, *isotonic.at, np.inf])
    begins, lengths = np.concatenate([[at[1]], at[1:-1]]), np.diff(at)
    slopes = np.ones(len(lengths))
    slopes[1:-1] = np.diff(isotonic.value) / np.diff(isotonic.at)
    least, most = np.zeros(len(lengths)), lengths
    least[0], most[0] = -np.finfo(np.float32).max, 0.0  # the first piece is left of its begin
    most[-1] = np.finfo(np.float32).max
    nodes = [
        helper.make_node("Sub", [logit, "calibration_begins"], ["calibration_past"]),
        helper.make_node("Max", ["calibration_past", "calibration_least"], ["calibration_from"]),
        helper.make_node("Min", ["calibration_from", "calibration_most"], ["calibration_into"]),
        helper.make_node("MatMul", ["calibration_into", "calibration_slopes"], ["calibration_risen"]),
        helper.make_node("Add", ["calibration_risen", "calibration_first"], [out]),
    ]
    n = len(slopes)
    constants = [
        _constant(name, values.tolist(), [1, n])
        for name, values in {"begins": begins, "least": least, "most": most}.items()
    ]
    return nodes, [
        *constants,
        _constant("slopes", slopes.tolist(), [n, 1]),
        _constant("first", [isotonic.value[0]], []),
    ]


def _constant(name: str, values: list[float], sizes: list[int]) -> TensorProto:
    return helper.make_tensor(f"calibration_{name}", TensorProto.FLOAT, sizes, values)
