"""What is printed to a terminal: texts of others are shown, and nothing that they say to the terminal is done."""

import json
from collections.abc import Iterable
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.text import Text


def visible(text: str) -> str:
    r"""The text with escapes, as in Python, in the place of what cannot be seen or moves what can.

    >>> visible("\x1b[2Jfine\nroot: ok"), visible("K\u00f6ln"), visible("\u202e")
    ('\\x1b[2Jfine\\nroot: ok', 'Köln', '\\u202e')
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def shown(text: str) -> str:
    """A text of others as a part of a line: it is no markup either."""
    return escape(visible(text))


def as_json(value: Any) -> str:
    """A value as JSON in which all can be seen; it reads back as the same."""
    text = msgspec.json.encode(value).decode()
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)


class Terminal(Console):
    """Standard error, for people: whatever a text has in it, only line ends are more than seen."""

    def __init__(self) -> None:
        super().__init__(stderr=True, highlight=False)

    def warn(self, title: str, lines: Iterable[str]) -> None:
        """Warnings in a frame, so that none is missed among the lines around it."""
        said = Text("\n".join(f"- {visible(line)}" for line in lines))
        self.print(Panel(said, title=f"[bold]{shown(title)}[/bold]", title_align="left", border_style="bold red"))

    def print(self, *objects: Any, **how: Any) -> None:
        """See Console.print."""
        super().print(*(_lines(one) if isinstance(one, str) else one for one in objects), **how)


def _lines(text: str) -> str:
    return "\n".join(map(visible, text.split("\n")))
