"""The training set: a history replayed through the feature kernel, and split by time, or at random."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from sentinel.detector import Detector, Training
from sentinel.errors import DataProblem
from sentinel.events.columns import EventColumns
from sentinel.events.files import History
from sentinel.events.replay import columns_of_frame, text_hashes
from sentinel.events.schema import Schema
from sentinel.events.times import duration_us
from sentinel.features.plan import FeaturePlan
from sentinel.features.store import MemoryStore
from sentinel.policy.sample import Sample
from sentinel.train.rows.standing import known_labels, stands_for
from sentinel.train.rows.vocabulary import learn_vocabulary

Progress = Callable[[int, int], None]
"""Called with how many events are done, and how many there are."""
NEWEST = "newest_learned_us"
"""Where the training facts of a manifest have the time of the newest row that was learned from."""
_CHUNK = 50_000


@dataclass(frozen=True, slots=True)
class Part:
    """The labelled rows of one part of the history: features float32 (n, f), labels int8 (n,), microseconds (n,).

    `all_rows` (m, f) has those without a label too: what comes live has none yet. `cards` (n,) says whose each row is
    (see `cards_of`); None where the schema has no key. `amounts` float64 (n,) have no sign; None of a part on which
    nothing is chosen by what it costs. `stands` int64 (n,) says for how many transactions each row stands (see
    `standing`); None where each stands for itself.
    """

    rows: NDArray[np.float32]
    labels: NDArray[np.int8]
    time_us: NDArray[np.int64]
    all_rows: NDArray[np.float32]
    cards: NDArray[np.uint64] | None = None
    amounts: NDArray[np.float64] | None = None
    stands: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """Number of labelled transactions."""
        return len(self.labels)

    @property
    def frauds(self) -> int:
        """Number of frauds."""
        return int(np.count_nonzero(self.labels == 1))

    def take(self, rows: NDArray[np.int64]) -> "Part":
        """The labelled rows of these numbers."""
        taken = self.rows[rows]
        cards = None if self.cards is None else self.cards[rows]
        amounts = None if self.amounts is None else self.amounts[rows]
        stands = None if self.stands is None else self.stands[rows]
        return Part(taken, self.labels[rows], self.time_us[rows], taken, cards, amounts, stands)

    @property
    def standing(self) -> int:
        """For how many transactions its labelled rows stand."""
        return len(self) if self.stands is None else int(self.stands.sum())

    def repeated(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The numbers of labelled rows, each as often as it stands for a transaction."""
        return rows if self.stands is None else np.repeat(rows, self.stands[rows])

    def counted(self) -> "Part":
        """The part with each labelled row as often as it stands for a transaction, to measure on."""
        if self.stands is None:
            return self
        return replace(self.take(self.repeated(np.arange(len(self)))), all_rows=self.all_rows, stands=None)

    def sample(self, scores: NDArray[np.float32], share: float = 1.0) -> Sample:
        """The part with these scores (n,), to choose thresholds by or to judge them on.

        `share` is how many of the transactions of its time it has, where it has not all.
        """
        assert self.amounts is not None  # noqa: S101 - the parts of a dataset have theirs
        return Sample(scores, self.labels, self.amounts, self.time_us, round(len(self.all_rows) / share))


