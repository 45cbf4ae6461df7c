"""The site of the documentation: what is looked for in it is found, and the declaration's page has all of the declaration.

`make docs` builds it; that needs an environment of its own, and is a command of CI.
"""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

import sentinel

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("build_site", ROOT / "docs" / "build_site.py")
build_site = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(build_site)


def site(folder, **pages):
    for name, text in pages.items():
        (folder / f"{name}.html").write_text(text)
    return sorted(build_site.faults(folder))


def test_a_whole_site_has_no_faults(tmp_path):
    a = '<a href="b.html#here">b</a> <a href="https://example.org/x">out</a> <img src="data:image/png;base64,AA">'
    b = '<h1 id="here">b</h1> <a href="#here">up</a> <a href="/a.html">a</a> <link rel="canonical" href="https://e.org/">'
    assert site(tmp_path, a=a, b=b) == []


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        ('<a href="gone.html">', "a.html leads to gone.html, which is not there"),
        ('<img src="gone.png">', "a.html leads to gone.png, which is not there"),
        ('<a href="a.html#gone">', "a.html leads to a.html#gone, and a.html has no such place"),
        ('<a href="#gone">', "a.html leads to #gone, and a.html has no such place"),
        (
            '<script src="https://cdn.example.org/x.js"></script>',
            "a.html loads https://cdn.example.org/x.js from elsewhere",
        ),
        ('<link rel="stylesheet" href="//fonts.example.org/f">', "a.html loads //fonts.example.org/f from elsewhere"),
    ],
)
def test_a_fault_is_found(tmp_path, page, fault):
    assert site(tmp_path, a=page) == [fault]


def test_a_page_that_leads_out_of_the_repository_or_nowhere_is_refused():
    for target in (ROOT / "docs" / "gone.md", Path("/etc/hostname"), ROOT.parent):
        with pytest.raises(build_site.BrokenLink, match=r"README.md leads to"):
            build_site._place_of(target, ROOT / "README.md")


def test_the_declaration_is_described_whole_and_once():
    described = re.findall(r"(?m)^::: sentinel\.(\w+)$", (ROOT / "docs" / "reference.md").read_text())
    assert sorted(described) == sorted(sentinel.__all__)


def test_every_page_of_docs_is_in_the_navigation():
    def leaves(part):
        if isinstance(part, str):
            return {part}
        return set().union(*map(leaves, part.values() if isinstance(part, dict) else part))

    named = leaves(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"])
    made = {*build_site.WHOLE_PAGES.values(), "commands.md", "decisions/index.md"}
    pages = made | {path.name for path in (ROOT / "docs").glob("*.md")}
    assert named == pages, f"nav of zensical.toml: add {pages - named}, take out {named - pages}"
