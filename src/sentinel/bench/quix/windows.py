"""Exact windows of one key, as the detector `bench-score` has them, over state that is bytes; no import of ours."""

from array import array
from bisect import bisect_right

_DAY_US = 86_400_000_000
_WIDTHS_US = (600_000_000, _DAY_US, 7 * _DAY_US, 30 * _DAY_US)


def advanced(state: bytes, time_us: int, amount: float) -> tuple[bytes, list[float]]:
    """Count an event in: the state after it, and its features.

    These are the number in 10 minutes, the number and the total in 24 hours, the means of 7 and 30 days, in windows
    (t - w, t] with the event itself. An event that is older than the newest counts at the newest's time.
    """
    times, amounts = _unpacked(state)
    now_us = max(time_us, times[-1]) if times else time_us
    times.append(now_us)
    amounts.append(amount)
    in_10m, in_24h, in_7d, in_30d = (bisect_right(times, now_us - width) for width in _WIDTHS_US)
    n = len(times)
    features = [
        float(n - in_10m),
        float(n - in_24h),
        sum(amounts[in_24h:]),
        sum(amounts[in_7d:]) / (n - in_7d),
        sum(amounts[in_30d:]) / (n - in_30d),
    ]
    return times[in_30d:].tobytes() + amounts[in_30d:].tobytes(), features


def _unpacked(state: bytes) -> tuple["array[int]", "array[float]"]:
    times, amounts, half = array("q"), array("d"), len(state) // 2
    times.frombytes(state[:half])
    amounts.frombytes(state[half:])
    return times, amounts
