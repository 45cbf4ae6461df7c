"""Two rows of the test part whose scores a bundle knows: wherever it is loaded, its model has to say the same."""

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.errors import BundleProblem
from sentinel.model.scorer import Scorer

LIMIT = 1e-6


class KnownRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The features of a transaction, null where one is missing, what it was, and its score at training.

    It has neither id nor keys nor texts of the transaction.
    """

    was: Literal["fraud", "legitimate"]
    features: tuple[float | None, ...]
    score: float


def choose_known_rows(
    rows: NDArray[np.float32], labels: NDArray[np.int8], scores: NDArray[np.float32]
) -> tuple[KnownRow, ...]:
    """The fraud of rows (n, features) that scores highest and the legitimate one that scores lowest, the first of each.

    Rows with an infinite feature cannot be written down; there is none of a kind that has no other.
    """
    found: list[KnownRow] = []
    for was, label, sign in (("fraud", 1, -1.0), ("legitimate", 0, 1.0)):
        fit = np.flatnonzero((labels == label) & ~np.isinf(rows).any(axis=1))
        if len(fit):
            row = int(fit[np.argmin(sign * scores[fit])])
            values = tuple(None if np.isnan(value) else float(value) for value in rows[row])
            found.append(KnownRow("fraud" if was == "fraud" else "legitimate", values, float(scores[row])))
    return tuple(found)


def check_known_rows(scorer: Scorer, known: Sequence[KnownRow]) -> None:
    """Raise BundleProblem unless the model says of each what it said at training, to 1e-6."""
    for one in known:
        if len(one.features) != scorer.n_features:
            raise BundleProblem(
                f"its known {one.was} row has {len(one.features)} features, the model takes {scorer.n_features}"
            )
        row = np.array([[np.nan if value is None else value for value in one.features]], np.float32)
        score = float(scorer.score(row)[0])
        if not abs(score - one.score) <= LIMIT:
            raise BundleProblem(
                f"its model says {score:.9g} of the known {one.was} row, and said {one.score:.9g} at training: it "
                "is another model, or the library that runs it computes otherwise; see the versions in its manifest"
            )
