"""A model card as Markdown, which a review reads line by line, and as one HTML page that needs nothing else."""

from collections.abc import Iterator
from html import escape

from sentinel.model.bundle import Manifest
from sentinel.model.model_card import ASKED, Section, Table, card_of

MARKDOWN_FILE, HTML_FILE = "model_card.md", "model_card.html"
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #223; margin: 2rem auto; max-width: 900px; padding: 0 1.2rem }
h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1.12rem; margin: 2rem 0 .5rem }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; margin: .6rem 0 }
th { text-align: left; border-bottom: 2px solid #d5dae2; padding: .25rem .6rem .25rem 0 }
td { border-bottom: 1px solid #eceff3; padding: .25rem .6rem .25rem 0; vertical-align: top; overflow-wrap: anywhere }
.asked { border-left: 4px solid #c98a1b; background: #fdf8ee; padding: .4rem .9rem }
@media print { body { margin: 0; max-width: none } h2 { break-after: avoid } tr { break-inside: avoid } }
"""


def card_files(manifest: Manifest) -> dict[str, bytes]:
    """Both forms, by the names that they have beside a bundle."""
    return {MARKDOWN_FILE: card_markdown(manifest).encode(), HTML_FILE: card_html(manifest).encode()}


def card_markdown(manifest: Manifest) -> str:
    """The card as Markdown."""
    parts = [f"# Model card: {_plain(manifest.detector)} {manifest.version}"]
    for section in card_of(manifest):
        parts.append(f"## {section.title}")
        parts += [_table(part) if isinstance(part, Table) else _paragraph(part) for part in section.parts]
    return "\n\n".join(part for part in parts if part) + "\n"


def card_html(manifest: Manifest) -> str:
    """The card as a page."""
    title = f"Model card: {escape(manifest.detector)} {escape(manifest.version)}"
    body = "".join(part for section in card_of(manifest) for part in _html_of(section))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>{title}</h1>{body}</body></html>\n"
    )


def _html_of(section: Section) -> Iterator[str]:
    yield f"<h2>{escape(section.title)}</h2>"
    for part in section.parts:
        if isinstance(part, str):
            kind = ' class="asked"' if part.startswith(ASKED) else ""
            yield f"<p{kind}>{escape(part)}</p>"
        elif part.rows:
            heads = "".join(f"<th>{escape(head)}</th>" for head in part.heads)
            rows = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in part.rows)
            yield f"<table><tr>{heads}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def _paragraph(text: str) -> str:
    if text.startswith(ASKED):
        return f"> **{ASKED.strip()}** {_plain(text.removeprefix(ASKED))}"
    return _plain(text)


def _table(table: Table) -> str:
    if not table.rows:
        return ""
    lines = [table.heads, tuple("---" for _ in table.heads), *table.rows]
    return "\n".join(f"| {' | '.join(_plain(cell) for cell in line)} |" for line in lines)


def _plain(text: str) -> str:
    """A text that is nothing but text in Markdown, whoever wrote it."""
    for one in "\\`*_{}[]<>#|":
        text = text.replace(one, f"\\{one}")
    return " ".join(text.split())
