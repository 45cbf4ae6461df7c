"""`sentinel result`: the server that owns the log is asked, or it is told here while nobody owns the log."""

from contextlib import closing
from urllib.parse import quote

import msgspec
import numpy as np

from sentinel.commands.audited import note_in_log
from sentinel.commands.owner import ask_owner
from sentinel.commands.registry_of_home import registry_of
from sentinel.config import Settings
from sentinel.errors import InvalidDefinition, NotFound
from sentinel.events.card_numbers import masked, quoted
from sentinel.events.columns import hash_text, hash_texts
from sentinel.events.reader import TransactionReader
from sentinel.events.times import clock_us
from sentinel.model.bundle import read_manifest
from sentinel.policy.results import Result
from sentinel.record.applied import HomeDeployment, by_this_user, log_folder
from sentinel.record.concluding import Telling, following, repeated
from sentinel.record.home_log import HomeLog
from sentinel.record.ids import IdIndex
from sentinel.record.journal import Journal
from sentinel.record.results import result_rows
from sentinel.transport.http.results import ToldResult, told


def tell_result(settings: Settings, transaction_id: str, result: str, reason: str = "") -> ToldResult:
    """Tell what became of a decision, durably. Raises InvalidDefinition, NotFound, Conflict, DeploymentRefused."""
    if result not in tuple(Result):
        raise InvalidDefinition(f"{quoted(result, 80)} is no result; give one of {', '.join(Result)}")
    path = f"/v1/decisions/{quote(transaction_id, safe='')}/result"
    said = ask_owner(settings, path, {"result": result, "reason": reason})
    if said is not None:
        return msgspec.convert(said, ToldResult)
    champion = HomeDeployment(settings.home).champion()
    reader = TransactionReader(read_manifest(registry_of(settings).path(champion)).plan.schema, settings.secrets())
    with (
        closing(HomeLog.open(log_folder(settings.home), clock_us())) as log,
        closing(Journal(log, IdIndex(settings.home / "ids", log))) as journal,
    ):
        who = by_this_user("result", "").who
        return _tell(journal, reader, transaction_id, Telling(Result(result), who, masked(reason[:256])))


def _tell(journal: Journal, reader: TransactionReader, transaction_id: str, telling: Telling) -> ToldResult:
    names = reader.texts(reader.schema.id, transaction_id)
    found = journal.find(names, hash_texts(names))
    row = next((found[name] for name in names if name in found), None)
    if row is None:
        raise NotFound(f"No decision is stored for transaction {quoted(transaction_id, 200)}, as far as is remembered")
    before = journal.results_of(row.transaction_id, np.uint64(hash_text(row.transaction_id)), row.position)
    known = repeated(before, telling)
    if known is not None:
        return told(known, replayed=True)
    entry = following(row, before, telling)
    position = journal.append_results(entry, journal.log.clock(clock_us()))
    said = {"transaction_id": row.transaction_id, "result": telling.result, "reason": telling.reason}
    note_in_log(journal.log, "result", "", {}, said)
    return told(result_rows(journal.log.at(position))[0], replayed=False)
