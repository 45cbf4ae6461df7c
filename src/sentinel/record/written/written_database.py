"""Where the outbox is, and what stands beside it: `written.db` in the home folder, or the schema `sentinel_written`."""

import threading
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


class OpenedLate:
    """The same, opened when it is asked for first; where that fails, again at the next call. For any thread."""

    def __init__(self, home: Path, url: str | None = None) -> None:
        self._home, self._url = home, url
        self._opening = threading.Lock()
        self._opened: WrittenDatabase | None = None

    def get(self) -> WrittenDatabase:
        """The database. Raises StorageProblem, InvalidDefinition."""
        with self._opening:
            if self._opened is None:
                self._opened = WrittenDatabase(self._home, self._url)
            return self._opened

    def close(self) -> None:
        """Release the connections; a later `get` opens it again."""
        with self._opening:
            if self._opened is not None:
                self._opened.close()
                self._opened = None
