"""The pages for operators: every link leads to a file, and to a section that is there."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def sections_of(page):
    """The anchors that the headings of a page have on the web."""
    headings = re.findall(r"(?m)^#+ (.+)$", page.read_text())
    return {re.sub(r"[^a-z0-9_ -]", "", one.lower()).replace(" ", "-") for one in headings}


def broken_in(page):
    found = []
    for link in _LINK.findall(page.read_text()):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if "://" in link:
            continue
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in sections_of(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("name", ["operations.md", "operators.md", "troubleshooting.md"])
def test_every_link_of_the_page_leads_somewhere(name):
    assert broken_in(DOCS / name) == []


def test_a_link_to_a_section_that_is_not_there_is_found(tmp_path):
    (tmp_path / "page.md").write_text("# One\n[there](#one) [not there](#two) [no file](three.md)\n")
    assert broken_in(tmp_path / "page.md") == ["#two", "three.md"]
