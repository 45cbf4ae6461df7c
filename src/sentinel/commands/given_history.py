"""The history that a command is given: read by the rules of its detector, and told what was found in it."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from sentinel.commands.declared_events import check_events_given, empty_kinds
from sentinel.commands.tables_read import with_tables_read
from sentinel.commands.terminal import Terminal, shown
from sentinel.config import Settings
from sentinel.detector import Detector
from sentinel.events.context_files import read_whole_history
from sentinel.events.files import Example, History
from sentinel.events.reading import Reading
from sentinel.events.wire import KIND

_terminal = Terminal()


def read_data(settings: Settings, detector: Detector, data: Path, reading: Reading) -> History:
    """The history of a file, and what was found in it, told on standard error."""
    check_events_given(detector, reading)
    history = read_whole_history(data, detector.schema, reading, secrets=settings.secrets())
    history = with_tables_read(history, detector.schema, reading, settings.secrets())
    tell_skipped(history.skipped, history.examples)
    labels = history.frame[detector.schema.label] if detector.schema.label in history.frame.columns else None
    tell_labels(detector, len(history), None if labels is None else (labels.count(), int(labels.sum())))
    if history.context is not None:
        _terminal.print(f"{len(history.context):,} context events{_by_kind(history.context)}")
        if warnings := empty_kinds(detector, history.context):
            _terminal.warn("context events that are not there", warnings)
    for name, file in history.tables.items():
        _terminal.print(f"{len(file.rows):,} rows of the table {name}")
    if history.relabelled:
        _terminal.print(f"{history.relabelled:,} transactions have another label in a later row: the last one counts")
    return history


def tell_skipped(skipped: Mapping[str, int], examples: Mapping[str, Example]) -> None:
    """Say on standard error which rows were left out, and why."""
    for reason, n in skipped.items():
        first = f", first {shown(str(examples[reason]))}" if reason in examples else ""
        _terminal.print(f"[yellow]skipped {n:,} rows:[/yellow] {shown(reason)}{first}")


def tell_labels(detector: Detector, transactions: int, labels: tuple[int, int] | None) -> None:
    """Say how many transactions there are, and how many have which label.

    `labels` are how many have one, and how many are fraud; None where no column is the label.
    """
    if labels is None:
        _terminal.print(f"{transactions:,} transactions, none of them labelled: no column is {detector.schema.label}")
        return
    _terminal.print(
        f"{transactions:,} transactions: {labels[0]:,} labelled, {labels[1]:,} of them fraud, "
        f"{transactions - labels[0]:,} without a label"
    )


def _by_kind(context: pl.DataFrame) -> str:
    counted = context[KIND].value_counts().sort(KIND)
    return ": " + ", ".join(f"{n:,} {kind}" for kind, n in counted.iter_rows()) if len(counted) else ""
