"""Standing: what was written stands in the log for good, before anyone is told so."""

import time

from sentinel.errors import StorageProblem
from sentinel.record.log import LogReader, Record

_PATIENCE_S = 30.0
_PAUSE_S = 0.002


def wait_until_it_stands(log: LogReader, written: Record, patience_s: float = _PATIENCE_S) -> None:
    """Return once this record, as its writer has read it back, is durable; from a thread that may wait.

    Raises StorageProblem when the log failed meanwhile, and another record is in its place, or it took too long.
    """
    until_s = time.monotonic() + patience_s
    while log.durable <= written.position:
        if time.monotonic() > until_s:
            raise StorageProblem("whether it is written is not known: the log cannot be written now; run it again")
        time.sleep(_PAUSE_S)
    if log.at(written.position).chain != written.chain:
        raise StorageProblem("it is not written: the log failed, and goes on without it; run it again")
