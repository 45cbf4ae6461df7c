"""`sentinel log accept-loss`: shows what of the log is lost at a position, and gives it up."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from sentinel.commands.audited import note, note_in_log
from sentinel.config import Settings
from sentinel.errors import LogDamaged, StorageProblem
from sentinel.events.times import clock_us
from sentinel.record.applied import log_folder
from sentinel.record.damage import Damage
from sentinel.record.disk import RealDisk
from sentinel.record.file_log import FileLog
from sentinel.record.home_log import Seen, furthest, is_gone, seen_in
from sentinel.record.kafka.place import place_in
from sentinel.record.lock import WriterLock
from sentinel.record.log import Kind
from sentinel.record.log_reader import naming_faults
from sentinel.record.loss import Loss, body_of_loss
from sentinel.record.salvage import Salvage
from sentinel.record.segment import segment_name


class FoundLoss(NamedTuple):
    """What is lost, and what gives it up: it returns the name of the file with the damaged bytes, or an empty text."""

    damage: Damage
    accept: Callable[[], str]


@contextmanager
def loss_at(settings: Settings, position: int) -> Iterator[FoundLoss]:
    """What is lost at a position of the log of a home folder, which nobody else writes meanwhile.

    Raises StorageProblem when nothing is, or while a server owns the log.
    """
    folder = log_folder(settings.home)
    if not settings.home.exists():
        raise StorageProblem(f"there is no home folder {settings.home}; is that the right --home?")
    if (place := place_in(settings.home)) is not None:
        raise StorageProblem(
            f"the log of {settings.home} is {place.spoken}, of which nothing can be given up: put the topic back from "
            "a copy, or begin another log with another SENTINEL_KAFKA_PREFIX and a fresh --home"
        )
    with naming_faults(folder, "opened"):
        lock = WriterLock.take(folder)
    try:
        with naming_faults(folder, "mended"):
            found = _gone(settings.home, position) if is_gone(folder) else _damaged(settings.home, position)
            yield found._replace(accept=lambda: _accepted(settings, found))
    finally:
        lock.release()


def _accepted(settings: Settings, found: FoundLoss) -> str:
    """Give it up, and have that in the audit too."""
    kept, lost = found.accept(), found.damage
    what, asked = "log accept-loss", str(lost.begin)
    after = {"begin": lost.begin, "end": lost.end, "problem": lost.problem}
    try:
        with closing(FileLog(log_folder(settings.home), clock_us())) as log:
            note_in_log(log, what, asked, {}, after)
    except LogDamaged:  # there is more to give up before it can be written to
        note(settings, what, asked, {}, after)
    return kept


def _damaged(home: Path, position: int) -> FoundLoss:
    folder = log_folder(home)
    try:
        log = FileLog(folder, clock_us())
    except LogDamaged:
        return _salvaged(home, position)
    with closing(log):
        seen = furthest(seen_in(home, log.durable), log.log_id)
        if seen is None or seen.position <= log.durable or position != log.durable:
            return _salvaged(home, position)  # what only `sentinel log verify` finds, or nothing
        base, received_us = log.newest, log.clock(0)
    damage = _at_the_end(segment_name(base), position, seen, received_us)

    def accept() -> str:
        with closing(FileLog(folder, clock_us())) as log:
            _append(log, damage)
        return ""

    return FoundLoss(damage, accept)


def _salvaged(home: Path, position: int) -> FoundLoss:
    seen = furthest(seen_in(home))
    salvage = Salvage(log_folder(home), position, RealDisk(), seen.log_id if seen else None)
    return FoundLoss(salvage.damage, lambda: salvage.accept(clock_us()))


def _gone(home: Path, position: int) -> FoundLoss:
    """No segment is left: the log begins anew under its old name, behind all that was ever seen of it."""
    folder, seen = log_folder(home), furthest(seen_in(home))
    if seen is None or position != 1:
        raise StorageProblem(f"nothing is damaged at position {position}: there is no log in {folder}")
    damage = _at_the_end(segment_name(1), 1, seen, None)

    def accept() -> str:
        (folder / "end").unlink(missing_ok=True)
        with closing(FileLog(folder, clock_us(), log_id=seen.log_id or None)) as log:
            _append(log, damage)
        return ""

    return FoundLoss(damage, accept)


def _at_the_end(segment: str, begin: int, seen: Seen, after_us: int | None) -> Damage:
    problem = f"entries are missing that {seen.what} has seen"
    return Damage(segment, begin, seen.position, problem, 0, seen.position - begin, after_us, None, 0)


def _append(log: FileLog, damage: Damage) -> None:
    now_us = clock_us()
    body = body_of_loss(Loss(now_us, damage.decided, damage.unknown, b"", "", damage.problem))
    log.write(Kind.LOSS, damage.end - damage.begin, log.clock(now_us), body)
