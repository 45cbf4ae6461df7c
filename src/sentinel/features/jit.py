"""How kernel functions are compiled: without reference counting, and inlined into the entry points.

The kernel allocates nothing. Passing the state between functions that are not inlined would cost more than the work
itself (0.17 against 1 to 2 million events/s).
"""

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])
_OPTIONS: dict[str, Any] = {"cache": True, "_nrt": False, "error_model": "numpy"}


def entry(function: F) -> F:
    """Compile a function that Python calls."""
    compiled: F = njit(**_OPTIONS)(function)
    return compiled


def entry_beside(function: F) -> F:
    """Compile a function that may take long: other threads of Python go on meanwhile."""
    compiled: F = njit(**_OPTIONS, nogil=True)(function)
    return compiled


def inlined(function: F) -> F:
    """Compile a function that only the kernel calls."""
    compiled: F = njit(**_OPTIONS, forceinline=True)(function)
    return compiled
