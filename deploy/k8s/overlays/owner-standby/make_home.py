"""What a home has to have before a process begins in it: the API keys and, for the console, where the log is.

A mounted secret cannot be `access/keys.json` itself: its group may read it, and such a file is not used.
"""

import argparse
import os
from pathlib import Path

from sentinel.config import read_settings
from sentinel.durable import write_durably
from sentinel.record.kafka.place import Place, note_place


def main() -> None:
    """Write what is asked for into the home that the settings name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=Path, help="the keys.json that the secret has; a home keeps its own without it")
    parser.add_argument("--log", action="store_true", help="note that the log is in Kafka, as SENTINEL_KAFKA says")
    given = parser.parse_args()
    os.umask(0o077)
    settings = read_settings({})
    settings.home.mkdir(parents=True, exist_ok=True)
    if given.keys is not None and given.keys.exists():
        access = settings.home / "access"
        access.mkdir(exist_ok=True)
        write_durably(access / "keys.json", given.keys.read_bytes(), 0o600)
    if given.log:
        if settings.log != "kafka" or settings.kafka is None:
            raise SystemExit("error: --log is for a log in Kafka: set SENTINEL_LOG=kafka and SENTINEL_KAFKA")
        note_place(settings.home, Place(settings.kafka, settings.kafka_prefix or ""))


if __name__ == "__main__":
    main()
