"""Where the outbox is, and what stands beside it: `written.db` in the home folder, or the schema `sentinel_written`."""

from pathlib import Path

from sentinel.record.written.database import Contents, Database
from sentinel.record.written.tables import VERSION, facts, metadata

FILE = "written.db"
_CONTENTS = Contents("messages and what people write", FILE, "sentinel_written", metadata, facts, VERSION)


class WrittenDatabase(Database):
    """What people write about a home folder's decisions, and the outbox; faults are those of `Database`.

    Each detector and tenant of a server has one of its own.
    """

    def __init__(self, home: Path, url: str | None = None) -> None:
        super().__init__(_CONTENTS, home, url)
