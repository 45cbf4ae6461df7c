"""Rotation of the hash key: the log says since when a key follows another one, and so until when that one is needed."""

from typing import NamedTuple

import msgspec

from sentinel.errors import StorageProblem
from sentinel.events.secrets import Secrets
from sentinel.events.times import iso
from sentinel.record.audit import SENTINEL, Change, append_change
from sentinel.record.log import Kind, Log, LogReader

_NAME = "rotation"


class _Entry(msgspec.Struct, frozen=True, array_like=True):
    key: str
    former: str  # empty when a key was gone back to alone


_encode, _decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(_Entry).decode


class Rotation(NamedTuple):
    """The newest one: the numbers of the key and of its former one, and since when, in microseconds since 1970.

    `former` is empty where a server was started with another key and without the one before.
    """

    key: str
    former: str
    since_us: int

    def says(self, horizon_us: int, kept_us: int | None, given: str | None, now_us: int) -> tuple[bool, str]:
        """Whether all is well, and what to do: `horizon_us` is the longest that features remember a key.

        The log is kept for `kept_us`, None for ever: look-ups by what is hashed need the former key as long. `given` is
        the number of the former key in the settings.
        """
        if not self.former:
            return True, f"{self.key} since {iso(self.since_us)}, and none before it"
        is_given, needed_us = given == self.former, self.since_us + horizon_us
        what = f"{self.key} follows {self.former} since {iso(self.since_us)}"
        if now_us <= needed_us and not is_given:
            return False, (
                f"{what}, and features need the former one until {iso(needed_us)}: give it again as "
                "SENTINEL_HASH_KEY_BEFORE_FILE"
            )
        until = "for ever" if kept_us is None else f"until {iso(self.since_us + kept_us)}"
        found_by = f"what is older is found and erased by its number only with the former one, {until}"
        if now_us <= needed_us:
            return True, f"{what}; features need the former one until {iso(needed_us)}; {found_by}"
        if is_given:
            return True, f"{what}; SENTINEL_HASH_KEY_BEFORE_FILE can be taken out, features need it no more; {found_by}"
        return True, f"{what}; features need the former one no more; {found_by}"


def rotation_in(log: LogReader) -> Rotation | None:
    """The newest rotation that a log knows of. Raises StorageProblem when it cannot be read."""
    record = log.standing().get(_NAME)
    if record is None:
        return None
    try:
        entry = _decode(record.body)
    except msgspec.MsgspecError as error:
        raise StorageProblem(f"the rotation of the hash key at {record.position} cannot be read ({error})") from error
    return Rotation(entry.key, entry.former, record.received_us)


def note_rotation(log: Log, secrets: Secrets, now_us: int) -> None:
    """Note that a hash key follows another one, unless the log says so; from the thread of its writer.

    That the former key was taken out later is nothing new.
    """
    known, key = rotation_in(log), secrets.key_id
    former = secrets.before.key_id if secrets.before is not None else None
    if key is None or (known is None and former is None):
        return
    if known is not None and known.key == key and former in (None, known.former):
        return
    now_us = log.clock(now_us)
    was, is_now = {"hash_key": former or (known and known.key)}, {"hash_key": key}
    append_change(log, Change.of(SENTINEL, was, is_now, now_us), now_us)
    log.write(Kind.ROTATED, 1, now_us, _encode(_Entry(key, former or "")), standing=_NAME)
