"""The documentation as a site: `make docs`, which runs this with `.venv-docs`. Needs no network, nor do its readers.

The pages are those of docs/, with the README as the first, and the commands as the command line describes them. A link
to a file outside docs/ leads to a copy of it. What leads nowhere, or loads something from elsewhere, ends the build.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parents[1]
DOCS, PAGES, SITE = ROOT / "docs", ROOT / ".site" / "pages", ROOT / ".site" / "html"
WHOLE_PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "reporting.md",
}
"""Pages outside docs/, and what they are called on the site."""
_LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_LOADS = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}
_NO_STYLE = ("canonical", "prev", "next", "alternate")


class BrokenLink(Exception):
    """A page leads to something that is not there."""


def collect() -> None:
    """Lay out the pages of the site, and copies of what they lead to."""
    shutil.rmtree(SITE.parent, ignore_errors=True)
    shutil.copytree(DOCS, PAGES, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    for name, page in WHOLE_PAGES.items():
        shutil.copy(ROOT / name, PAGES / page)
    sources = {PAGES / page: ROOT / name for name, page in WHOLE_PAGES.items()}
    for page in sorted(PAGES.rglob("*.md")):
        source = sources.get(page, DOCS / page.relative_to(PAGES))
        page.write_text(_with_links_of_the_site(page.read_text(), page, source))
    (PAGES / "decisions" / "index.md").write_text(_list_of_decisions())
    (PAGES / "commands.md").write_text(_commands())


def _with_links_of_the_site(text: str, page: Path, source: Path) -> str:
    def moved(found: re.Match[str]) -> str:
        before, link, after = found.groups()
        if urlsplit(link).scheme:
            return found.group()
        target = _place_of((source.parent / unquote(link)).resolve(), source)
        return f"{before}{os.path.relpath(target, page.parent)}{after}"

    parts = _FENCE.split(text)
    return "".join(one if one.startswith("```") else _LINK.sub(moved, one) for one in parts)


def _place_of(target: Path, source: Path) -> Path:
    """Where the site has a file of the repository; what is outside docs/ is copied as text."""
    if not target.exists() or not target.is_relative_to(ROOT):
        raise BrokenLink(f"{source.relative_to(ROOT)} leads to {target}, which is not there")
    name = target.relative_to(ROOT)
    if str(name) in WHOLE_PAGES:
        return PAGES / WHOLE_PAGES[str(name)]
    if target.is_relative_to(DOCS):
        inside = PAGES / target.relative_to(DOCS)
        return inside / "index.md" if target.is_dir() else inside
    copy = PAGES / "files" / name
    copy.parent.mkdir(parents=True, exist_ok=True)
    if target.is_file():
        return Path(shutil.copy(target, copy.with_name(f"{copy.name.lstrip('.')}.txt")))
    listed = [_place_of(one, source) for one in _files_in(target)]
    lines = [f"- [{one.relative_to(copy).with_suffix('')}]({one.relative_to(copy)})" for one in listed]
    (copy / "index.md").write_text("\n".join([f"# The folder {name}", "", *lines, ""]))
    return copy / "index.md"


def _files_in(folder: Path) -> list[Path]:
    return sorted(one for one in folder.rglob("*") if one.is_file() and "__pycache__" not in one.parts)


def _list_of_decisions() -> str:
    pages = sorted((PAGES / "decisions").glob("0*.md"))
    lines = [f"- [{one.read_text().splitlines()[0].removeprefix('# ')}]({one.name})" for one in pages]
    return "\n".join(["# Decisions", "", "What someone will ask about, and why it is so.", "", *lines, ""])


def _commands() -> str:
    """Every command and its options, as Typer writes them; needs the environment of the program itself."""
    command = [ROOT / ".venv" / "bin" / "python", "-m", "typer", "sentinel.cli", "utils", "docs", "--name", "sentinel"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    written = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout  # noqa: S603
    return written.replace("# `sentinel`", "# Commands", 1)


def write() -> None:
    """Make the site of the pages; every warning ends it."""
    program = Path(sys.executable).with_name("zensical")
    subprocess.run([program, "build", "--strict", "--clean"], cwd=ROOT, check=True)  # noqa: S603


class _Page(HTMLParser):
    """What a page leads to, what it loads, and the places in it that can be led to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of a tag."""
        told = {name: value or "" for name, value in attrs}
        self.places |= {told[name] for name in ("id", "name") if name in told}
        if tag == "a" and "href" in told:
            self.links.append(told["href"])
        if tag in _LOADS and _LOADS[tag] in told and told.get("rel", "") not in _NO_STYLE:
            self.loads.append(told[_LOADS[tag]])


def _from(site: Path, place: str) -> Path:
    """A place as a link has it: one from the root, as the page has that is shown for missing ones, is of the site."""
    return site / place.lstrip("/") if place.startswith("/") else Path(place)


def faults(site: Path) -> Iterator[str]:
    """What leads nowhere on a site, and what it loads from elsewhere."""
    pages = {path: _Page(path.read_text()) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        here = path.relative_to(site)
        for link in [*page.links, *page.loads]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loads and parts.scheme != "data":
                    yield f"{here} loads {link} from elsewhere"
                continue
            target = (path.parent / _from(site, unquote(parts.path))).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                yield f"{here} leads to {link}, which is not there"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].places:
                yield f"{here} leads to {link}, and {target.relative_to(site)} has no such place"


def main() -> None:
    """Build the site and look at every link of it."""
    collect()
    write()
    found = sorted(set(faults(SITE)))
    if found:
        sys.exit("\n".join(found))
    sys.stdout.write(
        f"{SITE.relative_to(ROOT)}/index.html: {len(list(SITE.rglob('*.html')))} pages, every link leads somewhere\n"
    )


if __name__ == "__main__":
    main()
