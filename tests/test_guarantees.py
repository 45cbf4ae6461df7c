"""The page of promises names tests that exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "guarantees.md"
NAMED = sorted(set(re.findall(r"`(tests/[^`]+)`", PAGE.read_text())))


def has_test(path: Path, name: str) -> bool:
    tree = ast.parse(path.read_text())
    return any(isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) and one.name == name for one in ast.walk(tree))


@pytest.mark.parametrize("named", NAMED)
def test_a_test_that_holds_a_promise_exists(named):
    path, _, name = named.partition("::")
    assert (ROOT / path).exists()
    assert not name or has_test(ROOT / path, name)


def test_every_promise_names_a_test():
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and "promise | held by" not in line]
    assert len(rows) >= 25
    assert [row for row in rows if "`tests/" not in row] == []
