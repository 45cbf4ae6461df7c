"""The table of docs/features.md says of each feature what its function takes."""

import inspect
import re
from pathlib import Path

from sentinel.features import definitions
from sentinel.features.layout import WINDOW_KINDS

PAGE = Path(__file__).parents[2] / "docs" / "features.md"
ARGUMENTS = ("over", "delay", "include_current", "where", "event")


def features():
    """The functions that make features, with their parameters."""
    found = inspect.getmembers(definitions, inspect.isfunction)
    return {
        name: inspect.signature(made).parameters
        for name, made in found
        if name[0] != "_" and made.__module__ == definitions.__name__
    }


def as_written(feature, parameters, name):
    if name not in parameters and "window" in parameters:
        return of_a_window(feature, name)
    if name not in parameters:
        return "-"
    default = parameters[name].default
    if default is inspect.Parameter.empty:
        return "needed"
    if default is None:
        return "optional"
    return f'`"{default}"`' if isinstance(default, str) else f"`{default}`"


def of_a_window(feature, name):
    """What `**window` may have: what a plan takes."""
    if name == "include_current":
        made = getattr(definitions, feature)
        one = made("amount", by="card", over="1h") if feature != "count" else made(by="card", over="1h")
        return f"`{(one.parts[-1] if one.parts else one).include_current}`"
    kind = WINDOW_KINDS.get(feature)
    return "-" if name == "delay" and kind is not None and kind.delay == "cannot" else "optional"


def test_what_a_feature_of_a_key_takes_is_as_the_table_says():
    page = PAGE.read_text()
    table = page[page.index("| feature | `over` |") :].split("\n\n")[0]
    written = {}
    for line in table.splitlines()[2:]:
        names, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        written |= dict.fromkeys(re.findall(r"`(\w+)`", names), cells)
    of_a_key = {name: has for name, has in features().items() if "by" in has}
    assert written == {name: [as_written(name, has, one) for one in ARGUMENTS] for name, has in of_a_key.items()}


def test_every_feature_is_in_the_first_table():
    page = PAGE.read_text()
    table = page[: page.index("What else each function takes")]
    assert set(features()) <= set(re.findall(r"`(\w+)", table))
