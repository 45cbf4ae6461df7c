"""What a model can be measured on: rows that it did not learn from, with the state that a server would meet them in."""

from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.detector import Detector, Training
from sentinel.errors import DataProblem
from sentinel.events.columns import TRANSACTION, EventColumns
from sentinel.events.files import History
from sentinel.events.replay import columns_of_frame
from sentinel.events.times import iso
from sentinel.features.store import MemoryStore
from sentinel.model.bundle import Bundle, Manifest
from sentinel.train.rows.dataset import Progress, parts_of, replay
from sentinel.train.rows.fingerprint import history_sha256
from sentinel.train.rows.standing import known_labels, stands_for

_OF_SPLIT = ("split", "seed", "validation_share", "test_share", "gap")


class Unseen(NamedTuple):
    """Features float32 (n, f) and labels int8 (n,), -1 where not known, of the rows that are measured on.

    `places` int64 (n,) are their row numbers in the history. `said` says which they are, and claims no more than was
    looked at; `left_out` rows of the history are none of them. `may_be_learned` where the model has learned from
    some of them, or may have.
    """

    rows: NDArray[np.float32]
    labels: NDArray[np.int8]
    places: NDArray[np.int64]
    said: str
    left_out: int
    may_be_learned: bool = False


def unseen_rows(bundle: Bundle, detector: Detector, history: History, progress: Progress) -> Unseen:
    """The rows of a history, in order of time, that a model can be measured on.

    Of its own history that is the test part. Of another one it is what is later than its own, and what it remembers
    goes on from there. Where nothing is later it is the whole, with windows that begin empty, and that is said.
    """
    manifest, frame = bundle.manifest, history.frame
    if detector.schema.label not in frame.columns:
        raise DataProblem(f"the history has no {detector.schema.label}; say which column it is with --map")
    times = np.maximum.accumulate(frame[detector.schema.time].to_numpy())  # what came late is of when it came
    told = frame[detector.schema.label].fill_null(-1).to_numpy().astype(np.int8)
    labels = known_labels(told, stands_for(frame, detector.schema))
    events = columns_of_frame(manifest.plan.schema, frame, manifest.plan.trusted_sources, history.context)
    first_us, last_us = manifest.history.first_us, manifest.history.last_us
    if history_sha256(detector, history) == manifest.history.sha256:
        test = parts_of(_as_trained(detector, manifest), times, labels)[2]
        rows = replay(MemoryStore(manifest.plan), events, progress)[test]
        said = "the test part of the model's own history"
        is_learned = manifest.training.get("experiment", {}).get("refit") == "all"
        if is_learned:
            said += ", which it has learned from after it was measured: take a later file"
        return Unseen(rows.astype(np.float32), labels[test], test, said, len(times) - len(test), is_learned)
    begin = int(np.searchsorted(times, last_us, side="right"))
    if begin == len(times):
        rows = replay(MemoryStore(manifest.plan), events, progress)
        said = _said_of_old(int(times[-1]), first_us, last_us)
        is_learned = int(times[-1]) >= first_us
        return Unseen(rows.astype(np.float32), labels, np.arange(len(times)), said, 0, is_learned)
    rows = replay(bundle.new_store(), _later(events, begin, last_us), progress)
    places, said = np.arange(begin, len(times)), _said_of_later(begin, int(times[begin]), last_us)
    return Unseen(rows.astype(np.float32), labels[begin:], places, said, begin)


def _as_trained(detector: Detector, manifest: Manifest) -> Training:
    """The training of the detector, split as the model's history was."""
    given = [name for name in _OF_SPLIT if name in manifest.training]
    return msgspec.structs.replace(detector.training, **{name: manifest.training[name] for name in given})


def _later(events: EventColumns, begin: int, last_us: int) -> EventColumns:
    """The transactions from number `begin` on, and what happened beside them after `last_us`."""
    is_transaction = events.kinds == TRANSACTION
    numbers = np.cumsum(is_transaction) - 1
    return events.rows(np.where(is_transaction, numbers >= begin, events.time_us > last_us))


def _said_of_later(left_out: int, begins_us: int, last_us: int) -> str:
    """What is later than the model's history, which its state remembers."""
    said = f"what is later than the model's history, which ends at {iso(last_us)}; windows go on from there"
    if left_out == 1:
        said += "; the first row is of the time that it learned from: left out"
    elif left_out:
        said += f"; the first {left_out:,} rows are of the time that it learned from: left out"
    return said if left_out else f"{said}, and the file begins at {iso(begins_us)}"


def _said_of_old(newest_us: int, first_us: int, last_us: int) -> str:
    if newest_us < first_us:
        return f"the whole file, which is older than the model's history ({iso(first_us)}); windows begin empty"
    return (
        f"the whole file, though it is of the time that the model learned from (up to {iso(last_us)}) and may hold "
        "what it learned; windows begin empty"
    )
