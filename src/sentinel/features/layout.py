"""The layout: what stands where in the arrays of a compiled plan and of the state.

The plan writes by these names and the kernel reads by them. Every array of a plan is int64 unless it says otherwise.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LOOKED_AHEAD = 16
"""How many keys that come next are known at a time; a power of two."""

KERNEL_VERSION = 3
"""Raised with every change that gives a state other bits: states and snapshots of another version are not used."""

NONE = -1
"""No event, no cell: a cursor at the end of its list."""

NEVER = 2**62
"""When a row's key was last heard of if it never was: it cannot be forgotten."""

# The cells of a key's row in front; last values, place, sessions and windows follow. HEARD is when its last transaction
# was received. TAIL is its last event; its first is the next one to leave the longest window. HOME is the first event
# of the row's own chunk while that is free. The TAIL of a free row is the next free row.
KEY_HASH, CLOCK, HEARD, TAIL, HOME = range(5)
FRESH_KEY = (0, NONE, NEVER, NONE, NONE)
# An event: when it counts, when it happened; with labels the row of its key, its id and its label as well. An event is
# known by where its first cell stands in `events`.
COUNTED_AT, HAPPENED_AT, EVENT_CELLS = range(3)
SLOT, EVENT_ID, LABEL, LABELLED_EVENT_CELLS = range(2, 6)
# The first cell of a chunk: the first event of the key's next chunk, or of the next free one.
NEXT_CHUNK, CHUNK_HEAD = range(2)
LEAST_IN_CHUNK = 3
"""How many events a chunk can hold at least."""

# The cells of a window: the next event to leave and, in the low bits, how many are inside; of a delayed window the next
# to enter as well. Together they take one cell since a row is read, and written back, for every event.
LEAVE_AND_INSIDE, ENTER = range(2)
INSIDE_BITS = 27
MOST_INSIDE = (1 << INSIDE_BITS) - 1
FRESH_WINDOW = (NONE << INSIDE_BITS,)
FRESH_DELAYED_WINDOW = (NONE << INSIDE_BITS, NONE)
# The cells of a session: when it began, how many transactions it has.
BEGAN, SIZE = range(2)
FRESH_SESSION = (NONE, NONE)

# What a window may keep of a field, and the cells of each.
VALUES, TEXTS, SUM, SQUARES, MINIMUM, MAXIMUM, FRAUDS, DISTINCT, ENTROPY, TOP = range(10)
COUNTED = DISTINCT
"""From this one on they count how often each value of a text occurs, in the table `values`."""
FRESH_AGGREGATES = {
    VALUES: (0,),  # how many there are: of an exact number that may be missing
    TEXTS: (0,),  # the same of a text
    SUM: (0,),
    SQUARES: (0, 0),  # the sum of their squares, high and low half
    MINIMUM: (NONE, NONE),  # first and last event of the list of those that can still become the least
    MAXIMUM: (NONE, NONE),
    FRAUDS: (0,),
    DISTINCT: (0,),
    ENTROPY: (0,),  # the sum of c log2 c over the numbers of times that values occur
    TOP: (0,),  # the greatest of these numbers
}
LINKED = (MINIMUM, MAXIMUM)
"""Those whose events have two cells more: the events before and after them in the list."""

# How an output is read: of a window, of the key, of the row itself.
(OUT_COUNT, OUT_TOTAL, OUT_MEAN, OUT_STD, OUT_EXTREME, OUT_DISTINCT, OUT_FRAUDS, OUT_FRAUD_RATE, OUT_ENTROPY,
 OUT_TOP_SHARE) = range(10)  # fmt: skip
WINDOW_OUTPUTS = 10
OUT_IS_FIRST, OUT_SHARE = range(10, 12)
VALUE_OUTPUTS = 12
"""Those from WINDOW_OUTPUTS up to here are of a window and of the value that the transaction has itself."""
(OUT_SINCE, OUT_LAST, OUT_DISTANCE, OUT_SPEED, OUT_SESSION_COUNT, OUT_SESSION_TOTAL, OUT_SESSION_SECONDS,
 OUT_SINCE_MARKED) = range(12, 20)  # fmt: skip
(ROW_EXACT, ROW_PLAIN, ROW_CATEGORY, ROW_RATIO, ROW_DIFFERENCE, ROW_BETWEEN, ROW_ROUND, ROW_SINE, ROW_COSINE, ROW_HOUR,
 ROW_WEEKDAY, ROW_WEEKEND, ROW_NIGHT, ROW_TIME_OF_DAY) = range(14)  # fmt: skip
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
    "is_first": WindowKind(OUT_IS_FIRST, (DISTINCT,), "text", "cannot"),
    "share": WindowKind(OUT_SHARE, (TEXTS, DISTINCT), "text"),
    "entropy": WindowKind(OUT_ENTROPY, (TEXTS, ENTROPY), "text", "cannot"),
    "top_share": WindowKind(OUT_TOP_SHARE, (TEXTS, TOP), "text", "cannot"),
    "fraud_count": WindowKind(OUT_FRAUDS, (FRAUDS,), "label", "must"),
    "fraud_rate": WindowKind(OUT_FRAUD_RATE, (FRAUDS,), "label", "must"),
}

