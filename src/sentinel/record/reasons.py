"""Reasons in the log: why models came to scores that were no approvals, as entries that follow the decisions."""

import msgspec
import numpy as np

from sentinel.errors import StorageProblem
from sentinel.record.log import LogReader, Record

STANDING = "reasons"
"""Under which name the log has the newest entry of this kind: it says how far the log is explained."""


class Reasons(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """Why n decisions came to their scores, by columns.

    - `since`, `upto`: the log was explained before position `since`, and now is before `upto`.
    - `ids`, `hashes` uint64 (n,): the transaction ids and their hashes.  `about` int64 (n,): the decisions' positions.
    - `why`: the JSON of each `Explanation`.
    """

    since: int
    upto: int
    ids: list[str]
    hashes: bytes
    about: bytes
    why: list[bytes]

    def rows(self, position: int) -> list[tuple[int, int, str]]:
        """Position, position of the decision and JSON of each, in a record at this position."""
        about = np.frombuffer(self.about, "<i8").tolist()
        return [(position + n, about[n], why.decode()) for n, why in enumerate(self.why)]


_reasons = msgspec.msgpack.Decoder(Reasons).decode


def reasons_in(record: Record) -> Reasons:
    """What a record of the kind REASONS says. Raises StorageProblem when it cannot be read."""
    try:
        return _reasons(record.body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StorageProblem(
            f"the reasons at position {record.position} of the log are of a format that this version of Sentinel does "
            f"not read ({error}); run the version that wrote them"
        ) from error


def explained_upto(log: LogReader) -> int:
    """Before which position the log is explained, as it says itself."""
    record = log.standing().get(STANDING)
    return 0 if record is None else reasons_in(record).upto
