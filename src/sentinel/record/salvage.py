"""Salvage: of a damaged segment all is kept that is as it was written; a LOSS record takes the place of the rest."""

from contextlib import closing
from pathlib import Path

import msgspec

from sentinel.errors import StorageProblem
from sentinel.record.damage import DamagedLog, Finding
from sentinel.record.disk import Disk
from sentinel.record.log import Kind, Record
from sentinel.record.loss import Loss, body_of_loss
from sentinel.record.segment import FORMAT, HEAD, SegmentHead, encode, segment_name

_DRAFT = ".salvage"
_encode_head = msgspec.msgpack.Encoder().encode


class Salvage:
    """The damage of a log at one position, for the owner of the writer's lock: seen first, then accepted.

    `log_id` is what the log is called if none of its segments can tell. Raises StorageProblem when nothing is wrong at
    that position.
    """

    def __init__(self, folder: Path, position: int, disk: Disk, log_id: str | None = None) -> None:
        self._folder, self._disk = folder, disk
        self._log = DamagedLog(folder, position, disk, log_id)
        found = self._log.at(position)
        if found is None:
            raise StorageProblem(
                f"nothing is damaged at position {position} of the log; `sentinel log verify` names what is"
            )
        self._found = found
        self.damage = self._log.shown(found)

    def accept(self, now_us: int) -> str:
        """Set the damaged bytes aside and put the loss in their place, durably; the name of the file that has them."""
        found, seen = self._found, self.damage
        kept = f"lost-{seen.begin:020}.bytes" if found.damaged else ""
        if kept:
            self._write(kept, found.damaged)
            self._disk.sync_folder(self._folder)
        loss = Loss(now_us, seen.decided, seen.unknown, found.resumed, kept, seen.problem)
        sound = found.sound
        rows = found.end - sound.position
        record = Record(sound.position, Kind.LOSS, rows, sound.received_us, body_of_loss(loss), sound.chain)
        data, _ = encode(record, "", sound.position, self._log.seed)
        begin = sound.data if found.before is None else self._head_of(found, found.before)
        self._write(_DRAFT, begin + data + found.rest)
        self._disk.rename(self._folder / _DRAFT, self._folder / segment_name(found.base))
        self._disk.sync_folder(self._folder)
        return kept

    def _head_of(self, found: Finding, before: int) -> bytes:
        """The head of a segment, written anew from what is known of the one before it."""
        sound = found.sound
        head = SegmentHead(FORMAT, self._log.log_id, before, sound.chain, sound.received_us, sound.standing)
        record = Record(found.base, HEAD, 0, sound.received_us, _encode_head(head), sound.chain)
        data, _ = encode(record, "", found.base, self._log.seed)
        return data

    def _write(self, name: str, data: bytes) -> None:
        with closing(self._disk.create(self._folder / name)) as file:
            file.write(0, data)
            file.sync()
