"""Calls over a network are tried three times, 10 and 15 ms apart, as long as the caller has time for that."""

import time
from collections.abc import Callable
from typing import TypeVar

PAUSES_S = (0.010, 0.015)
"""Before the second and the third try: what is away for longer is away."""

_T = TypeVar("_T")


def retried(
    call: Callable[[], _T],
    faults: type[Exception] | tuple[type[Exception], ...],
    until_s: float = float("inf"),
    *,
    now_s: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> _T:
    """What the call returns, which may be made again without harm. Raises its last fault.

    Only `faults` are tried again, and only while the next try would begin before `until_s` on the clock `now_s`.
    """
    for pause_s in PAUSES_S:
        try:
            return call()
        except faults:
            if now_s() + pause_s >= until_s:
                raise
            sleep(pause_s)
    return call()
