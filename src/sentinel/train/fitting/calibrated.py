"""A fitted model with its calibration: as one model, which is exported and certified together."""

from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper
from scipy.special import expit

from sentinel.train.fitting.calibrate import Calibration, calibration_nodes
from sentinel.train.learners.fitted import NEAREST, Fitted
from sentinel.train.learners.tree_graph import logistic

_LOGISTIC = ["Neg", "Exp", "Add", "Div"]


class Calibrated:
    """As `Fitted`: its model, with log-odds that were calibrated."""

    def __init__(self, model: Fitted, calibration: Calibration) -> None:
        self._model = model
        self._calibration = calibration

    @property
    def trees_used(self) -> int | None:
        """As `Fitted`."""
        return self._model.trees_used

    def log_odds(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """As `Fitted`."""
        return self._calibration(self._model.log_odds(rows))

    def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """As `Fitted`."""
        return np.asarray(expit(self.log_odds(rows)), np.float32)

    def ensemble(self) -> None:
        """As `Fitted`: it is no sum of trees alone."""
        return

    def to_onnx(self, n_features: int) -> bytes:
        """As `Fitted`: the graph of its model, with the calibration in front of the logistic function."""
        model = onnx.load_from_string(self._model.to_onnx(n_features))
        graph, tail = model.graph, list(model.graph.node)[-4:]
        if [node.op_type for node in tail] == _LOGISTIC:
            logit = tail[0].input[0]
            del graph.node[-4:]
        else:
            logit = "calibration_logit"
            graph.node[-1].output[0] = "calibration_score"
            _extend(graph, *_log_odds_nodes("calibration_score", logit))
        _extend(graph, *calibration_nodes(self._calibration, logit, "calibrated"))
        _extend(graph, logistic("calibrated", "fraud_probability"), [_number("one", 1.0)])
        onnx.checker.check_model(model)
        serialised: bytes = model.SerializeToString(deterministic=True)
        return serialised

    def split_probes(self, base_rows: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """As `Fitted`."""
        return self._model.split_probes(base_rows)


def _log_odds_nodes(score: str, logit: str) -> tuple[list[NodeProto], list[TensorProto]]:
    nodes = [
        helper.make_node("Clip", [score, "calibration_least_score", "calibration_most_score"], ["calibration_within"]),
        helper.make_node("Log", ["calibration_within"], ["calibration_ln_score"]),
        helper.make_node("Sub", ["calibration_unit", "calibration_within"], ["calibration_rest"]),
        helper.make_node("Log", ["calibration_rest"], ["calibration_ln_rest"]),
        helper.make_node("Sub", ["calibration_ln_score", "calibration_ln_rest"], [logit]),
    ]
    constants = {"least_score": NEAREST, "most_score": 1 - NEAREST, "unit": 1.0}
    return nodes, [_number(f"calibration_{name}", value) for name, value in constants.items()]


def _number(name: str, value: float) -> TensorProto:
    return helper.make_tensor(name, TensorProto.FLOAT, [], [value])


def _extend(graph: onnx.GraphProto, nodes: list[NodeProto], constants: list[TensorProto]) -> None:
    graph.node.extend(nodes)
    known = {one.name for one in graph.initializer}
    graph.initializer.extend(one for one in constants if one.name not in known)
