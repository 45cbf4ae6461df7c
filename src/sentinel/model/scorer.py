"""The scorer: one ONNX Runtime session that turns feature rows into fraud probabilities."""

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from sentinel.errors import BundleProblem


class Scorer:
    """Loads a model of one input (rows, features) and one output: the probability of fraud per row."""

    def __init__(self, model: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise BundleProblem(f"the model is no ONNX model that can be run ({error}); train anew") from error
        (given,) = self._session.get_inputs()
        self._input = given.name
        self._outputs = [self._session.get_outputs()[0].name]
        self.n_features = int(given.shape[1])

    def score(self, rows: NDArray[np.floating]) -> NDArray[np.float32]:
        """Probabilities (n,) of rows (n, n_features)."""
        given = np.ascontiguousarray(rows, dtype=np.float32)
        scores: NDArray[np.float32] = self._session.run(self._outputs, {self._input: given})[0]
        return scores.reshape(-1)
