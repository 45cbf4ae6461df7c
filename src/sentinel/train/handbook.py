"""The handbook's protocol (being written)."""

from typing import Any

HandbookResult = Any


def run(data: Any, train_days: Any, progress: Any) -> Any:
    """Not yet."""
    raise NotImplementedError
