"""The protocol of the fraud detection handbook, so that our figures stand beside the published ones.

Le Borgne, Siblini, Lebichot, Bontempi: *Reproducible Machine Learning for Credit Card Fraud Detection - Practical
Handbook*, ULB 2022. A fold learns from one week, leaves a week in which labels are still on their way, and is tested
on the week after. From each test day the cards are removed that were known to be compromised by then.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.detector import Detector, Training
from sentinel.detectors import load_detector
from sentinel.detectors.handbook import ONE_WEEK
from sentinel.errors import DataProblem
from sentinel.events.files import History, read_history
from sentinel.events.replay import columns_of_frame, text_hashes
from sentinel.features.store import MemoryStore
from sentinel.review.average_precision import average_precision
from sentinel.train.figures.evaluate import auc_roc
from sentinel.train.figures.resampling import Scores
from sentinel.train.fitting.fit import code_columns, fit
from sentinel.train.rows.dataset import Part, Progress, replay
from sentinel.train.rows.vocabulary import learn_vocabulary

VALIDATION_FOLDS = (date(2018, 6, 20), date(2018, 6, 27), date(2018, 7, 4), date(2018, 7, 11))
TEST_FOLDS = (date(2018, 7, 25), date(2018, 8, 1), date(2018, 8, 8), date(2018, 8, 15))
WEEK = 7
TOP_CARDS = 100
_DAY_US = 86_400_000_000
_EPOCH = date(1970, 1, 1)


class Fold(msgspec.Struct, frozen=True):
    """One fold: what there was to learn and to test, three figures, and how many trees the model has.

    `begins` is the date of the fold, the first day of its training week; `trained_from` is the first day that was
    learned from, which is earlier when more than a week was.
    """

    begins: str
    trained_from: str
    train_transactions: int
    train_frauds: int
    test_transactions: int
    test_frauds: int
    auc_roc: float
    average_precision: float
    card_precision_100: float
    trees: int


class HandbookResult(msgspec.Struct, frozen=True):
    """Means over the folds, and the folds. `train_days` is null where everything before the delay was learned."""

    auc_roc: float
    average_precision: float
    card_precision_100: float
    train_days: int | None
    folds: list[Fold]


class Prepared:
    """A history with its features, ready to be cut into folds; n transactions in time order.

    `rows` float32 (n, features), `labels` int8 (n,), `day` int64 (n,) days since 1970, `card` uint64 (n,) hashes of
    the schema's first key; `codes` are those of `code_columns`. The transactions carry their labels, and a feature
    sees one when its delay has passed.
    """

    def __init__(self, detector: Detector, history: History) -> None:
        schema, frame = detector.schema, history.frame
        if schema.label not in frame.columns or frame[schema.label].null_count() > 0:
            raise DataProblem(f"the protocol needs {schema.label} on every transaction of the history")
        plan = detector.plan(learn_vocabulary(detector, frame))
        self.codes = code_columns(plan)
        store = MemoryStore(plan)
        self.rows = replay(store, columns_of_frame(schema, frame), lambda _done, _of: None).astype(np.float32)
        self.labels = frame[schema.label].to_numpy().astype(np.int8)
        self.day = frame[schema.time].to_numpy() // _DAY_US
        self.card = text_hashes(frame[schema.keys[0]])

    def between(self, first: date, days: int) -> slice:
        """The transactions of `days` days from `first` on."""
        begin = (first - _EPOCH).days
        low, high = np.searchsorted(self.day, [begin, begin + days])
        return slice(int(low), int(high))

    def training_rows(self, fold: date, train_days: int | None) -> slice:
        """The last `train_days` days of what came before the fold's delay, or all of it when None."""
        end = fold + timedelta(days=WEEK)
        if train_days is None:
            return slice(0, self.between(end, 0).start)
        return self.between(end - timedelta(days=train_days), train_days)

    def part(self, where: slice) -> Part:
        """Rows to learn from."""
        return Part(self.rows[where], self.labels[where], self.day[where], self.rows[where])

    def test_rows(self, fold: date) -> NDArray[np.int64]:
        """Numbers of the transactions a fold is tested on: its third week, without cards known as compromised.

        On day d a card is known when it had a fraud from the first training day to day d - 8, both included.
        """
        kept = []
        for n in range(WEEK):
            here = self.between(fold + timedelta(days=2 * WEEK + n), 1)
            past = self.between(fold, WEEK + n)
            known = np.unique(self.card[past][self.labels[past] == 1])
            kept.append(np.arange(here.start, here.stop)[~np.isin(self.card[here], known)])
        return np.concatenate(kept)


