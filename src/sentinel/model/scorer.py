"""The scorer: one ONNX Runtime session that turns feature rows into fraud probabilities."""

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from sentinel.errors import BundleProblem

CHUNK = 48
"""Rows in one call. Above 50, ONNX Runtime 1.32 walks the trees in another order, which takes 2.5 times as long."""


class Scorer:
    """A model with one input, float32 (n, n_features), and one output, the probability of fraud (n, 1).

    It runs on one thread and adds up the trees in their order, so a row's score does not depend on the rows beside
    it. Raises BundleProblem when the bytes are no such model.
    """

    def __init__(self, model: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise BundleProblem(f"the model is no ONNX model that can be run ({error}); train anew") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        shape = inputs[0].shape
        if len(inputs) != 1 or len(outputs) != 1 or len(shape) != 2 or inputs[0].type != "tensor(float)":
            raise BundleProblem(
                "the model must take one float32 tensor (rows, features) and give one probability per row; "
                f"it takes {[one.name for one in inputs]} and gives {[one.name for one in outputs]}"
            )
        self._input = inputs[0].name
        self._outputs = [outputs[0].name]
        self.n_features = int(shape[1])

    def score(self, rows: NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.float32]:
        """Probabilities (n,) of rows (n, n_features); NaN is a missing feature."""
        if rows.ndim != 2 or rows.shape[1] != self.n_features:
            raise BundleProblem(f"the model takes rows of {self.n_features} features, got an array {rows.shape}")
        given = np.ascontiguousarray(rows, dtype=np.float32)
        if len(given) <= CHUNK:
            return self._run(given)
        return np.concatenate([self._run(given[i : i + CHUNK]) for i in range(0, len(given), CHUNK)])

    def _run(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        if len(rows) == 0:
            return np.zeros(0, np.float32)
        scores: NDArray[np.float32] = self._session.run(self._outputs, {self._input: rows})[0]
        return scores.reshape(-1)
