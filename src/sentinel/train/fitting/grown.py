"""A model that had trees before: new ones were fitted on what those leave unexplained, and all of them are one sum.

Boosting goes on from any sums (Friedman 2001): a learner that takes what a row's sum starts from fits its next tree as
if the earlier ones were its own.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper
from scipy.special import expit

from sentinel.errors import InvalidDefinition
from sentinel.model.onnx_file import OnnxFile
from sentinel.model.trees import COVERS, first_trees
from sentinel.train.fitting.vote import Vote
from sentinel.train.learners.fitted import Fitted
from sentinel.train.learners.tree import LEAF, Tree
from sentinel.train.learners.tree_graph import Ensemble
from sentinel.train.learners.tree_probes import split_probes


class EarlierTrees:
    """The trees that an exported model begins with, before its calibration; their sum is log-odds of fraud.

    Raises InvalidDefinition for a model of another kind, and BundleProblem for bytes that are no model.
    """

    def __init__(self, model: bytes) -> None:
        file = OnnxFile(model)
        first = first_trees(file)
        readers = [node.operator for node in file.nodes if first and first.node.outputs[0] in node.inputs]
        if first is None or "Clip" in readers:  # a sum of shares is clipped to a probability
            raise InvalidDefinition("it is no sum of log-odds by trees, so that no tree can be added")
        self.trees = trees_in(first.node.attributes)
        self._session = _summing(model, first.node.outputs[0])
        self._input = file.inputs[0]

    def log_odds(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Their sums (n,) of rows (n, features), by the exported model itself."""
        found = self._session.run(None, {self._input: np.ascontiguousarray(rows, np.float32)})[0]
        return np.asarray(found, np.float64).reshape(-1)


class Grown:
    """As `Fitted`: the earlier trees, and a model of those that were added."""

    def __init__(self, earlier: EarlierTrees, added: Fitted) -> None:
        self.earlier = earlier
        self.added = added

    @property
    def trees_used(self) -> int:
        """As `Fitted`: earlier and added ones."""
        return len(self.earlier.trees) + (self.added.trees_used or 0)

    def log_odds(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """As `Fitted`."""
        return self.earlier.log_odds(rows) + self.added.log_odds(rows)

    def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """As `Fitted`."""
        return np.asarray(expit(self.log_odds(rows)), np.float32)

    def ensemble(self) -> Ensemble:
        """As `Fitted`."""
        added = self.added.ensemble()
        return Ensemble([*self.earlier.trees, *(added.trees if added is not None else ())])

    def to_onnx(self, n_features: int) -> bytes:
        """As `Fitted`."""
        self.added.to_onnx(n_features)  # refuses another number of features
        return self.ensemble().to_onnx(n_features)

    def split_probes(self, base_rows: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """As `Fitted`."""
        return split_probes(self.ensemble().trees, self.predict, base_rows)


def as_one(models: Sequence[Fitted]) -> Fitted:
    """The model alone, or the vote of several; of models that grew from the same trees these are there once."""
    if len(models) == 1:
        return models[0]
    grown = [one for one in models if isinstance(one, Grown)]
    return Grown(grown[0].earlier, Vote([one.added for one in grown])) if len(grown) == len(models) else Vote(models)


def trees_fitted(model: Fitted) -> int | None:
    """How many trees its own training made; None for a model that has none."""
    return model.added.trees_used if isinstance(model, Grown) else model.trees_used


def trees_in(given: dict[str, Any]) -> list[Tree]:
    """The trees of an ensemble by its attributes in ONNX, in their order."""
    number = np.array(given["nodes_treeids"], np.int64)
    is_leaf = np.array([mode == b"LEAF" for mode in given["nodes_modes"]])
    leaves = zip(given["target_treeids"], given["target_nodeids"], strict=True)
    weights = dict(zip(leaves, given["target_weights"], strict=True))
    nodes = zip(given["nodes_treeids"], given["nodes_nodeids"], strict=True)
    adds = np.array([weights.get(node, 0.0) for node in nodes], np.float32)
    columns = {
        "left": np.where(is_leaf, LEAF, given["nodes_truenodeids"]),
        "right": np.where(is_leaf, LEAF, given["nodes_falsenodeids"]),
        "feature": np.array(given["nodes_featureids"], np.int64),
        "value": np.where(is_leaf, adds, np.array(given["nodes_values"], np.float32)),
        "missing_left": np.array(given.get("nodes_missing_value_tracks_true") or [0] * len(number), np.bool_),
        "cover": np.array(given.get(COVERS) or [0.0] * len(number), np.float32),
    }
    begins = np.flatnonzero(np.diff(number, prepend=number[0] - 1))
    parts = [np.split(column, begins[1:]) for column in columns.values()]
    return [Tree(*one) for one in zip(*parts, strict=True)]


def _summing(model: bytes, name: str) -> onnxruntime.InferenceSession:
    """What runs a model up to its output of this name, float32 (n, 1)."""
    graph = onnx.load_from_string(model)
    end = next(n for n, node in enumerate(graph.graph.node) if name in node.output)
    del graph.graph.node[end + 1 :]
    del graph.graph.initializer[:]
    del graph.graph.output[:]
    graph.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