def joined(*parts: Part) -> Part:
    """All rows of the parts, one part after the other."""
    cards = [part.cards for part in parts if part.cards is not None]
    amounts = [part.amounts for part in parts if part.amounts is not None]
    stands = [np.ones(len(part), np.int64) if part.stands is None else part.stands for part in parts]
    return Part(
        rows=np.concatenate([part.rows for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        time_us=np.concatenate([part.time_us for part in parts]),
        all_rows=np.concatenate([part.all_rows for part in parts]),
        cards=np.concatenate(cards) if len(cards) == len(parts) else None,
        amounts=np.concatenate(amounts) if len(amounts) == len(parts) else None,
        stands=np.concatenate(stands) if any(part.stands is not None for part in parts) else None,
    )


@dataclass(frozen=True, slots=True)
class Dataset:
    """The three parts, never sharing a row, the plan that made them and the state at the end of the history."""

    plan: FeaturePlan
    train: Part
    validation: Part
    test: Part
    store: MemoryStore

    @property
    def transactions(self) -> int:
        """How many there are in all parts, labelled or not."""
        return sum(len(part.all_rows) for part in (self.train, self.validation, self.test))


def build_dataset(detector: Detector, history: History, progress: Progress, plan: FeaturePlan | None = None) -> Dataset:
    """Split, learn the categories on the training part, replay everything once.

    With a `plan`, its categories are taken instead. Raises DataProblem, before anything is replayed, where a part has
    no fraud or nothing else.
    """
    frame = history.frame
    if detector.schema.label not in frame.columns:
        raise DataProblem(f"the history has no {detector.schema.label}; say which column it is with --map")
    stands = stands_for(frame, detector.schema)
    labels = known_labels(frame[detector.schema.label].fill_null(-1).to_numpy().astype(np.int8), stands)
    times = np.maximum.accumulate(frame[detector.schema.time].to_numpy())  # what came late is of when it came
    places = parts_of(detector.training, times, labels)
    _check_labels(labels, places)
    if plan is None:
        plan = detector.plan(learn_vocabulary(detector, frame[places[0]]))
    store = MemoryStore(plan)
    rows = replay(store, columns_of_frame(detector.schema, frame, detector.trusts, history.context), progress)
    amounts = np.abs(frame[detector.schema.amount].cast(pl.Float64).to_numpy())
    cards = cards_of(detector.schema, frame) if detector.schema.keys else None
    train, validation, test = (
        _part(
            rows[place], labels[place], times[place], None if cards is None else cards[place], amounts[place],
            None if stands is None else stands[place],
        )
        for place in places
    )  # fmt: skip
    return Dataset(plan, train, validation, test, store)


def _check_labels(labels: NDArray[np.int8], places: Sequence[NDArray[np.int64]]) -> None:
    """Raise DataProblem where the labels (n,), 1, 0 or -1, have one kind alone, in all or in a part of the history."""
    labelled, frauds = int(np.count_nonzero(labels != -1)), int(np.count_nonzero(labels == 1))
    if frauds in (0, labelled):
        raise DataProblem(
            f"all of the {labelled:,} labelled transactions are {'fraud' if frauds else 'legitimate'}, so there is "
            "nothing to tell apart; see what `sentinel inspect` says of the label, and whether this column is it"
        )
    for name, place in zip(("training", "validation", "test"), places, strict=True):
        part = labels[place]
        labelled, frauds = int(np.count_nonzero(part != -1)), int(np.count_nonzero(part == 1))
        if frauds in (0, labelled):
            raise DataProblem(
                f"the {name} part has {frauds} frauds among {labelled} labelled transactions; "
                "both kinds are needed: bring a longer history, or change the shares in Training"
            )


def parts_of(
    training: Training, time_us: NDArray[np.int64], labels: NDArray[np.int8]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Row numbers, ascending, of the training, validation and test part of n rows in order of time.

    `labels` (n,) are 1, 0, or -1 where there is none. What is newer than all labels, because none can be there yet,
    belongs to the test part, and takes nothing of its share. Raises DataProblem where there is too little for three
    parts.
    """
    if training.split == "random":
        return _at_random(labels, training)
    known = np.flatnonzero(labels != -1)
    upto = int(known[-1]) + 1 if len(known) else len(labels)
    first, second, third, fourth = _borders(training, time_us[:upto])
    return np.arange(first), np.arange(second, third), np.arange(fourth, len(time_us))


def _borders(training: Training, time_us: NDArray[np.int64]) -> tuple[int, int, int, int]:
    """End of training, begin and end of validation, begin of test, as row numbers.

    A transaction of the same instant as a border is on its later side.
    """
    n = len(time_us)
    validation_at = time_us[int(n * (1 - training.test_share - training.validation_share))]
    test_at = time_us[int(n * (1 - training.test_share))]
    gap = duration_us(training.gap) if training.gap else 0
    borders = np.searchsorted(time_us, [validation_at - gap, validation_at, test_at - gap, test_at])
    first, second, third, fourth = (int(one) for one in borders)
    if not 0 < first <= second < third <= fourth < n:
        raise DataProblem(f"{n} transactions do not split into three parts by time; bring a longer history")
    return first, second, third, fourth


def _at_random(
    labels: NDArray[np.int8], training: Training
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Stratified, as scikit-learn's `train_test_split` does it: the test part first, then validation of the rest."""
    rows = np.arange(len(labels))
    try:
        rest, test = train_test_split(rows, test_size=training.test_share, stratify=labels, random_state=training.seed)
        share = training.validation_share / (1 - training.test_share)
        train, validation = train_test_split(rest, test_size=share, stratify=labels[rest], random_state=training.seed)
    except ValueError as error:
        raise DataProblem(
            f"{len(labels)} transactions do not split at random: {error}; bring a longer history"
        ) from None
    return np.sort(train), np.sort(validation), np.sort(test)


def replay(store: MemoryStore, events: EventColumns, progress: Progress) -> NDArray[np.float64]:
    """Advance the store through all events, in chunks so that progress can be shown; the rows of all."""
    parts = []
    for begin in range(0, len(events), _CHUNK):
        parts.append(store.advance(events.rows(slice(begin, begin + _CHUNK))).rows)
        progress(min(begin + _CHUNK, len(events)), len(events))
    return np.concatenate(parts)


def cards_of(schema: Schema, frame: pl.DataFrame) -> NDArray[np.uint64]:
    """Whose each row of a history is: a hash of its first key, and a number of its own where it has none."""
    own = np.arange(len(frame), dtype=np.uint64)
    if not schema.keys:
        return own
    keys = frame[schema.keys[0]]
    return np.where(keys.is_null().to_numpy(), own, text_hashes(keys))


def _part(
    rows: NDArray[np.float64], labels: NDArray[np.int8], times: NDArray[np.int64], cards: NDArray[np.uint64] | None,
    amounts: NDArray[np.float64], stands: NDArray[np.int64] | None,
) -> Part:  # fmt: skip
    all_rows, labelled = rows.astype(np.float32), labels >= 0
    if labelled.all():
        return Part(all_rows, labels, times, all_rows, cards, amounts, stands)
    everything = Part(all_rows, labels, times, all_rows, cards, amounts, stands)
    return replace(everything.take(np.flatnonzero(labelled)), all_rows=all_rows)
