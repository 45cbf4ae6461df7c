"""`docs/security.md` names the tests that close a risk; a name that is no test closes nothing."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_test_that_the_page_names_is_there():
    page = (ROOT / "docs" / "security.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)", page)
    assert named
    missing = [(path, name) for path, name in named if name not in _tests_of(ROOT / path)]
    assert missing == []


def _tests_of(path):
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def test_the_ten_risks_have_a_row_each():
    page = (ROOT / "docs" / "security.md").read_text()
    assert [int(n) for n in re.findall(r"^\| API(\d+) ", page, re.MULTILINE)] == list(range(1, 11))
