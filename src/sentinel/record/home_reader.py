"""Opens the log of a home folder for reading, wherever it is."""

import os
from importlib import import_module
from pathlib import Path

from sentinel.record.kafka.place import place_in
from sentinel.record.log import LogReader
from sentinel.record.log_reader import FileLogReader


def has_log(home: Path) -> bool:
    """Whether a home folder has a log, wherever that is. Raises StorageProblem when that cannot be read."""
    return (home / "log").exists() or place_in(home) is not None


def open_log(home: Path) -> LogReader:
    """The log of a home folder, in its files or in Kafka. Raises StorageProblem when there is none."""
    place = place_in(home)
    if place is None:
        return FileLogReader(home / "log")
    reading, connection = (import_module(f"sentinel.record.kafka.{name}") for name in ("reader", "connection"))
    reader: LogReader = reading.KafkaLogReader(place, connection.client_settings(place, os.environ))
    return reader
