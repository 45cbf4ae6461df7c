"""The history that a command is given: read by the rules of its detector, and told what was found in it."""

from pathlib import Path

import polars as pl

from sentinel.commands.declared_events import check_events_given, empty_kinds
from sentinel.commands.load_table import with_tables_read
from sentinel.commands.terminal import Terminal, shown
from sentinel.config import Settings
from sentinel.detector import Detector
from sentinel.events.context_files import read_whole_history
from sentinel.events.files import History
from sentinel.events.reading import Reading
from sentinel.events.wire import KIND

_terminal = Terminal()


def read_data(settings: Settings, detector: Detector, data: Path, reading: Reading) -> History:
    """The history of a file, and what was found in it, told on standard error."""
    check_events_given(detector, reading)
    history = read_whole_history(data, detector.schema, reading, secrets=settings.secrets())
    history = with_tables_read(history, detector.schema, reading, settings.secrets())
    for reason, n in history.skipped.items():
        first = f", first {shown(str(history.examples[reason]))}" if reason in history.examples else ""
        _terminal.print(f"[yellow]skipped {n:,} rows:[/yellow] {shown(reason)}{first}")
    if detector.schema.label in history.frame.columns:
        labels = history.frame[detector.schema.label]
        _terminal.print(
            f"{len(history):,} transactions: {labels.count():,} labelled, {labels.sum():,} of them fraud, "
            f"{labels.null_count():,} without a label"
        )
    else:
        _terminal.print(f"{len(history):,} transactions, none of them labelled: no column is {detector.schema.label}")
    if history.context is not None:
        _terminal.print(f"{len(history.context):,} context events{_by_kind(history.context)}")
        if warnings := empty_kinds(detector, history.context):
            _terminal.warn("context events that are not there", warnings)
    for name, file in history.tables.items():
        _terminal.print(f"{len(file.rows):,} rows of the table {name}")
    if history.relabelled:
        _terminal.print(f"{history.relabelled:,} transactions have another label in a later row: the last one counts")
    return history


def _by_kind(context: pl.DataFrame) -> str:
    counted = context[KIND].value_counts().sort(KIND)
    return ": " + ", ".join(f"{n:,} {kind}" for kind, n in counted.iter_rows()) if len(counted) else ""
