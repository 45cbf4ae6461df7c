"""Business: what fraud costs, what is saved, who is disturbed for nothing; by day, week or month. And as CSV."""

import csv
import io
from datetime import date, timedelta
from typing import Any, cast
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from sentinel.errors import InvalidInput
from sentinel.review.business_figures import money_text
from sentinel.transport.console.cells import safe_cell
from sentinel.transport.console.drawing import page
from sentinel.transport.console.server import Server, path_of

_SHOWN = 12  # groups, and rules, before a table says how many more there are
_DAYS = (7, 30, 90, 365)
_STEPS = (("day", "Day"), ("week", "Week"), ("month", "Month"))
_BYS = (("model", "model version"), ("variant", "variant"))
Report = dict[str, Any]


def business_pages(server: Server) -> APIRouter:
    """`/business` and `/business.csv`; both show what `GET /v1/business` says."""
    router = APIRouter()

    @router.get("/business")
    def business(request: Request) -> Response:
        asked = _asked(request)
        found = _report(server, asked)
        values = {
            "one": found, "asked": asked, "days": _length(found), "choices": _choices(found, asked),
            "steps": [(name, word, _address(asked, each=name)) for name, word in _STEPS],
            "shifts": _shifts(found, asked), "series": _series(found), "csv": _address(asked, "/business.csv"),
            "bys": [*_BYS, *((f"field:{name}", _words(name)) for name in found["fields"])],
            "groups": [_group(one, asked) for one in found["groups"][:_SHOWN]],
            "more_groups": max(len(found["groups"]) - _SHOWN, 0),
            "rules": found["rules"][:_SHOWN], "more_rules": max(len(found["rules"]) - _SHOWN, 0),
            "whole": _address({name: given for name, given in asked.items() if name != "value"}),
            "reviews": _reviews(found), "shown_by": _words((found["by"] or "").removeprefix("field:")),
        }  # fmt: skip
        return page(request, "business.html", values)

    @router.get("/business.csv")
    def as_csv(request: Request) -> Response:
        named = {"content-disposition": 'attachment; filename="business.csv"'}
        lines = _lines(_report(server, _asked(request)))
        return Response(lines, media_type="text/csv; charset=utf-8", headers=named)

    return router


def _asked(request: Request) -> dict[str, str]:
    """What the address says; a field that was left empty is not asked for."""
    return {name: value.strip() for name, value in request.query_params.items() if value.strip()}


def _report(server: Server, asked: dict[str, str]) -> Report:
    return cast("Report", server.get(path_of("v1", "business") + (f"?{urlencode(asked)}" if asked else "")).json)


def _address(asked: dict[str, str], path: str = "/business", **other: str) -> str:
    query = urlencode({**asked, **other})
    return f"{path}?{query}" if query else path


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InvalidInput("Expected a day such as 2026-11-30", "$.from") from None


def _length(found: Report) -> int:
    return (_day(found["end"]) - _day(found["begin"])).days


def _choices(found: Report, asked: dict[str, str]) -> list[dict[str, Any]]:
    """The lengths that one may choose, which end where it ends now."""
    end, length = _day(found["end"]), _length(found)
    return [
        {
            "days": days, "is_here": days == length,
            "address": _address(asked, **{"from": str(end - timedelta(days=days)), "to": str(end)}),
        }
        for days in _DAYS
    ]  # fmt: skip


def _shifts(found: Report, asked: dict[str, str]) -> dict[str, str]:
    """As many days before, and after."""
    begin, end, step = _day(found["begin"]), _day(found["end"]), timedelta(days=_length(found))
    return {
        name: _address(asked, **{"from": str(begin + by), "to": str(end + by)})
        for name, by in (("before", -step), ("after", step))
    }


def _series(found: Report) -> dict[str, Any]:
    """What the charts show: time in Unix seconds, and a number or none at each; of money, the main currency."""
    periods = found["periods"]
    moneys: list[Report] = found["total"]["money"]
    most: Report = max(moneys, key=lambda one: one["volume"], default={"currency": None, "digits": 2})
    currency, digits = most["currency"], int(most["digits"])
    money = [_of_unit(one["figures"], (currency, digits)) for one in periods]
    return {
        "at": [(_day(one["begin"]) - date(1970, 1, 1)).days * 86_400 for one in periods],
        "mature": [one["is_mature"] for one in periods],
        "fraud": [one["figures"]["fraud_bps"] for one in periods],
        "approved": [_percent(one["figures"]["approval_rate"]) for one in periods],
        "disturbed": [_percent(one["figures"]["false_alarm_rate"]) for one in periods],
        "saved": [one["saved"] / 10**digits if one else 0 for one in money],
        "lost": [one["lost"] / 10**digits if one else 0 for one in money],
        "review": [one["figures"]["actions"]["review"] for one in periods],
        "currency": currency or "", "each": found["each"],
    }  # fmt: skip


def _of_unit(figures: Report, unit: tuple[str | None, int]) -> Report | None:
    return next((one for one in figures["money"] if (one["currency"], one["digits"]) == unit), None)


def _percent(share: float | None) -> float | None:
    return None if share is None else round(share * 100, 4)


def _reviews(found: Report) -> dict[str, Any]:
    """What analysts had to look at: a day on average, and in the busiest period."""
    counts = [(one["figures"]["actions"]["review"], one["begin"]) for one in found["periods"]]
    most = max(counts, default=(0, ""))
    return {"a_day": found["total"]["actions"]["review"] / max(_length(found), 1), "most": most[0], "when": most[1]}


def _group(one: Report, asked: dict[str, str]) -> dict[str, Any]:
    name = {"missing": "missing", "other": "all other values"}.get(one["kind"], one["value"])
    address = _address(asked, value=one["value"]) if one["kind"] == "value" else None
    return {"name": name, "address": address, "figures": one["figures"]}


def _words(name: str) -> str:
    return name.replace("_", " ")


def _lines(found: Report) -> str:
    """One row a period and currency, or, where it is grouped, one a value and currency."""
    text = io.StringIO()
    writer = csv.writer(text)
    rows: list[tuple[list[Any], Report]]
    if found["groups"]:
        heads = [found["by"]]
        rows = [([one["value"] if one["kind"] == "value" else one["kind"]], one["figures"]) for one in found["groups"]]
    else:
        heads = ["begin", "end", "is_mature"]
        rows = [([one["begin"], one["end"], one["is_mature"]], one["figures"]) for one in found["periods"]]
    counts = ("decisions", "frauds", "legitimate", "silent", "false_alarms", "fraud_bps", "approval_rate", "precision")
    moneys = ("volume", "fraud", "saved", "held", "lost")
    writer.writerow([*heads, "approve", "challenge", "review", "block", *counts, "currency", *moneys])
    for first, figures in rows:
        for money in figures["money"] or [None]:
            amounts = [""] * 6
            if money is not None:
                amounts = [money["currency"] or "", *(_plain(money[name], money["digits"]) for name in moneys)]
            numbers = [*figures["actions"].values(), *(figures[name] for name in counts)]
            writer.writerow([*map(safe_cell, first), *numbers, safe_cell(amounts[0]), *amounts[1:]])
    return text.getvalue()


def _plain(minor: int, digits: int) -> str:
    """Money as a number for spreadsheets, by whole numbers alone."""
    return money_text(minor, digits, None).replace(",", "")
