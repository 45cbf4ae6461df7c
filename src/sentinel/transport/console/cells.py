"""Cells of the CSV files that people open in a spreadsheet."""

import re
from typing import Any

from sentinel.transport.console.words import card

_FORMULA = re.compile(r"(?:^|(?<=[;,|\t\r\n]))(?=\s*[=+@\uff1d\uff0b\uff0d\uff20\t\r\n-])")
"""Where a spreadsheet may find a formula: where a cell begins, or where it would cut one, as each country does it."""


def safe_cell(value: Any) -> Any:
    """A value that no spreadsheet takes for a formula, without whole card numbers.

    >>> safe_cell("=1+1"), safe_cell("c-17"), safe_cell(-3)
    ("'=1+1", 'c-17', -3)
    """
    if not isinstance(value, str):
        return value
    return _FORMULA.sub("'", card(value))
