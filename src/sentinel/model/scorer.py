"""The scorer: a model from ONNX that turns feature rows into fraud probabilities."""

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as faults

from sentinel.errors import BundleProblem
from sentinel.model.onnx_file import OnnxFile
from sentinel.model.trees import check_trees, take_out_trees

_FAULTS = tuple(one for one in vars(faults).values() if isinstance(one, type) and issubclass(one, Exception))
"""What ONNX Runtime raises; these share no base of their own."""

CHUNK = 48
"""Rows in one call. From 50 on, ONNX Runtime 1.32 walks the trees in another order and takes 2.5 times as long."""


class Scorer:
    """A model with one input, float32 (n, n_features), and one output, the probability of fraud (n, 1) or (n,).

    ONNX Runtime runs it, except for trees in first place, which `trees.py` answers with the same bits; with
    `own_trees=False` it runs all of it. A row's score has the same bits whatever rows are beside it. For ONNX Runtime
    this rests on the one thread: there each row adds up its trees in their order. With two threads ONNX Runtime 1.32
    shares out the trees of a small batch and the rows of a large one; those are other sums, and about half of all
    scores differ in their last bits.

    Raises BundleProblem when the bytes are no such model.
    """

    def __init__(self, model: bytes, *, own_trees: bool = True) -> None:
        file = OnnxFile(model)
        check_trees(file)
        self._session = _open(model)
        _check(self._session)
        self._input = self._session.get_inputs()[0].name
        self._outputs = [self._session.get_outputs()[0].name]
        self.n_features = int(self._session.get_inputs()[0].shape[1])
        self._trees = None
        parts = take_out_trees(file, self.n_features)
        if parts is not None and own_trees:
            self._trees, rest, self._input = parts
            self._session = _open(rest)

    @property
    def is_bounded(self) -> bool:
        """Whether scoring is nothing but a known number of steps: so for trees that `trees.py` answers."""
        return self._trees is not None

    def score(self, rows: NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.float32]:
        """Probabilities (n,) of rows (n, n_features); NaN is a missing feature.

        Raises BundleProblem for rows of another width.
        """
        if rows.ndim != 2 or rows.shape[1] != self.n_features:
            raise BundleProblem(f"the model takes rows of {self.n_features} features, got an array {rows.shape}")
        given = np.ascontiguousarray(rows, dtype=np.float32)
        if self._trees is not None:
            return self._run(self._trees.sums(given))
        if len(given) <= CHUNK:
            return self._run(given)
        return np.concatenate([self._run(given[i : i + CHUNK]) for i in range(0, len(given), CHUNK)])

    def _run(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = self._session.run(self._outputs, {self._input: rows})[0]
        return scores.reshape(-1)


def _open(model: bytes) -> onnxruntime.InferenceSession:
    try:
        return onnxruntime.InferenceSession(model, _options(), providers=["CPUExecutionProvider"])
    except _FAULTS as error:
        raise BundleProblem(f"the model is no ONNX model that can be run ({error}); train anew") from error


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _check(session: onnxruntime.InferenceSession) -> None:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    forms = [(one.type, *(size if isinstance(size, int) else "any" for size in one.shape)) for one in inputs + outputs]
    match forms:
        case [("tensor(float)", "any", int()), ("tensor(float)", "any") | ("tensor(float)", "any", 1)] if (
            len(inputs) == 1
        ):
            return
    raise BundleProblem(
        "the model must take one float32 tensor (any number of rows, a fixed number of features) and give one float32 "
        f"probability a row; it takes {_described(inputs)} and gives {_described(outputs)}; train anew"
    )


def _described(nodes: list[onnxruntime.NodeArg]) -> str:
    return ", ".join(f"{node.name} {node.type} {node.shape}" for node in nodes) or "nothing"