def run(data: Path, train_days: int | None, progress: Progress) -> HandbookResult:
    """The four test folds with the `handbook` detector; up to two weeks are learned from as one week is."""
    detector = load_detector("handbook")
    if train_days is not None and train_days <= 2 * WEEK:
        detector = msgspec.structs.replace(detector, training=ONE_WEEK)
    history = read_history(data, detector.schema)
    return benchmark(history, detector, train_days=train_days, folds=TEST_FOLDS, progress=progress)


def benchmark(
    history: History, detector: Detector, *, train_days: int | None, folds: Sequence[date], progress: Progress
) -> HandbookResult:
    """Fit and test every fold; `progress` is told how many of them are done.

    The model learns from the `train_days` before the delay (7 is the protocol), or from everything before it when
    None. What it is tested on is the same either way. Raises DataProblem when the history does not span a fold.
    """
    progress(0, len(folds))
    prepared = Prepared(detector, history)
    results = []
    for fold in folds:
        results.append(measure(prepared, detector.training, train_days, fold))
        progress(len(results), len(folds))
    return HandbookResult(
        auc_roc=float(np.mean([one.auc_roc for one in results])),
        average_precision=float(np.mean([one.average_precision for one in results])),
        card_precision_100=float(np.mean([one.card_precision_100 for one in results])),
        train_days=train_days,
        folds=results,
    )


def measure(prepared: Prepared, training: Training, train_days: int | None, fold: date) -> Fold:
    """Fit and test one fold."""
    learned, tested = prepared.training_rows(fold, train_days), prepared.test_rows(fold)
    train = prepared.part(learned)
    if len(train) == 0 or len(tested) == 0 or train.frauds == 0:
        raise DataProblem(f"the fold of {fold} has nothing to learn or test; the handbook's data spans all of it")
    # all the trees that are asked for: a fold has no rows to stop early on
    fitted = fit(train, None, training, prepared.codes)
    scores, labels = fitted.predict(prepared.rows[tested]), prepared.labels[tested]
    return Fold(
        begins=fold.isoformat(),
        trained_from=(_EPOCH + timedelta(days=int(prepared.day[learned.start]))).isoformat(),
        train_transactions=len(train),
        train_frauds=train.frauds,
        test_transactions=len(tested),
        test_frauds=int(labels.sum()),
        auc_roc=auc_roc(scores, labels),
        average_precision=average_precision(scores, labels),
        card_precision_100=card_precision(scores, labels, prepared.day[tested], prepared.card[tested], TOP_CARDS),
        trees=fitted.trees_used or 0,
    )


def card_precision(
    scores: Scores, labels: NDArray[np.int8], day: NDArray[np.int64], card: NDArray[np.uint64], top: int
) -> float:
    """Mean over the days of the share of compromised cards among the `top` highest.

    All arrays have a row per transaction. A card's score on a day is the highest of its transactions, and it is
    compromised when one of them is a fraud. Of equal scores the smaller `card` comes first. A compromised card among
    the top is found, and does not count on later days. Days with fewer cards than `top` are divided by `top` too.
    """
    found: set[int] = set()
    shares = []
    for one in np.unique(day):
        here = (day == one) & ~np.isin(card, np.array(sorted(found), np.uint64))
        cards, which = np.unique(card[here], return_inverse=True)
        highest, compromised = np.full(len(cards), -np.inf), np.zeros(len(cards), np.int8)
        np.maximum.at(highest, which, scores[here])
        np.maximum.at(compromised, which, labels[here])
        ranked = np.argsort(-highest, kind="stable")[:top]
        hits = ranked[compromised[ranked] == 1]
        shares.append(len(hits) / top)
        found |= set(cards[hits].tolist())
    return float(np.mean(shares))
