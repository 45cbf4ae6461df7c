"""Results in the log: what became of decisions, as entries that follow them, each allowed by those before it."""

from typing import NamedTuple

import msgspec
import numpy as np

from sentinel.errors import StorageProblem
from sentinel.record.log import Record


class Results(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """What became of n decisions, by columns.

    - `ids`, `hashes` uint64 (n,): the transaction ids and their hashes.  `about` int64 (n,): the decisions' positions.
    - `results`: what was told of each.  `states`: where the transaction stands after it.
    - `told_by`: the API key or the person who told it.  `reasons`: why, where that was said.
    """

    ids: list[str]
    hashes: bytes
    about: bytes
    results: list[str]
    states: list[str]
    told_by: list[str]
    reasons: list[str]


class ResultRow(NamedTuple):
    """One stored result; `about` is the position of the decision, `state` where the transaction stands after it."""

    position: int
    transaction_id: str
    about: int
    result: str
    state: str
    told_by: str
    reason: str
    received_us: int


_results = msgspec.msgpack.Decoder(Results).decode


def results_in(record: Record) -> Results:
    """What a record of the kind RESULTS says. Raises StorageProblem when it cannot be read."""
    try:
        return _results(record.body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StorageProblem(
            f"the results at position {record.position} of the log are of a format that this version of Sentinel does "
            f"not read ({error}); run the version that wrote them"
        ) from error


def result_rows(record: Record) -> list[ResultRow]:
    """The results of a record, one by one."""
    found = results_in(record)
    return [result_row(record, found, n) for n in range(record.rows)]


def result_row(record: Record, found: Results, n: int) -> ResultRow:
    """Result n of a record."""
    return ResultRow(
        position=record.position + n,
        transaction_id=found.ids[n],
        about=int(np.frombuffer(found.about, "<i8", 1, 8 * n)[0]),
        result=found.results[n],
        state=found.states[n],
        told_by=found.told_by[n],
        reason=found.reasons[n],
        received_us=record.received_us,
    )