# The columns of the tables of a group's plan, by table.
IS_TEXT, STORED_COLUMN, EVENT_CELL = range(3)
OVER, DELAY, WINDOW_CELL, FIRST, END, CONDITION = range(6)
KIND, FIELD, CELL, LINKS, SALT = range(5)
LAST_COLUMN, LAST_CELL, LAST_CONDITION = range(3)
GAP, SESSION_CELL, FIRST_TOTAL, END_TOTAL = range(4)
TOTAL_COLUMN, TOTAL_CELL = range(2)
HOW, OF_WINDOW, OF_CELL, OF_SQUARES, OF_VALUES, OF_FIELD, SCALE, OUTPUT, WHEN, OF_SALT, OF_TEXT, OUTPUT_COLUMNS = range(
    12
)
# And of the steps of a row's plan.
STEP_HOW, OPERAND, SECOND_OPERAND, STEP_SCALE, STEP_OUTPUT = range(5)


class GroupPlan(NamedTuple):
    """The features of one key, and one kind of events that are counted: transactions, or one of the context.

    - `key`: text column of the key.  `feeds`: the kind of events that are counted.  `labelled`: whether they carry
      labels.
    - `event_cells`: cells of an event.  `chunk_cells`: of a chunk of events, a power of two.
    - `last_in_chunk`: where the last event of a chunk begins in it.  `home`: where a row's own chunk begins, its end.
    - `reach`: the longest time an event matters, in microseconds.  `longest`: the cell of the window that reaches so
      far, or NONE.  `horizon`: a key that was not heard of for longer is forgotten, microseconds between arrivals.
    - `place`: cell of the last place, or NONE; `latitude`, `longitude`: its exact columns.
    - `bits_cell`: the cell in which events keep which conditions they fulfil, or 0: no window has a condition. They are
      the bits of the last exact column.
    - `fresh` (cells,): the row of a new key.  `kept_until`: the cell behind the last of those that do not follow from
      the key's events and its clock.
    - `stored` (s, 3): IS_TEXT or exact, its STORED_COLUMN, the EVENT_CELL that keeps it.
    - `windows` (w, 6): OVER and DELAY in microseconds, its WINDOW_CELL, its aggregates from FIRST up to END, the bit of
      its CONDITION or NONE.
    - `aggregates` (a, 5): KIND, event cell of the FIELD, key CELL, event cell of its LINKS, SALT of its values.
    - `lasts` (l, 3): LAST_COLUMN (exact; NONE for the time), LAST_CELL, the bit of its LAST_CONDITION or NONE.
    - `sessions` (s, 4): GAP in microseconds, SESSION_CELL, its totals from FIRST_TOTAL up to END_TOTAL.
    - `session_totals` (t, 2): TOTAL_COLUMN (exact), TOTAL_CELL.
    - `outputs` (o, 11): HOW it is read, the cell OF_WINDOW, OF_CELL (its aggregate, or what the key remembers),
      OF_SQUARES, OF_VALUES (NONE where every event has a value), OF_FIELD (event cell), SCALE, OUTPUT column, WHEN,
      OF_SALT and OF_TEXT (text column) where the transaction's own value is looked up.
    """

    key: int
    feeds: int
    event_cells: int
    chunk_cells: int
    last_in_chunk: int
    home: int
    kept_until: int
    reach: int
    longest: int
    horizon: int
    labelled: bool
    place: int
    latitude: int
    longitude: int
    bits_cell: int
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

    Tables are parts of `table_keys` (uint64, each part sorted) and `table_values` (float64): number n from
    `table_ends[n]` up to `table_ends[n + 1]`. A category's operands are its text column and its table, from hashes to
    codes. A time zone's table has the moments from which on an offset holds, and the offsets, in microseconds; one with
    nothing in it is UTC. A sine or cosine has its place in `periods`. STEP_SCALE is that of an exact number; of a round
    one, the number of which it is a multiple.
    """

    steps: NDArray[np.int64]
    table_keys: NDArray[np.uint64]
    table_values: NDArray[np.float64]
    table_ends: NDArray[np.int64]
    periods: NDArray[np.float64]


# Counters of a group's state: rows that were ever used, the first free one; the end of chunks that were ever used, the
# first event of the first free one, how many are free; which row is looked at next (SWEPT), how many keys are
# remembered (ALIVE), how many were forgotten so far; events since rows were looked at, a new key counting as several;
# when the oldest key was heard of in the last round over all of them, and in this one; which segment of former names is
# looked at next.
N_KEYS, FREE_KEY, END_OF_CHUNKS, FREE_CHUNK, FREE_CHUNKS, SWEPT, ALIVE, FORGOTTEN = range(8)
SINCE_SWEEP, OLDEST, OLDEST_SWEPT, SWEPT_NAMES, COUNTERS = range(8, 13)
