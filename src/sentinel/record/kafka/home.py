"""The log of a home folder in Kafka: a log of files that is there moves once, and keeps its id, positions and chain."""

import os
import shutil
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from sentinel.durable import sync_folder
from sentinel.errors import StorageProblem
from sentinel.record.file_log import FileLog
from sentinel.record.home_log import check_is_whole, is_gone, note_end
from sentinel.record.kafka.connection import client_settings
from sentinel.record.kafka.kafka_log import KafkaLog
from sentinel.record.kafka.place import Place, note_place, place_in
from sentinel.record.kafka.reader import KafkaLogReader
from sentinel.record.kafka.standby_log import StandbyLog
from sentinel.record.kafka.standing import StandingTopic
from sentinel.record.kafka.topics import prepare
from sentinel.record.lock import WriterLock

_MOVED = "log.moved"


class HomeKafkaLog(KafkaLog):
    """The log of a home folder in Kafka, and its writer: one on this machine, and one in Kafka.

    Raises LogDamaged when something in the home folder has seen more of the log than there is, StorageProblem when it
    is another log, or kept elsewhere.
    """

    def __init__(self, home: Path, place: Place, keep_us: int | None, now_us: int) -> None:
        noted = place_in(home)
        if noted is not None and (noted.prefix, noted.partition) != (place.prefix, place.partition):
            raise StorageProblem(
                f"the log of {home} is {noted.spoken}, and {place.spoken} is another; set SENTINEL_KAFKA_PREFIX "
                "back, or serve another --home"
            )
        folder = home / "log"
        self._home = home
        self.lock = WriterLock.take(folder)
        try:
            settings = client_settings(place, os.environ)
            if noted is None and not is_gone(folder):
                _open_moved(folder, place, settings, keep_us, now_us)
            super().__init__(place, settings, keep_us)
            try:
                check_is_whole(home, self, place.spoken)
                note_end(home, self)
                note_place(home, place)
                _put_aside(folder)
            except BaseException:
                super().close()
                raise
        except BaseException:
            self.lock.release()
            raise

    def publish_url(self, url: str, tenant: str = "") -> None:
        """Publish the URL at which this writer takes changes, and the tenant whose log it is."""
        self.url = url
        self.lock.publish_url(url, tenant)

    def close(self) -> None:
        """Commit what was written, note how far it is, and let another process of this machine become the writer."""
        super().close()
        note_end(self._home, self)
        self.lock.release()


class HomeStandbyLog(HomeKafkaLog, StandbyLog):
    """The same for a process that stands by until it is told to take over."""


def _open_moved(folder: Path, place: Place, settings: Mapping[str, object], keep_us: int | None, now_us: int) -> None:
    """Copy the records of a log of files into Kafka, from where an interrupted move has ended."""
    with closing(FileLog(folder, now_us)) as files:
        if files.first > 1:
            raise StorageProblem(
                f"the oldest entries of the log in {folder} have left it, so it cannot move to Kafka; begin a fresh "
                "--home there, and train on this one's `sentinel log export`"
            )
        prepare(place, keep_us, settings)
        there = _end_of(place, settings)
        if there is not None and there.log_id != files.log_id:
            raise StorageProblem(
                f"{place.spoken} holds the log {there.log_id}, and {folder} holds the log {files.log_id}; set "
                "another SENTINEL_KAFKA_PREFIX, or serve a fresh --home"
            )
        if there is not None and there.position >= files.durable:
            return  # it is there; whoever writes it goes on
        with closing(KafkaLog(place, settings, keep_us, files.log_id)) as log:
            for stored in files.stored(log.durable):
                log.take(stored)
            log.flush()


class _End(NamedTuple):
    log_id: str
    position: int


def _end_of(place: Place, settings: Mapping[str, object]) -> _End | None:
    """The log that is there, and how far it is; None where there is none."""
    with closing(StandingTopic(place, settings)) as topic:
        log_id = topic.log_id
    if log_id is None:
        return None
    with closing(KafkaLogReader(place, settings, log_id)) as reader:
        return _End(log_id, reader.durable)


def _put_aside(folder: Path) -> None:
    """What is in Kafka by now is not read from here any more."""
    moved = folder.parent / _MOVED
    for path in sorted(folder.iterdir()):
        if path.name != "lock":
            moved.mkdir(mode=0o700, exist_ok=True)
            shutil.move(path, moved / path.name)
    sync_folder(folder)
