"""Progress bars on standard error; nothing where there is no terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

Stage = Callable[[str, int, int], None]
"""Told the name of what is going on, and how much of how much of it is done."""


PROGRESS = "progress:"
"""Begins the lines of `line_of_progress`."""


def line_of_progress(name: str, done: int, of: int) -> None:
    """A stage as a line on standard error, for a process that reads it: `progress: 3 of 7 entries`."""
    print(f"{PROGRESS} {done} of {of} {name}", file=sys.stderr, flush=True)


@contextmanager
def stages() -> Iterator[Stage]:
    """A bar for every stage that is named."""
    columns = (TextColumn("{task.description:>14}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}

        def stage(name: str, done: int, of: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=of)
            bars.update(tasks[name], completed=done, total=of)

        yield stage
