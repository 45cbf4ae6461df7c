"""Where the view of a home folder is: in a file of it, or in a schema of a PostgreSQL database."""

from pathlib import Path

from sentinel.homes import DETECTORS, TENANTS
from sentinel.record.views import View
from sentinel.record.views.postgres import Database, PostgresView
from sentinel.record.views.sqlite import FILE, VERSION, SqliteView, rebuild


class ViewPlace:
    """Opens the view of a home folder. With the `url` of a database it is there; connections to it are kept here."""

    def __init__(self, home: Path, url: str | None = None) -> None:
        """Raises InvalidDefinition for an address that is none."""
        self._path = home / FILE
        self._database = None if url is None else Database(url, schema_named(home))

    @property
    def name(self) -> str:
        """What people are told it is."""
        return FILE if self._database is None else self._database.name

    @property
    def is_there(self) -> bool:
        """Whether there is one already, as far as this machine knows."""
        return self._database is not None or self._path.exists()

    def open(self) -> View:
        """The view, which is made when it is not there. Raises StorageProblem."""
        return SqliteView(self._path) if self._database is None else PostgresView(self._database)

    def upgrade(self) -> list[str]:
        """Bring the tables of a database to the newest version of their schema; the versions that were run now.

        A file is rebuilt instead. Raises StorageProblem.
        """
        return [] if self._database is None else self._database.prepare()

    @property
    def schema_version(self) -> str:
        """The version of the schema that this Sentinel writes."""
        return str(VERSION) if self._database is None else self._database.newest_version

    def drop(self) -> None:
        """Delete what a database has of it; a file stays."""
        if self._database is not None:
            self._database.drop()

    def close(self) -> None:
        """Release the connections to a database."""
        if self._database is not None:
            self._database.engine.dispose()

    def exercise(self) -> tuple[str, float]:
        """Write to the database, and read back; its version, and the Unix time that it has. Raises StorageProblem."""
        assert self._database is not None  # noqa: S101 - asked of a database only
        return self._database.exercise()

    def repeated_ids(self, limit: int) -> dict[str, int]:
        """Transaction ids that were decided more than once, and how often; a view in a file has none."""
        return {} if self._database is None else PostgresView(self._database).repeated_ids(limit)

    def rebuild(self) -> None:
        """Delete it and begin anew, while it is in use too: the projector then reads the whole log again."""
        if self._database is None:
            rebuild(self._path)
        else:
            self._database.drop()
            self._database.prepare()


def schema_named(home: Path) -> str:
    """The schema of a home folder, one for each detector and tenant of a server.

    >>> schema_named(Path("data")), schema_named(Path("data/tenants/acme/detectors/wallet"))
    ('sentinel', 'sentinel$acme$wallet')
    >>> schema_named(Path("data/tenants/acme")), schema_named(Path("data/detectors/wallet"))
    ('sentinel$acme', 'sentinel$$wallet')
    """
    detector = home.name if home.parent.name == DETECTORS else ""
    of_tenant = home.parent.parent if detector else home
    tenant = of_tenant.name if of_tenant.parent.name == TENANTS else ""
    return "$".join(["sentinel", tenant, detector]).rstrip("$")
