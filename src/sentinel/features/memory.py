"""Memory for the state: address space that is reserved once, and takes memory only where it has been written to.

So an array grows without being copied: the kernel gets all of it, and counts how much of it is in use.
"""

import contextlib
import ctypes
import mmap
import os
import sys
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentinel.errors import StorageProblem

_MOST_BYTES = 1 << 40  # an address space has 128 TB, and there are a dozen arrays for every key of every state
_NO_RESERVE = 0x4000 if sys.platform == "linux" else 0  # the standard library names it from 3.13 on
_POPULATE_WRITE = 23  # of `madvise`, Linux 5.14: as if it were written to, and nothing is
_DO_NOT_NEED = 4
_LARGE_PAGE = 2 << 20
_PIECE = 32 << 20
_SMALL = 4 << 20  # bytes of an array that come in small pages: many states have no more

_libc = ctypes.CDLL(None, use_errno=True)  # unlike `mmap.madvise` it lets other threads go on meanwhile


def memory_bytes(own: Path = Path("/proc/self/cgroup"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """How much memory this process may have: the machine's, or less in a container or another group with a limit.

    `own` says which group it is in, `groups` is where all of them are (cgroup 2).
    """
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with contextlib.suppress(OSError):
        named = [line[3:] for line in own.read_text().splitlines() if line.startswith("0::")]
        group = groups / named[-1].strip("/") if named and ".." not in named[-1] else groups
        for folder in (one for one in (group, *group.parents, groups) if one.is_relative_to(groups)):
            limits += [limit for name in ("memory.max", "memory.high") if (limit := _limit_in(folder / name))]
    return min(limits)


def _limit_in(path: Path) -> int | None:
    """The number in a file; None for `max`, or where there is none."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def reserve(dtype: Any, *row: int, rows: int | None = None, share: float = 0.5) -> NDArray[Any]:
    """Zeros of shape (n, *row): that share of what the machine's memory could hold, or `rows`.

    Raises StorageProblem where the system grants no address space.
    """
    row_bytes = prod(row) * np.dtype(dtype).itemsize
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    n = rows or min(int(share * memory_bytes), _MOST_BYTES) // row_bytes
    try:
        memory = mmap.mmap(-1, n * row_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE)
    except OSError as error:
        raise StorageProblem(
            f"the system grants no address space for the feature state ({error.strerror}); memory is taken only as it "
            "is used, so lift the limit (`ulimit -v unlimited`, vm.overcommit_memory=0)"
        ) from error
    if n * row_bytes > 2 * _SMALL and hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE, _SMALL, n * row_bytes - _SMALL)
    return np.frombuffer(memory, dtype, n * prod(row)).reshape(n, *row)


def take_ahead(array: NDArray[Any], begin: int, end: int) -> int:
    """Take the memory of an array's bytes from `begin` to `end`, as if they had been written to; how far it is taken.

    A large page that nobody has had before takes up to 10 ms on a virtual machine. Elsewhere than on Linux nothing is
    done: who writes first waits.
    """
    begin, end = max(begin, _SMALL) // _LARGE_PAGE * _LARGE_PAGE, min(end, array.nbytes) // _LARGE_PAGE * _LARGE_PAGE
    for at in range(begin, end, _LARGE_PAGE):
        address = ctypes.c_void_p(array.ctypes.data + at)
        if sys.platform != "linux" or _libc.madvise(address, ctypes.c_size_t(_LARGE_PAGE), _POPULATE_WRITE):
            break
    return max(begin, end)


def give_back(array: NDArray[Any], begin: int, end: int) -> None:
    """Have the memory of an array's bytes from `begin` to `end` taken away: nobody may use it any more.

    When it is deleted, that takes no longer than for an empty one, during which no other thread goes on.
    """
    if sys.platform == "linux":
        begin = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE
        for at in range(begin, min(end, array.nbytes), _PIECE):
            size = min(_PIECE, array.nbytes - at)
            _libc.madvise(ctypes.c_void_p(array.ctypes.data + at), ctypes.c_size_t(size), _DO_NOT_NEED)
