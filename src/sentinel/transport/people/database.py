"""Where people are kept: `people.db` in the home folder, or the schema `sentinel_people` of the views' database."""

from pathlib import Path

from sentinel.record.written.database import Contents, Database
from sentinel.transport.people.tables import VERSION, facts, metadata

_CONTENTS = Contents("people", "people.db", "sentinel_people", metadata, facts, VERSION)


class PeopleDatabase(Database):
    """The people of a home folder; faults are those of `Database`."""

    def __init__(self, home: Path, url: str | None = None) -> None:
        super().__init__(_CONTENTS, home, url)
