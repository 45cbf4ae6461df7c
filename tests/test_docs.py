"""The examples in the documentation are answered as they stand: a body without its Content-Type would be 415."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]


def calls_in(page):
    """The `curl` commands of a page, each up to the end of the line on which its quotes are closed."""
    text = page.read_text()
    for found in re.finditer(r"(?m)^.*\bcurl (?=[^`]*$)", text):
        lines = text[found.start() :].splitlines()
        command = lines[0]
        for line in lines[1:20]:
            if command.count("'") % 2 == 0 and not command.endswith("\\"):
                break
            command += " " + line
        yield command


def test_every_body_that_a_page_has_sent_has_its_type():
    calls = [(page.name, call) for page in PAGES for call in calls_in(page)]
    with_body = [(name, call) for name, call in calls if re.search(r" (-d|--data\S*|-F|-T) ?", call)]
    assert len(with_body) >= 4
    assert [one for one in with_body if "content-type:" not in one[1].lower()] == []
