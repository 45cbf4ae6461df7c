"""For how many transactions a row stands: one that was held out stands for others that were blocked like it.

An export of the log (`log.weight`) says 1 / probability for a transaction that was approved to learn what it is, and 0
for one that could have been and was not: those that were held out stand for it. A whole number of times is taken, the
next one up with the probability of the rest, drawn by the id: on average nothing is lost, every file and model counts a
row alike, and whatever can count rows can count these.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sentinel.events.replay import text_hashes
from sentinel.events.schema import Schema
from sentinel.events.stamps import WEIGHT

_UNIT = 2.0**-53


def stands_for(frame: pl.DataFrame, schema: Schema) -> NDArray[np.int64] | None:
    """How many transactions each row of a history (n,) stands for; None where each stands for itself."""
    if WEIGHT not in frame.columns:
        return None
    weights = frame[WEIGHT].fill_null(1.0).to_numpy()
    drawn = (text_hashes(frame[schema.id]) >> np.uint64(11)).astype(np.float64) * _UNIT
    times = np.floor(weights + drawn).astype(np.int64)
    return None if (times == 1).all() else times


def known_labels(labels: NDArray[np.int8], stands: NDArray[np.int64] | None) -> NDArray[np.int8]:
    """The labels (n,), -1 where there is none, and where others stand for the row."""
    return labels if stands is None else np.where(stands == 0, -1, labels).astype(np.int8)
