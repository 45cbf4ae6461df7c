"""Messages: what a caller sent stands in them without card numbers."""

import ast
from pathlib import Path

import pytest

import sentinel

ROOT = Path(sentinel.__file__).parent
TELL_CALLERS = [path for part in ("events", "serve", "transport") for path in sorted((ROOT / part).rglob("*.py"))]


@pytest.mark.parametrize("path", TELL_CALLERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_texts_are_quoted_without_card_numbers(path):
    """`{text!r}` writes what is between digits as letters, and no later look finds the number: `quoted` looks first."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FormattedValue) and node.conversion == ord("r"):
            assert ast.unparse(node.value) == "value", "only numbers; `quoted` is for texts"
