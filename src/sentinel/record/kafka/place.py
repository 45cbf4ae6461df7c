"""Where a log is in Kafka, and the file of a home folder that says so."""

from pathlib import Path

import msgspec

from sentinel.durable import write_durably
from sentinel.errors import StorageProblem
from sentinel.homes import DETECTORS, TENANTS
from sentinel.model.regular_file import read_regular
from sentinel.record.private import FILE_MODE

FILE = "log.kafka"
_MOST = 4_096


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One log in Kafka: host:port of some brokers, what its topics' names begin with, and its partition."""

    servers: str
    prefix: str = ""
    partition: int = 0

    @property
    def decisions(self) -> str:
        """The topic of the records."""
        return f"{self.prefix}decisions"

    @property
    def standing(self) -> str:
        """The compacted topic of the newest record of each standing name."""
        return standing_of(self.decisions)

    @property
    def spoken(self) -> str:
        """How it is named to people."""
        return f"partition {self.partition} of the topic {self.decisions} at {self.servers}"


def standing_of(decisions: str) -> str:
    """The name of the compacted topic beside a topic of records: where it is, a log is kept."""
    return f"{decisions}-standing"


def why_not_json(decisions: str) -> str:
    """What is said to who would write decisions as JSON to the topic of a log."""
    return (
        f"{decisions} holds the records of a log, for there is a topic {standing_of(decisions)}, and decisions as JSON "
        "go to a topic of their own: set another SENTINEL_KAFKA_PREFIX"
    )


def topics_of(home: Path) -> str:
    """What the topics of a home folder are called by besides: nothing but for a detector or a tenant of its own.

    >>> topics_of(Path("data")), topics_of(Path("data/tenants/acme/detectors/wallet"))
    ('', 'acme.wallet.')
    """
    detector = home.name if home.parent.name == DETECTORS else ""
    of_tenant = home.parent.parent if detector else home
    tenant = of_tenant.name if of_tenant.parent.name == TENANTS else ""
    return f"{tenant or '-'}.{detector or '-'}." if tenant or detector else ""


def place_in(home: Path) -> Place | None:
    """Where the log of a home folder is in Kafka; None when it is in files. Raises StorageProblem."""
    try:
        return msgspec.json.decode(read_regular(home / FILE, _MOST), type=Place)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StorageProblem(
            f"{home / FILE}, which says where in Kafka the log is, cannot be read ({error}); start the server with "
            "SENTINEL_LOG=kafka, which writes it"
        ) from error


def note_place(home: Path, place: Place) -> None:
    """Note durably that the log of a home folder is there."""
    try:
        write_durably(home / FILE, msgspec.json.encode(place), FILE_MODE)
    except OSError as error:
        raise StorageProblem(f"{home / FILE} cannot be written: {error.strerror}; free or repair the disk") from error
