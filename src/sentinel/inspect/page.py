"""The page that `sentinel inspect --html` writes: one file that needs nothing else."""

from collections.abc import Iterable, Sequence
from html import escape

from sentinel.events.times import iso
from sentinel.inspect.charts import CALM, GREY, LOUD, Bar, Line, bars, meter, pairs
from sentinel.inspect.html_parts import facts_box, table, whole_page
from sentinel.inspect.inspection import Inspection
from sentinel.inspect.leakage import LATE, SUSPECT
from sentinel.inspect.overview import EDGES, HOUR_US, Overview
from sentinel.inspect.roles import Role

_SEPARATIONS = 25
_LONGEST_WHOLE = 1e12


def html_of(found: Inspection, next_commands: Sequence[str]) -> str:
    """The whole page."""
    parts = [*_head(found), *_warnings(found)]
    if found.overview is not None:
        parts += [*_left_out(found.overview), *_over_time(found.overview), *_by_class(found.overview)]
    parts += [*_columns(found), *_labels(found), *_separations(found), *_detector(found, next_commands)]
    return whole_page(f"{found.path}: what is in it", parts)


def _head(found: Inspection) -> Iterable[str]:
    yield f"<h1>{escape(found.path)}</h1>"
    facts = [(f"{found.rows:,}", "rows"), (f"{len(found.columns):,}", "columns")]
    if found.overview is not None:
        one = found.overview
        share = f"{100 * one.frauds / one.labelled:.3g} %" if one.labelled else "-"
        facts += [
            (f"{one.transactions:,}", "usable transactions"),
            (f"{one.labelled:,}", "labelled"),
            (f"{one.frauds:,}", f"frauds, {share} of the labelled"),
            (f"{iso(one.first_us)[:10]} to {iso(one.last_us)[:10]}", f"{one.span_us / 24 / HOUR_US:,.1f} days"),
        ]
    yield facts_box(facts)


def _warnings(found: Inspection) -> Iterable[str]:
    if found.problem is not None:
        yield f'<p class="warn">{escape(found.problem)}</p>'
    for one in found.suspects:
        yield f'<p class="warn"><b>{escape(one.column)}</b>: {one.tells}; {LATE}</p>'
    yield from (f'<p class="note">{escape(note)}</p>' for note in found.notes)


def _left_out(one: Overview) -> Iterable[str]:
    rows = [
        (f"{n:,}", escape(reason), escape(str(one.examples[reason])) if reason in one.examples else "")
        for reason, n in one.left_out.items()
    ]
    if rows or one.repeats:
        yield "<h2>Rows that would be left out</h2>"
    if rows:
        yield table(("rows", "why", "the first of them"), rows, numbers=1)
    if one.repeats:
        yield f'<p class="note">{one.repeats}</p>'


def _over_time(one: Overview) -> Iterable[str]:
    yield "<h2>Over time</h2>"
    days = one.period_us // HOUR_US / 24
    what = {1 / 24: "hour", 0.25: "six hours", 1.0: "day", 7.0: "week", 28.0: "four weeks"}.get(days, "period")
    drawn, rates = [], []
    for period in one.periods:
        when = iso(period.begin_us)
        told = f"{when[:16]}: {period.transactions:,} transactions, {period.frauds:,} frauds"
        drawn.append(Bar(period.transactions, when[5:16].replace("T", " ") if days < 1 else when[:10], told))
        rates.append(100 * period.frauds / period.labelled if period.labelled else None)
    yield f"<p>Transactions of each {what}, and the share of frauds among those with a label (line).</p>"
    yield bars(drawn, "transactions", Line(tuple(rates), "frauds") if one.frauds else None)
    yield from (f'<p class="note">{gap.said}</p>' for gap in one.gaps)
    if one.quiet is not None:
        yield f'<p class="note">{escape(one.quiet)}</p>'


