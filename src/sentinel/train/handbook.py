"""The protocol of the fraud detection handbook, so that our figures stand beside the published ones.

Le Borgne, Siblini, Lebichot, Bontempi: *Reproducible Machine Learning for Credit Card Fraud Detection - Practical
Handbook*, ULB 2022. A fold learns from one week, leaves a week in which labels are still on their way, and is tested
on the week after. From each test day the cards are removed that were known to be compromised by then.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import xgboost
from numpy.typing import NDArray

from sentinel.detector import Detector
from sentinel.detectors import load_detector
from sentinel.errors import DataProblem
from sentinel.events.files import History, read_history
from sentinel.events.replay import log_of_frame, text_hashes
from sentinel.features.store import MemoryStore
from sentinel.train.dataset import Part, learn_vocabulary, replay
from sentinel.train.evaluate import auc_roc, average_precision
from sentinel.train.fit import parameters, predict

Progress = Callable[[int, int], None]
VALIDATION_FOLDS = (date(2018, 6, 20), date(2018, 6, 27), date(2018, 7, 4), date(2018, 7, 11))
TEST_FOLDS = (date(2018, 7, 25), date(2018, 8, 1), date(2018, 8, 8), date(2018, 8, 15))
WEEK = 7
TOP_CARDS = 100
_DAY_US = 86_400_000_000


class Fold(msgspec.Struct, frozen=True):
    """One fold: the first day of its training week, how much there was to learn and test, and three figures."""

    begins: str
    train_transactions: int
    train_frauds: int
    test_transactions: int
    test_frauds: int
    auc_roc: float
    average_precision: float
    card_precision_100: float


class HandbookResult(msgspec.Struct, frozen=True):
    """Means over the folds, and the folds. `train_days` is null where everything before the delay was learned."""

    auc_roc: float
    average_precision: float
    card_precision_100: float
    train_days: int | None
    trees: int
    folds: list[Fold]


class Prepared:
    """A history with its features, ready to be cut into folds; n transactions in time order.

    `rows` float32 (n, features), `labels` int8 (n,), `day` int64 (n,) days since 1970, `card` uint64 (n,).
    """

    def __init__(self, detector: Detector, history: History, progress: Progress) -> None:
        schema, frame = detector.schema, history.frame
        if schema.label not in frame.columns:
            raise DataProblem(f"the history has no {schema.label}")
        store = MemoryStore(detector.plan(learn_vocabulary(detector, frame)))
        self.rows = replay(store, log_of_frame(schema, frame), progress).astype(np.float32)
        self.labels = frame[schema.label].fill_null(0).to_numpy().astype(np.int8)
        self.day = frame[schema.time].to_numpy() // _DAY_US
        self.card = text_hashes(frame[schema.keys[0]])

    def between(self, first: date, days: int) -> slice:
        """The transactions of `days` days from `first` on."""
        begin = (datetime(first.year, first.month, first.day, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).days
        low, high = np.searchsorted(self.day, [begin, begin + days])
        return slice(int(low), int(high))

    def part(self, where: slice | NDArray[np.int64]) -> Part:
        """Rows to learn from."""
        return Part(self.rows[where], self.labels[where], self.day[where])

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
    """The four test folds with the `handbook` detector."""
    detector = load_detector("handbook")
    prepared = Prepared(detector, read_history(data, detector.schema), progress)
    return benchmark(prepared, detector, train_days, TEST_FOLDS)


def benchmark(prepared: Prepared, detector: Detector, train_days: int | None, folds: Sequence[date]) -> HandbookResult:
    """Fit and test every fold; `train_days` before the delay, or everything when None."""
    results = [_fold(prepared, detector, train_days, fold) for fold in folds]
    return HandbookResult(
        auc_roc=float(np.mean([one.auc_roc for one in results])),
        average_precision=float(np.mean([one.average_precision for one in results])),
        card_precision_100=float(np.mean([one.card_precision_100 for one in results])),
        train_days=train_days,
        trees=detector.training.trees,
        folds=results,
    )


def _fold(prepared: Prepared, detector: Detector, train_days: int | None, fold: date) -> Fold:
    end = prepared.between(fold, WEEK).stop
    begin = 0 if train_days is None else prepared.between(fold + timedelta(days=WEEK - train_days), train_days).start
    train, tested = prepared.part(slice(begin, end)), prepared.test_rows(fold)
    if len(train) == 0 or len(tested) == 0 or train.frauds == 0:
        raise DataProblem(f"the fold of {fold} has nothing to learn or test; the handbook's data spans all of it")
    scores = predict(_fit(train, detector), prepared.rows[tested])
    labels = prepared.labels[tested]
    return Fold(
        begins=fold.isoformat(),
        train_transactions=len(train),
        train_frauds=train.frauds,
        test_transactions=len(tested),
        test_frauds=int(labels.sum()),
        auc_roc=auc_roc(scores, labels),
        average_precision=average_precision(scores, labels),
        card_precision_100=card_precision(scores, labels, prepared.day[tested], prepared.card[tested], TOP_CARDS),
    )


def _fit(train: Part, detector: Detector) -> xgboost.Booster:
    """All the trees the detector asks for: the protocol has no rows to stop early on."""
    matrix = xgboost.DMatrix(train.rows, train.labels, missing=np.nan)
    return xgboost.train(parameters(detector.training), matrix, num_boost_round=detector.training.trees)


def card_precision(
    scores: NDArray[np.float32],
    labels: NDArray[np.int8],
    day: NDArray[np.int64],
    card: NDArray[np.uint64],
    top: int,
) -> float:
    """Mean over the days of the share of compromised cards among the `top` highest.

    A card's score on a day is the highest of its transactions, and it is compromised when one of them is a fraud.
    A compromised card among the top is found, and does not count on later days.
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
