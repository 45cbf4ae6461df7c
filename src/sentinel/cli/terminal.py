"""What commands print: JSON for machines on standard output, lines for people on standard error."""

import sys
from collections.abc import Iterable
from typing import Any

from sentinel.commands.terminal import Terminal, visible
from sentinel.commands.terminal import as_json as encoded

terminal = Terminal()


def print_json(value: Any) -> None:
    """One JSON object on standard output."""
    sys.stdout.write(encoded(value) + "\n")


def print_text(text: str) -> None:
    """A text of several lines on standard output, to be kept in a file; what could move a terminal is escaped."""
    sys.stdout.write("\n".join(map(visible, text.split("\n"))))


def tell_lines(lines: Iterable[str]) -> None:
    """Lines for people, each in one line, however wide the terminal is: a row of a list, or something to be copied."""
    for line in lines:
        terminal.print(line, soft_wrap=True)


def tell(value: Any, lines: Iterable[str], *, as_json: bool) -> None:
    """The object for machines, or the lines for people."""
    if as_json:
        print_json(value)
        return
    tell_lines(lines)
