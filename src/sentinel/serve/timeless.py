"""What comes without a time happens now. Who sends it again has no other time to say: it is compared without."""

from collections.abc import Sequence
from typing import Any


def assign_times(events: Sequence[Any], time: str, now_us: int) -> set[int]:
    """Give events this moment where their field `time` is None, in place; their places."""
    places = {i for i, one in enumerate(events) if getattr(one, time) is None}
    for i in places:
        setattr(events[i], time, now_us)
    return places
