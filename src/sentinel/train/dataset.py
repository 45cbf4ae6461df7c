"""The training set: a history replayed through the feature kernel, split by time."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sentinel.detector import Detector
from sentinel.errors import DataProblem
from sentinel.events.columns import EventColumns
from sentinel.events.files import History
from sentinel.events.replay import columns_of_frame
from sentinel.events.times import duration_us
from sentinel.features.plan import FeaturePlan
from sentinel.features.store import MemoryStore

Progress = Callable[[int, int], None]
"""Called with how many events are done, and how many there are."""
_CHUNK = 50_000


@dataclass(frozen=True, slots=True)
class Part:
    """The labelled rows of one part of the history: features float32 (n, f), labels int8 (n,), microseconds (n,).

    `all_rows` (m, f) has those without a label too: what comes live has none yet.
    """

    rows: NDArray[np.float32]
    labels: NDArray[np.int8]
    time_us: NDArray[np.int64]
    all_rows: NDArray[np.float32]

    def __len__(self) -> int:
        """Number of labelled transactions."""
        return len(self.labels)

    @property
    def frauds(self) -> int:
        """Number of frauds."""
        return int(np.count_nonzero(self.labels == 1))


@dataclass(frozen=True, slots=True)
class Dataset:
    """The three parts, never sharing a row, the plan that made them and the state at the end of the history."""

    plan: FeaturePlan
    train: Part
    validation: Part
    test: Part
    store: MemoryStore


def build_dataset(detector: Detector, history: History, progress: Progress) -> Dataset:
    """Split by time, learn the categories on the training part, replay everything once."""
    frame = history.frame
    if detector.schema.label not in frame.columns:
        raise DataProblem(f"the history has no {detector.schema.label}; say which column it is with --map")
    bounds = split(detector, frame[detector.schema.time].to_numpy())
    plan = detector.plan(learn_vocabulary(detector, frame[: bounds[0]]))
    store = MemoryStore(plan)
    rows = replay(store, columns_of_frame(detector.schema, frame, detector.trusts, history.context), progress)
    labels = frame[detector.schema.label].fill_null(-1).to_numpy().astype(np.int8)
    times = frame[detector.schema.time].to_numpy()
    slices = (slice(0, bounds[0]), slice(bounds[1], bounds[2]), slice(bounds[3], len(frame)))
    train, validation, test = (_part(rows[one], labels[one], times[one]) for one in slices)
    for name, part in (("training", train), ("validation", validation), ("test", test)):
        if part.frauds == 0 or part.frauds == len(part):
            raise DataProblem(
                f"the {name} part has {part.frauds} frauds among {len(part)} labelled transactions; "
                "both kinds are needed: bring a longer history, or change the shares in Training"
            )
    return Dataset(plan, train, validation, test, store)


def split(detector: Detector, time_us: NDArray[np.int64]) -> tuple[int, int, int, int]:
    """End of training, begin and end of validation, begin of test, as row numbers of a history in time order.

    A transaction of the same instant as a border is on its later side.
    """
    training = detector.training
    n = len(time_us)
    validation_at = time_us[int(n * (1 - training.test_share - training.validation_share))]
    test_at = time_us[int(n * (1 - training.test_share))]
    gap = duration_us(training.gap) if training.gap else 0
    borders = np.searchsorted(time_us, [validation_at - gap, validation_at, test_at - gap, test_at])
    first, second, third, fourth = (int(one) for one in borders)
    if not 0 < first <= second < third <= fourth < n:
        raise DataProblem(f"{n} transactions do not split into three parts by time; bring a longer history")
    return first, second, third, fourth


def learn_vocabulary(detector: Detector, frame: pl.DataFrame) -> dict[str, tuple[str, ...]]:
    """For each categorical field its frequent values, the most frequent first, ties in alphabetical order."""
    learned = {}
    for field in detector.categorical:
        counts = frame[field].drop_nulls().alias("value").value_counts()
        counts = counts.filter(pl.col("count") >= detector.training.rare_below)
        ordered = counts.sort(["count", "value"], descending=[True, False])
        learned[field] = tuple(ordered["value"].to_list())
    return learned


def replay(store: MemoryStore, events: EventColumns, progress: Progress) -> NDArray[np.float64]:
    """Advance the store through all events, in chunks so that progress can be shown; the rows of all."""
    parts = []
    for begin in range(0, len(events), _CHUNK):
        parts.append(store.advance(events.rows(slice(begin, begin + _CHUNK))).rows)
        progress(min(begin + _CHUNK, len(events)), len(events))
    return np.concatenate(parts)


def _part(rows: NDArray[np.float64], labels: NDArray[np.int8], times: NDArray[np.int64]) -> Part:
    all_rows, labelled = rows.astype(np.float32), labels >= 0
    if labelled.all():
        return Part(all_rows, labels, times, all_rows)
    return Part(all_rows[labelled], labels[labelled], times[labelled], all_rows)
