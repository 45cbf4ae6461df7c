"""What pages of ours are made of: one file that needs nothing else, its style, tables and boxes of facts."""

from collections.abc import Iterable, Sequence
from html import escape

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #223; margin: 2rem auto; max-width: 1000px; padding: 0 1.2rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1.12rem; margin: 2rem 0 .5rem }
table { border-collapse: collapse; width: 100%; font-size: 13.5px }
th { text-align: left; border-bottom: 2px solid #d5dae2; padding: .25rem .6rem .25rem 0; white-space: nowrap }
td { border-bottom: 1px solid #eceff3; padding: .25rem .6rem .25rem 0; vertical-align: top }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
td.x { color: #556; overflow-wrap: anywhere }
.facts { display: flex; flex-wrap: wrap; gap: .6rem; margin: 1rem 0 }
.facts div { background: #f4f6f9; padding: .5rem .9rem }
.facts b { display: block; font-size: 1.15rem } .facts span { color: #556; font-size: 13px }
.plot { width: 100%; height: auto; display: block } .plot text { font-size: 11px; fill: #445 }
.warn { border-left: 4px solid #c2413b; background: #fdf3f2; padding: .4rem .9rem; margin: .5rem 0 }
.note { border-left: 4px solid #c9ced6; background: #f7f8fa; padding: .4rem .9rem; margin: .5rem 0 }
.role { background: #e6edf5; padding: 0 .45rem; white-space: nowrap }
.meter { vertical-align: middle; margin-right: .4rem }
pre { background: #f4f6f9; padding: .9rem; overflow-x: auto; font-size: 12.5px; line-height: 1.45 }
.s, td:has(.s) { white-space: nowrap }
.key { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 .9em } p { margin: .4rem 0 }
"""


def whole_page(title: str, parts: Iterable[str]) -> str:
    """A page of parts that are HTML; the title is a text."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"{''.join(parts)}</body></html>\n"
    )


def facts_box(facts: Iterable[tuple[str, str]]) -> str:
    """Values and what they are of, as texts, beside each other."""
    shown = (f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for value, name in facts)
    return f'<div class="facts">{"".join(shown)}</div>'


def table(names: Sequence[str], rows: Sequence[Sequence[str]], numbers: int = 0, texts: int = 0) -> str:
    """A table of cells that are HTML; after the first `texts` columns `numbers` are numbers."""
    where = range(texts, texts + numbers)
    head = "".join(f"<th{_class(n in where)}>{name}</th>" for n, name in enumerate(names))
    body = "".join(
        "<tr>" + "".join(f"<td{_class(n in where)}>{cell}</td>" for n, cell in enumerate(row)) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _class(is_number: bool) -> str:
    return ' class="n"' if is_number else ""
