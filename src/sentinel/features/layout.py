"""The layout: what stands where in the arrays of a compiled plan and of the state.

The plan writes by these names and the kernel reads by them. Every array of a plan is int64 unless it says otherwise.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

KERNEL_VERSION = 2
"""Raised with every change that gives a state other bits: states and snapshots of another version are not used."""

NONE = -1
"""No event, no cell: a cursor at the end of its list."""

NEVER = 2**62
"""When the key of a row that is free was last heard of: it cannot be forgotten once more."""

# The cells of a key's row in front; last values, place, windows and sessions follow. FRESH_KEY is where they begin.
# HEARD is when its last transaction was received. The HEAD of a free row is the next free row.
KEY_HASH, CLOCK, HEARD, SEEN, HEAD, TAIL = range(6)
FRESH_KEY = (0, NONE, 0, 0, NONE, NONE)
# An event's row: when it counts, when it happened, the next event of the key; with labels its key's row, id and label.
COUNTED_AT, HAPPENED_AT, NEXT, EVENT_CELLS = range(4)
SLOT, EVENT_ID, LABEL, LABELLED_EVENT_CELLS = range(3, 7)
# The cells of a window: the next event to enter and to leave, and how many are inside.
ENTER, LEAVE, INSIDE = range(3)
FRESH_WINDOW = (NONE, NONE, 0)
# The cells of a session: when it began, how many transactions it has.
BEGAN, SIZE = range(2)
FRESH_SESSION = (NONE, NONE)

# What a window may keep of a field, and the cells of each.
SUM, SQUARES, MINIMUM, MAXIMUM, DISTINCT, FRAUDS = range(6)
FRESH_AGGREGATES = {
    SUM: (0, 0),  # how many values, their sum
    SQUARES: (0, 0),  # the sum of their squares, high and low half
    MINIMUM: (NONE, NONE),  # first and last event of the list of those that can still become the least
    MAXIMUM: (NONE, NONE),
    DISTINCT: (0,),
    FRAUDS: (0,),
}
LINKED = (MINIMUM, MAXIMUM)
"""Those whose events have two cells more: the events before and after them in the list."""

# How an output is read: of a window, of the key, of the row itself.
(OUT_COUNT, OUT_TOTAL, OUT_MEAN, OUT_STD, OUT_EXTREME, OUT_DISTINCT, OUT_FRAUDS, OUT_FRAUD_RATE) = range(8)
WINDOW_OUTPUTS = 8
(OUT_SINCE, OUT_LAST, OUT_DISTANCE, OUT_SPEED, OUT_SESSION_COUNT, OUT_SESSION_TOTAL, OUT_SESSION_SECONDS) = range(8, 15)
ROW_EXACT, ROW_PLAIN, ROW_CATEGORY, ROW_HOUR, ROW_WEEKDAY, ROW_WEEKEND, ROW_NIGHT, ROW_RATIO = range(8)
BEFORE, AFTER = range(2)
"""Whether an output is read before or after the current transaction has entered the windows."""


class WindowKind(NamedTuple):
    """How a window feature is computed: how it is read, what the window keeps for it, of which column.

    `of` is `exact`, `text`, `label` or nothing; `delay` says whether the window may, must or cannot be delayed.
    """

    output: int
    keeps: tuple[int, ...] = ()
    of: str = ""
    delay: str = "may"


WINDOW_KINDS = {
    "count": WindowKind(OUT_COUNT),
    "total": WindowKind(OUT_TOTAL, (SUM,), "exact"),
    "mean": WindowKind(OUT_MEAN, (SUM,), "exact"),
    "std": WindowKind(OUT_STD, (SUM, SQUARES), "exact"),
    "minimum": WindowKind(OUT_EXTREME, (MINIMUM,), "exact", "cannot"),
    "maximum": WindowKind(OUT_EXTREME, (MAXIMUM,), "exact", "cannot"),
    "distinct": WindowKind(OUT_DISTINCT, (DISTINCT,), "text", "cannot"),
    "fraud_count": WindowKind(OUT_FRAUDS, (FRAUDS,), "label", "must"),
    "fraud_rate": WindowKind(OUT_FRAUD_RATE, (FRAUDS,), "label", "must"),
}

# The columns of the tables of a group's plan, by table.
IS_TEXT, STORED_COLUMN, EVENT_CELL = range(3)
OVER, DELAY, WINDOW_CELL, FIRST, END = range(5)
KIND, FIELD, CELL, LINKS, SALT = range(5)
LAST_COLUMN, LAST_CELL = range(2)
GAP, SESSION_CELL, FIRST_TOTAL, END_TOTAL = range(4)
TOTAL_COLUMN, TOTAL_CELL = range(2)
HOW, OF_WINDOW, OF_CELL, BESIDE, OF_FIELD, SCALE, OUTPUT, WHEN, OUTPUT_COLUMNS = range(9)
# And of the steps of a row's plan.
STEP_HOW, OPERAND, SECOND_OPERAND, STEP_SCALE, STEP_OUTPUT = range(5)


class GroupPlan(NamedTuple):
    """The features of one key.

    - `key`: text column of the key.  `event_cells`: cells of an event's row.  `labelled`: whether events carry labels.
    - `reach`: the longest time an event matters, in microseconds.  `horizon`: a key that was not heard of for longer is
      forgotten, microseconds between arrivals.
    - `place`: cell of the last place, or NONE; `latitude`, `longitude`: its exact columns.
    - `fresh` (cells,): the row of a new key.
    - `stored` (s, 3): IS_TEXT or exact, its STORED_COLUMN, the EVENT_CELL that keeps it.
    - `windows` (w, 5): OVER and DELAY in microseconds, its WINDOW_CELL, its aggregates from FIRST up to END.
    - `aggregates` (a, 5): KIND, event cell of the FIELD, key CELL, event cell of its LINKS, SALT of its values.
    - `lasts` (l, 2): LAST_COLUMN (exact), LAST_CELL.
    - `sessions` (s, 4): GAP in microseconds, SESSION_CELL, its totals from FIRST_TOTAL up to END_TOTAL.
    - `session_totals` (t, 2): TOTAL_COLUMN (exact), TOTAL_CELL.
    - `outputs` (o, 8): HOW it is read, the cell OF_WINDOW, OF_CELL (its first aggregate, or what the key remembers),
      the cell BESIDE (its last aggregate), OF_FIELD (event cell), SCALE, OUTPUT column, WHEN.
    """

    key: int
    event_cells: int
    reach: int
    horizon: int
    labelled: bool
    place: int
    latitude: int
    longitude: int
    fresh: NDArray[np.int64]
    stored: NDArray[np.int64]
    windows: NDArray[np.int64]
    aggregates: NDArray[np.int64]
    lasts: NDArray[np.int64]
    sessions: NDArray[np.int64]
    session_totals: NDArray[np.int64]
    outputs: NDArray[np.int64]


class RowPlan(NamedTuple):
    """Outputs read from the row itself: `steps` (r, 5), with the columns STEP_HOW to STEP_OUTPUT.

    A category's operands are its text column and its place among `ends`; its part of `known` (uint64 hashes, sorted)
    and `codes` (float64) is from there up to the next of `ends`.
    """

    steps: NDArray[np.int64]
    known: NDArray[np.uint64]
    codes: NDArray[np.float64]
    ends: NDArray[np.int64]


# Counters of a group's state: rows that were ever used, the first free one, what the tables hold; which key's row is
# looked at next (SWEPT), how many keys are remembered (ALIVE), how many were forgotten so far; events
# since keys were looked at, when the oldest key was heard of in the last round over all of them, and in this one.
N_KEYS, N_EVENTS, FREE_EVENT, N_VALUES, N_IDS, FREE_KEY, SWEPT, ALIVE, FORGOTTEN = range(9)
SINCE_SWEEP, OLDEST, OLDEST_SWEPT, COUNTERS = range(9, 13)


class GroupState(NamedTuple):
    """All that is remembered for one kind of key, in flat arrays.

    `key_table`/`key_slots` find a key's row in `keys`; `events` is a pool of linked event rows;
    `value_table`/`value_counts` count the values inside windows that count distinct ones; `id_table`/
    `id_events` find an event by its transaction when its outcome arrives.
    """

    counters: NDArray[np.int64]
    key_table: NDArray[np.uint64]
    key_slots: NDArray[np.int64]
    keys: NDArray[np.int64]
    events: NDArray[np.int64]
    value_table: NDArray[np.uint64]
    value_counts: NDArray[np.int64]
    id_table: NDArray[np.uint64]
    id_events: NDArray[np.int64]
