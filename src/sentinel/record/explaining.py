"""The explainer: finds the reasons of what was not approved. `python -m sentinel.record.explaining --home H` runs one.

It follows the log in a process of its own, and says what it finds to the one that started it, the log's owner, on its
standard output; on its standard input it hears whether that was recorded. No decision waits for it.
"""

import argparse
import logging
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import IO

import msgspec
import numpy as np

from sentinel.child_process import die_with_parent, yield_to_decisions
from sentinel.errors import BundleProblem, StorageProblem
from sentinel.events.columns import hash_texts
from sentinel.model.bundle import read_explainer
from sentinel.model.reasons import Explainer
from sentinel.model.registry import Registry
from sentinel.model.signing import read_trusted_keys
from sentinel.policy.thresholds import ACTIONS, Action
from sentinel.record.entries import DecisionRow, decided_in, decision_row
from sentinel.record.home_reader import open_log
from sentinel.record.log import Follower, Kind, LogReader, Record
from sentinel.record.private import keep_private
from sentinel.record.problem import tell_problem
from sentinel.record.reasons import Reasons, explained_upto

PROGRAM = "explainer"
MOST_AT_ONCE = 64
"""Decisions in one entry: the owner writes it between two batches, some 60 kB of bytes as they are."""

LENGTH = 4
"""Bytes in front of what is said, little endian: how many follow."""

YES, NO = b"\x01", b"\x00"
_PAGE = 1_024  # entries
_MOST_MODELS = 8
_POLL_S, _RETRY_S, _BEAT_S = 0.1, 1.0, 1.0
_APPROVE = ACTIONS.index(Action.APPROVE)
_log = logging.getLogger(__name__)


class Said(msgspec.Struct, frozen=True, array_like=True):
    """What an explainer says: how far it has read, how many decisions it had to leave out so far, and what it found."""

    position: int
    left_out: int
    reasons: Reasons | None = None


class Explaining:
    """Reads a log on from where it is explained, and explains what a model decided and did not approve.

    A model that is gone, or cannot be explained, is named once, and its decisions are left out.
    """

    def __init__(self, log: LogReader, registry: Registry) -> None:
        self._log, self._registry = log, registry
        self._explainers: dict[str, Explainer | BundleProblem] = {}
        self.left_out = 0
        """How many decisions had no reasons because of their models, or of features that are not their models'."""

        self.begin()

    def begin(self) -> None:
        """Begin where the log says that it is explained up to, or at its first entry."""
        self._since = explained_upto(self._log)
        self._follower = Follower(self._log, self._since)
        self._waiting: deque[DecisionRow] = deque()

    @property
    def position(self) -> int:
        """Everything before it was looked at."""
        return self._waiting[0].position if self._waiting else self._follower.position

    def step(self) -> Reasons | None:
        """The reasons of what comes next; None where nothing came, or nothing that has some.

        Call `taken` once they are recorded, or `begin` when they were refused.
        """
        if not self._waiting:
            for record in self._follower.next(_PAGE):
                self._waiting.extend(_unapproved(record, self._since))
        rows = [self._waiting.popleft() for _ in range(min(MOST_AT_ONCE, len(self._waiting)))]
        found = [(row, why) for row in rows if (why := self._why(row)) is not None]
        if not found:
            return None
        ids = [row.transaction_id for row, _ in found]
        return Reasons(
            since=self._since,
            upto=self.position,
            ids=ids,
            hashes=hash_texts(ids).tobytes(),
            about=np.array([row.position for row, _ in found], "<i8").tobytes(),
            why=[why for _, why in found],
        )

    def taken(self, reasons: Reasons) -> None:
        """These are recorded."""
        self._since = reasons.upto

    @property
    def is_at_end(self) -> bool:
        """Whether there is nothing more to read by now."""
        return not self._waiting and self._follower.lag == 0

    def _why(self, row: DecisionRow) -> bytes | None:
        version = row.decider.model_version
        if version not in self._explainers:
            if len(self._explainers) >= _MOST_MODELS:
                self._explainers.clear()
            self._explainers[version] = self._read(version)
        explainer = self._explainers[version]
        if isinstance(explainer, BundleProblem) or len(row.features) != explainer.n_features:  # a front's may be others
            self.left_out += 1
            return None
        return msgspec.json.encode(explainer.explain(row.features))

    def _read(self, version: str) -> Explainer | BundleProblem:
        try:
            return read_explainer(self._registry.path(version), self._registry.trusted)
        except BundleProblem as problem:
            _log.warning("decisions of %s are left without reasons: %s", version, problem)
            return problem


def _unapproved(record: Record, since: int) -> list[DecisionRow]:
    """The decisions of a record, from a position on, that a model made and that its score would not have approved."""
    if record.kind != Kind.DECIDED:
        return []
    decided = decided_in(record)
    held_out = {one.place for one in decided.drawn}
    places = [n for n, level in enumerate(decided.levels) if level != _APPROVE or n in held_out]
    places = [n for n in places if record.position + n >= since]
    rows = [decision_row(record, decided, n) for n in places]
    return [row for row in rows if row.decider.degraded is None]


def follow(home: Path, registry: Registry, goes_on: Callable[[], bool], say: IO[bytes], hear: IO[bytes]) -> None:
    """Explain the log of a home folder until nobody listens any more, whatever happens to the log.

    After a StorageProblem it is opened anew, again and again; `problem_of` tells of it meanwhile.
    """
    while goes_on():
        try:
            with closing(open_log(home)) as log:
                converse(Explaining(log, registry), goes_on, say, hear, lambda: tell_problem(home, PROGRAM, None))
                return
        except StorageProblem as problem:
            tell_problem(home, PROGRAM, str(problem))
            time.sleep(_RETRY_S)


def converse(
    explaining: Explaining, goes_on: Callable[[], bool], say: IO[bytes], hear: IO[bytes], is_well: Callable[[], None]
) -> None:  # fmt: skip
    """Say what is found, and hear what became of it, until nobody listens any more.

    `is_well` is called whenever the log could be read. Raises StorageProblem where it cannot be; nothing that was said
    is without an answer then.
    """
    beaten_s = 0.0
    while goes_on():
        reasons = explaining.step()
        is_well()
        if reasons is None and not explaining.is_at_end and time.monotonic() - beaten_s < _BEAT_S:
            continue
        said = msgspec.msgpack.encode(Said(explaining.position, explaining.left_out, reasons))
        say.write(len(said).to_bytes(LENGTH, "little") + said)
        say.flush()
        beaten_s = time.monotonic()
        answer = hear.read(1)
        if not answer:
            return
        if reasons is None:
            time.sleep(_POLL_S)
        elif answer == YES:
            explaining.taken(reasons)
        else:
            time.sleep(_RETRY_S)
            explaining.begin()


def main() -> int:
    """Run until killed, or until the parent process is gone."""
    parser = argparse.ArgumentParser(prog="python -m sentinel.record.explaining", description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--trusted-keys", type=Path)
    parser.add_argument("--parent", type=int, help="end when this process does")
    given = parser.parse_args()
    keep_private()
    logging.basicConfig(level="WARNING", format="%(levelname)s %(message)s")
    yield_to_decisions()
    goes_on = die_with_parent(given.parent)
    registry = Registry(given.home / "models", read_trusted_keys(given.trusted_keys))
    follow(given.home, registry, goes_on, sys.stdout.buffer, sys.stdin.buffer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
