"""Reads all of the log of a home folder and checks it, wherever it is."""

from contextlib import closing
from pathlib import Path

from sentinel.errors import LogDamaged
from sentinel.record.home_log import check_is_whole
from sentinel.record.home_reader import open_log
from sentinel.record.kafka.place import Place, place_in
from sentinel.record.log import Kind, LogReader
from sentinel.record.loss import AcceptedLoss, loss_in
from sentinel.record.verify import Finding, Verified, verify


def verify_home(home: Path) -> Verified:
    """Check the log of a home folder, wherever it is; its writer may go on meanwhile. Raises StorageProblem.

    In Kafka it is read up to the first record that is not as it was written.
    """
    place = place_in(home)
    if place is None:
        return verify(home / "log")
    with closing(open_log(home)) as log:
        return _read_through(home, log, place)


def _read_through(home: Path, log: LogReader, place: Place) -> Verified:
    findings: list[Finding] = []
    losses: list[AcceptedLoss] = []
    first = position = log.first
    size = 0
    try:
        check_is_whole(home, log, place.spoken)
        for record in log.chained_from(first):
            if record.position != position:
                findings.append(Finding(place.decisions, position, f"nothing is there up to {record.position}"))
            if record.kind == Kind.LOSS:
                losses.append(loss_in(record))
            size, position = size + len(record.body), record.position + record.rows
    except LogDamaged as problem:
        findings.append(Finding(place.decisions, max(problem.position, position), str(problem)))
    return Verified(0, size, position - first, first, position, findings, losses)
