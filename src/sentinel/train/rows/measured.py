"""What a model says of rows that it did not learn from, with all that is asked about them: whose, how much, when."""

from typing import Any, NamedTuple

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from sentinel.detector import Detector, Training
from sentinel.errors import DataProblem
from sentinel.events.files import History
from sentinel.events.schema import Schema
from sentinel.model.bundle import Bundle, Manifest
from sentinel.train.rows.dataset import Progress, cards_of
from sentinel.train.rows.standing import stands_for
from sentinel.train.rows.unseen import unseen_rows

UNKNOWN = -1


class Measured(NamedTuple):
    """Rows that a model is measured on, all labelled, in order of time.

    - `rows` float32 (n, features), `scores` float32 (n,), `labels` int8 (n,), 0 or 1.
    - `cards` uint64 (n,): whose each row is, by the first key; a row without one is nobody else's.
    - `amounts` float64 (n,): their size, in the currency. `time_us` int64 (n,).
    - `frame`: the same rows as the file has them.
    - `places` int64 (n,): their numbers in the file. A row that stands for others (see `standing`) is there as often
      as it stands for a transaction.
    - `said` tells which rows these are; `left_out` were learned from, `unlabelled` have no label, `immature` are too
      young for one. `may_be_learned`: the model has learned from some of the rows, or may have.
    """

    rows: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int8]
    cards: NDArray[np.uint64]
    amounts: NDArray[np.float64]
    time_us: NDArray[np.int64]
    frame: pl.DataFrame
    places: NDArray[np.int64]
    said: str
    left_out: int
    unlabelled: int
    immature: int
    may_be_learned: bool = False

    @property
    def frauds(self) -> int:
        """Number of frauds."""
        return int(np.count_nonzero(self.labels == 1))

    @property
    def frauds_seen(self) -> int:
        """Number of frauds, each of them once however many it stands for."""
        return len(np.unique(self.places[self.labels == 1]))

    def once(self) -> "Measured":
        """Each row once, however many it stands for."""
        return self.take(np.sort(np.unique(self.places, return_index=True)[1]))

    def where(self, kept: NDArray[np.bool_]) -> "Measured":
        """The rows of a mask (n,)."""
        return self.take(np.flatnonzero(kept))

    def take(self, rows: NDArray[np.int64]) -> "Measured":
        """The rows of these numbers."""
        names = ("rows", "scores", "labels", "cards", "amounts", "time_us", "places")
        return self._replace(**{name: getattr(self, name)[rows] for name in names}, frame=self.frame[rows])


def measure(
    bundle: Bundle, detector: Detector, history: History, progress: Progress, delay_us: int | None = None
) -> Measured:
    """What a bundle's model says of the rows of a history that it did not learn from; see `unseen_rows`.

    With `delay_us`, the time that labels take, rows younger than that at the end of the history are unknown: fraud
    among them was not told yet, and the few that were told speak for those that are told quickly. Raises DataProblem
    where not both kinds are left.
    """
    unseen = unseen_rows(bundle, detector, history, progress)
    frame = history.frame[unseen.places]
    labels, time_us = unseen.labels, frame[detector.schema.time].to_numpy()
    is_young = time_us > time_us[-1] - delay_us if delay_us is not None else np.zeros(len(labels), np.bool_)
    whole = Measured(
        rows=unseen.rows,
        scores=bundle.scorer.score(unseen.rows),
        labels=labels,
        cards=cards_of(detector.schema, frame),
        amounts=np.abs(frame[detector.schema.amount].to_numpy().astype(np.float64)),
        time_us=time_us,
        frame=frame,
        places=unseen.places,
        said=unseen.said,
        left_out=unseen.left_out,
        unlabelled=int(np.count_nonzero((labels == UNKNOWN) & ~is_young)),
        immature=int(np.count_nonzero(is_young)),
        may_be_learned=unseen.may_be_learned,
    )
    known = np.flatnonzero((labels != UNKNOWN) & ~is_young)
    stands = stands_for(frame, detector.schema)
    found = whole.take(known if stands is None else np.repeat(known, stands[known]))
    if found.frauds in (0, len(found.labels)):
        young = f", and {found.immature:,} rows are too young for a label" if found.immature else ""
        raise DataProblem(
            f"there are {found.frauds:,} frauds among {len(found.labels):,} labelled transactions{young}: "
            "only one kind of transaction; both frauds and others are needed to measure"
        )
    return found


def without_known_cards(measured: Measured, schema: Schema, history: History, after_us: int) -> Measured:
    """The rows without those of cards that were known to be compromised: whose first fraud is `after_us` old or older.

    `history` is the one that they are of, with what is before them. A bank has blocked such a card by then, and to find
    it again is no merit (so the fraud detection handbook, chapter 5). Raises DataProblem where not both kinds are left.
    """
    if not schema.keys:
        raise DataProblem("the schema has no key, so that no card can be known; leave this out")
    told = history.frame.filter((pl.col(schema.label) == 1) & pl.col(schema.keys[0]).is_not_null())
    cards, first = np.unique(cards_of(schema, told), return_index=True)
    if len(cards) == 0:
        return measured
    since = told[schema.time].to_numpy()[first] + after_us
    place = np.minimum(np.searchsorted(cards, measured.cards), len(cards) - 1)
    is_known = (cards[place] == measured.cards) & (measured.time_us >= since[place])
    kept = measured.where(~is_known)
    if kept.frauds in (0, len(kept.labels)):
        raise DataProblem(
            f"without known cards there are {kept.frauds:,} frauds among {len(kept.labels):,} rows; both "
            "frauds and others are needed to measure"
        )
    return kept


def bundled_detector(manifest: Manifest) -> Detector:
    """The detector as a bundle remembers it: enough to read a history and to split it as it was split in training."""
    plan = manifest.plan
    known = {name: manifest.training[name] for name in Training.__struct_fields__ if name in manifest.training}
    training: Any = msgspec.convert(known, Training)
    return Detector(
        schema=plan.schema,
        features=plan.features,
        training=training,
        forget_after=plan.forget_after,
        trusts=plan.trusted_sources,
        name=manifest.detector,
    )
