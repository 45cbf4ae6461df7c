"""`sentinel erase`: the server that owns the log is asked, or it is done here while nobody owns it."""

import time
from contextlib import closing

import msgspec

from sentinel.commands.audited import note_in_log
from sentinel.commands.owner import ask_owner
from sentinel.commands.registry_of_home import registry_of
from sentinel.config import Settings
from sentinel.events.reader import TransactionReader
from sentinel.model.bundle import read_manifest
from sentinel.record.applied import HomeDeployment, log_folder
from sentinel.record.erasure import Erasure, erase
from sentinel.record.home_log import HomeLog
from sentinel.record.subjects import SubjectKeys
from sentinel.record.views.place import ViewPlace
from sentinel.record.written.written_database import FILE, WrittenDatabase
from sentinel.review.case_store.forgetting import Subject, erase_in_cases


def erase_subject(settings: Settings, key: str, value: str) -> Erasure:
    """Erase what is personal of the subject with this key, durably. Raises SentinelError."""
    said = ask_owner(settings, "/admin/erase", {"key": key, "value": value})
    if said is not None:
        return msgspec.convert(said, Erasure)
    champion = HomeDeployment(settings.home).champion()
    schema = read_manifest(registry_of(settings).path(champion)).plan.schema
    reader, now_us = TransactionReader(schema, settings.secrets()), time.time_ns() // 1000
    with closing(HomeLog.open(log_folder(settings.home), now_us)) as log, closing(SubjectKeys(settings.home)) as keys:
        done = erase(log, keys, reader, (key, value), now_us)
        keys.purge()
        asked = msgspec.json.encode({"key": key}).decode()  # as it was typed it is not in the audit
        note_in_log(log, "erase", asked, {}, {"erased": key, "value": done.value, "erased_at": done.position})
        return msgspec.structs.replace(done, cases=_in_cases(settings, Subject(key, reader.texts(key, value))))


def _in_cases(settings: Settings, subject: Subject) -> int:
    if settings.database_url is None and not (settings.home / FILE).exists():
        return 0
    place = ViewPlace(settings.home, settings.database_url)
    with closing(WrittenDatabase(settings.home, settings.database_url)) as database, closing(place):
        return erase_in_cases(database, place, subject)