def _by_class(one: Overview) -> Iterable[str]:
    counts = one.amounts[:2] if one.labelled else (one.amounts[2], (0,) * len(one.amounts[2]))
    used = [n for n in range(len(EDGES) - 1) if any(column[n] for column in counts)]
    if not used:
        return
    yield "<h2>Amounts</h2>"
    totals = [max(sum(column), 1) for column in counts]
    places = []
    for n in range(min(used), max(used) + 1):
        between = f"{_money(EDGES[n])} to {_money(EDGES[n + 1])}"
        both = [
            Bar(100 * column[n] / total, _money(EDGES[n]), f"{between}: {column[n]:,} {name}")
            for column, total, name in zip(counts, totals, ("legitimate", "frauds"), strict=True)
        ]
        places.append((both[0], both[1]))
    legend = f'<span class="key" style="background:{CALM}"></span>legitimate' if one.labelled else ""
    legend += f'<span class="key" style="background:{LOUD}"></span>frauds' if one.frauds else ""
    yield f"<p>How large they are, each class by itself. {legend}</p>"
    yield pairs(places, "% of the class")
    if one.negative_amounts:
        yield f"<p>{one.negative_amounts:,} amounts are negative; their size is shown.</p>"


def _money(value: float) -> str:
    return f"{value:,.0f}" if value >= 9.5 else f"{value:.2g}"


def _columns(found: Inspection) -> Iterable[str]:
    yield "<h2>Columns</h2>"
    why = {one.column: one.why for one in found.left}
    rows = []
    for one in found.columns:
        role = found.roles.get(one.name, "") if one.name not in why else ""
        told = f'<span class="role">{escape(role)}</span>' if role else f"not used: {escape(why.get(one.name, ''))}"
        share = one.missing / one.rows if one.rows else 0
        bar = f"{meter(share, LOUD if share > 0.5 else GREY)}<span class='s'>{100 * share:.3g} %</span>"
        about = "" if one.distinct_is_exact else "about "
        rows.append(
            (f"<b>{escape(one.name)}</b>", escape(one.kind), told, bar if one.missing else "",
             f"{about}{one.distinct:,}", _range(one.least, one.greatest), escape(", ".join(one.examples)))
        )  # fmt: skip
    yield table(("column", "values", "role", "missing", "different", "from, to", "for example"), rows)
    used = [one for one in found.columns if found.roles.get(one.name) is Role.KEY and one.name not in why]
    keys = [(one, one.present / max(one.distinct, 1)) for one in used]
    if keys:
        yield "<h2>Keys</h2>"
        shown = [(f"<b>{escape(one.name)}</b>", f"{one.distinct:,}", f"{each:,.1f}") for one, each in keys]
        yield table(("key", "different", "transactions of each"), shown)


def _range(least: float | None, greatest: float | None) -> str:
    return "" if least is None or greatest is None else f"{_number(least)} to {_number(greatest)}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value.is_integer() and abs(value) < _LONGEST_WHOLE else f"{value:,.6g}"


def _labels(found: Inspection) -> Iterable[str]:
    label = found.column_of(Role.LABEL)
    if label is None or not found.label_counts:
        return
    yield f"<h2>Labels: {escape(label)}</h2>"
    rows = [
        (
            escape(word),
            f"{n:,}",
            found.meaning(word),
        )
        for word, n in sorted(found.label_counts.items(), key=lambda one: -one[1])
    ]
    missing = next(one.missing for one in found.columns if one.name == label)
    if missing:
        rows.append(("<i>missing</i>", f"{missing:,}", "unlabelled"))
    yield table(("word", "rows", "is read as"), rows)


def _separations(found: Inspection) -> Iterable[str]:
    if not found.separations:
        return
    yield "<h2>What one column tells of the label</h2>"
    yield (
        "<p>AUC of each column alone: 0.5 tells nothing, 1 tells all. Of a column near 1 ask whether it is written "
        "before the label is known.</p>"
    )
    rows = [
        (
            f"<b>{escape(one.column)}</b>",
            f"{meter(2 * one.by_value - 1, LOUD if one.by_value >= SUSPECT else CALM)}{one.by_value:.3f}",
            f"{meter(2 * one.by_missing - 1, LOUD if one.by_missing >= SUSPECT else CALM)}{one.by_missing:.3f}",
        )
        for one in found.separations[:_SEPARATIONS]
    ]
    yield table(("column", "by its value", "by whether it is missing"), rows)


def _detector(found: Inspection, next_commands: Sequence[str]) -> Iterable[str]:
    if found.detector is None:
        return
    yield "<h2>A detector to begin with</h2>"
    yield f"<pre>{escape(found.detector)}</pre>"
    if next_commands:
        yield f"<p>Train and serve it:</p><pre>{escape(chr(10).join(next_commands))}</pre>"
