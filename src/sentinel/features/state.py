"""The state of one kind of key, as the kernel has it: arrays and tables. What stands where in them says `layout`."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentinel.features.table import Table


class GroupState(NamedTuple):
    """All that is remembered for one kind of key.

    - `slots` finds a key's row in `keys` (k, cells).  A row ends with a chunk of events of its own: most keys have no
      other, so all that is remembered of them lies together.
    - `events` (cells,): the same memory cell by cell, and behind it further chunks, each of one key at a time.
    - `values` counts the values inside windows that count distinct ones.  `ids` finds an event by its transaction when
      its outcome arrives.  `hashes` (LOOKED_AHEAD + cells of an event,): of the keys of the coming events; behind them,
      by event cell, what the texts of the event at hand are called in its key's row.
    - `names` finds the former name of a value that rows hold under that: see `renaming`.
    """

    counters: NDArray[np.int64]
    slots: Table
    keys: NDArray[np.int64]
    events: NDArray[np.int64]
    values: Table
    ids: Table
    hashes: NDArray[np.uint64]
    names: Table
