"""The certificate: the exported model answers as the trained one does, on real rows and on every edge."""

from collections.abc import Callable, Iterable

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.errors import CertificateRefused
from sentinel.model.scorer import Scorer

LIMIT = 1e-6
Native = Callable[[NDArray[np.float32]], NDArray[np.float32]]
EDGES = ("the threshold", "the float32 below the threshold", "the float32 above the threshold", "a missing value")


class Certificate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many rows were compared, and the largest difference of two probabilities in each kind.

    `test_rows` are the rows of the test part; `splits` the splits of the trained trees, each with four rows.
    """

    limit: float
    test_rows: int
    splits: int
    largest_on_test_rows: float
    largest_on_thresholds: float
    largest_on_missing: float

    @property
    def largest(self) -> float:
        """The largest difference of all."""
        return max(self.largest_on_test_rows, self.largest_on_thresholds, self.largest_on_missing)


def certify(
    native: Native, exported: Scorer, test_rows: NDArray[np.float32], probes: Iterable[NDArray[np.float32]]
) -> Certificate:
    """Compare the trained model (`native`) with the exported one.

    `probes` are arrays (4 s, features): for each split the four rows of EDGES, in that order. Raises
    CertificateRefused at the first difference above LIMIT, or score that is no probability.
    """
    on_test = _largest(native, exported, test_rows, lambda row: f"test row {row}")
    splits, on_thresholds, on_missing = 0, 0.0, 0.0
    for rows in probes:
        differences = _differences(native, exported, rows, _edge_names(splits))
        missing = np.arange(len(rows)) % 4 == 3
        on_thresholds = max(on_thresholds, float(differences[~missing].max(initial=0.0)))
        on_missing = max(on_missing, float(differences[missing].max(initial=0.0)))
        splits += len(rows) // 4
    return Certificate(LIMIT, len(test_rows), splits, on_test, on_thresholds, on_missing)


def _edge_names(before: int) -> Callable[[int], str]:
    return lambda row: f"split {before + row // 4} at {EDGES[row % 4]}"


def _largest(native: Native, exported: Scorer, rows: NDArray[np.float32], name: Callable[[int], str]) -> float:
    return float(_differences(native, exported, rows, name).max(initial=0.0))


def _differences(
    native: Native, exported: Scorer, rows: NDArray[np.float32], name: Callable[[int], str]
) -> NDArray[np.float64]:
    trained, served = native(rows).astype(np.float64), exported.score(rows).astype(np.float64)
    differences = np.abs(trained - served)
    sound = (differences <= LIMIT) & (served >= 0) & (served <= 1)  # false for NaN as well
    if not sound.all():
        row = int(np.flatnonzero(~sound)[0])
        raise CertificateRefused(
            f"the exported model is not the trained one: on {name(row)} it says {served[row]:.9g}, the trained "
            f"one {trained[row]:.9g}; {int((~sound).sum())} of {len(rows)} rows differ by more than {LIMIT} or are no "
            "probability. No model was written; check the versions of the learner's library and of onnxruntime"
        )
    return differences
