"""Whether what is there of a log in Kafka is all of it, so that somebody may go on writing it."""

from collections.abc import Mapping

from sentinel.errors import LogDamaged
from sentinel.record.kafka.message import Found
from sentinel.record.kafka.place import Place
from sentinel.record.log import Record

_ANOTHER = "begin another log with another SENTINEL_KAFKA_PREFIX and another --home"


def check_whole(place: Place, newest: Found | None, low: int, standing: Mapping[str, Record]) -> None:
    """Raise LogDamaged where the end of the log is missing.

    `newest` is its last committed record, `low` the oldest offset that the topic has, `standing` what stands by name.
    """
    if newest is None and low > 0:
        raise LogDamaged(
            f"all that {place.spoken} held is deleted, so what its positions were is not known; {_ANOTHER}", "", 1
        )
    end = 1 if newest is None else newest.next
    if missing := [name for name, record in standing.items() if record.position >= end]:
        raise LogDamaged(
            f"{place.spoken} ends before position {end}, and {missing[0]!r} stands behind it: its newest entries are "
            f"missing, or the topic was made anew; put it back, or {_ANOTHER}",
            "", end,
        )  # fmt: skip
