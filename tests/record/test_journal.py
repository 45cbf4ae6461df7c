import os
import shutil
import subprocess
import sys
import threading
import time

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from sentinel.errors import JournalProblem
from sentinel.record.decision_batch import DecisionBatch
from sentinel.record.journal import LONGEST_LOG, Journal, lengthen
from sentinel.record.journal_reader import DecisionRow, OutcomeRow
from sentinel.record.tables import metadata


def decision(seq, transaction_id=None, **changes):
    row = DecisionRow(
        seq=seq, transaction_id=transaction_id or f"t{seq}", content=b"{}", features=b"\0" * 16, fraud_probability=0.5,
        decision="approve", review_threshold=0.6, block_threshold=0.9, model_version="v1", detector="shop", late=False,
        variant=None, experiment=None, circuit="closed", degraded=None, batch_size=1, latency_us=5, decided_at_us=7,
    )  # fmt: skip
    return row._replace(**changes)


def store(journal, rows, told=()):
    journal.append(DecisionBatch.of_rows(rows), told)


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path / "journal.db")
    yield journal
    journal.close()


def test_what_was_appended_is_found_again(journal):
    rows = [decision(1), decision(2, late=True, degraded="slow")]
    told = [OutcomeRow(3, "t1", True, 10, 11)]
    store(journal, rows, told)
    assert journal.find(["t1", "t2", "t9"]) == {"t1": rows[0], "t2": rows[1]}
    assert journal.find_one("t1") == (rows[0], told)
    assert journal.find_one("t9") == (None, [])
    assert journal.counts() == {"decisions": 2, "outcomes": 1}
    assert journal.last_seq == 3


def test_events_come_back_in_the_order_they_were_taken(journal):
    store(journal, [decision(1), decision(3)], [OutcomeRow(2, "t1", True, 10, 11)])
    store(journal, [], [OutcomeRow(4, "t3", False, 10, 11)])
    assert [row.seq for page in journal.events_after(1) for row in page] == [2, 3, 4]


def test_pages_join_without_a_gap(journal, monkeypatch):
    monkeypatch.setattr("sentinel.record.journal_reader._PAGE", 3)
    store(
        journal,
        [decision(seq) for seq in range(1, 20, 2)],
        [OutcomeRow(seq, "t1", True, 1, 1) for seq in range(2, 20, 2)],
    )
    assert [row.seq for page in journal.events_after(0) for row in page] == list(range(1, 20))


def test_a_batch_is_stored_whole_or_not_at_all(journal):
    store(journal, [decision(1)])
    with pytest.raises(JournalProblem, match="UNIQUE"):
        store(journal, [decision(2), decision(1, "t9")])
    assert journal.last_seq == 1
    assert journal.find(["t2", "t9"]) == {}
    store(journal, [decision(2)])
    assert journal.counts()["decisions"] == 2


def test_what_fails_for_any_reason_leaves_nothing_for_the_next_commit(journal):
    with pytest.raises(OverflowError):
        store(journal, [decision(1), decision(2)], [OutcomeRow(3, "t1", True, 2**70, 1)])
    store(journal, [decision(1, "other")])
    assert journal.counts() == {"decisions": 1, "outcomes": 0}
    assert journal.find(["t1", "t2", "other"]).keys() == {"other"}


def test_the_newest_outcome_is_the_truth(journal):
    store(journal, [decision(1)], [OutcomeRow(2, "t1", True, 1, 1), OutcomeRow(3, "t1", False, 2, 2)])
    assert journal.newest_outcomes(["t1", "t2"]) == {"t1": OutcomeRow(3, "t1", False, 2, 2)}


def test_a_second_process_is_kept_out(journal):
    code = (
        f"from pathlib import Path; from sentinel.record.journal import Journal; Journal(Path({str(journal.path)!r}))"
    )
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "in use by another Sentinel" in asked.stderr


def test_it_can_be_opened_again(tmp_path):
    for seq in (1, 2, 3):
        journal = Journal(tmp_path / "journal.db")
        assert journal.last_seq == seq - 1
        store(journal, [decision(seq)])
        journal.close()


def test_a_file_that_is_no_journal_says_so(tmp_path):
    (tmp_path / "journal.db").write_bytes(b"something else entirely, long enough to be looked at" * 50)
    with pytest.raises(JournalProblem, match="cannot be opened"):
        Journal(tmp_path / "journal.db")


def test_activations_remember_since_when_a_state_is_kept(journal):
    assert journal.activation("v1") is None
    journal.activate("v1", 0, 1)
    store(journal, [decision(1), decision(2)])
    journal.activate("v2", 2, 2)
    assert journal.activation("v1") == 0
    assert journal.activation("v2") == 2


def test_the_migrations_make_the_tables_of_the_code(journal):
    with sa.create_engine(f"sqlite:///{journal.path}").connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_checkpoints_from_another_thread_do_not_disturb_commits(journal):
    stop = threading.Event()
    failures = []

    def write_back():
        while not stop.is_set():
            try:
                journal.checkpoint()
            except Exception as error:  # noqa: BLE001
                failures.append(error)

    thread = threading.Thread(target=write_back)
    thread.start()
    for seq in range(1, 400):
        journal.find([f"t{seq}"])
        store(journal, [decision(seq)])
    stop.set()
    thread.join()
    assert not failures
    assert journal.counts()["decisions"] == 399


def test_the_log_begins_anew_when_it_has_grown(journal, monkeypatch):
    monkeypatch.setattr("sentinel.record.journal.LONGEST_LOG", 25)
    for seq in range(1, 60):
        store(journal, [decision(seq, content=b"x" * 4000)])
        journal.checkpoint()
        journal.cut_log()
    log = journal.path.with_name(journal.path.name + "-wal")
    assert len(log.read_bytes().rstrip(b"\0")) < 200_000
    assert journal.counts()["decisions"] == 59


def test_a_log_of_full_length_from_the_start_is_read_after_a_crash(journal, tmp_path):
    log = journal.path.with_name(journal.path.name + "-wal")
    length = log.stat().st_size
    assert length > LONGEST_LOG * 4_096
    store(journal, [decision(seq) for seq in range(1, 41)])
    assert log.stat().st_size == length
    left = tmp_path / "left"
    left.mkdir()
    for file in (journal.path, log):
        shutil.copy(file, left / file.name)
    found = Journal(left / journal.path.name)
    assert found.counts()["decisions"] == 40
    assert found.last_seq == 40
    found.close()


def test_a_disk_without_room_for_a_long_log_keeps_what_room_it_has(tmp_path, monkeypatch):
    real = os.write

    def full(file, data):
        return real(file, data[:100_000]) if len(data) > 100_000 else real(file, data)

    monkeypatch.setattr("os.write", full)
    journal = Journal(tmp_path / "journal.db")
    assert journal.path.with_name(journal.path.name + "-wal").stat().st_size < 100_000
    store(journal, [decision(1)])
    assert journal.counts()["decisions"] == 1
    journal.close()


def test_a_log_that_cannot_be_made_longer_is_no_reason_not_to_start(tmp_path):
    (tmp_path / "folder").mkdir()
    lengthen(tmp_path / "folder")  # not a file at all


@pytest.mark.parametrize("n", [1, 2, 16, 17, 63, 100, 700])
def test_what_a_batch_shares_and_what_it_does_not_is_stored_alike(journal, n):
    differing = [
        decision(i, batch_size=i % 3, model_version=f"v{i % 2}", block_threshold=None if i % 5 else 0.9)
        for i in range(1, n + 1)
    ]
    alike = [decision(n + i, batch_size=n, block_threshold=None, latency_us=i) for i in range(1, n + 1)]
    for rows in (differing, alike):
        store(journal, rows)
        assert journal.find([one.transaction_id for one in rows]) == {one.transaction_id: one for one in rows}


def test_a_reader_who_dawdles_does_not_hold_up_the_writer(journal, monkeypatch):
    monkeypatch.setattr("sentinel.record.journal.LONGEST_LOG", 0)
    store(journal, [decision(1)])
    with sa.create_engine(f"sqlite:///{journal.path}").connect() as reader:
        reader.exec_driver_sql("BEGIN")
        reader.exec_driver_sql("SELECT count(*) FROM decisions").fetchall()
        store(journal, [decision(2)])
        journal.checkpoint()
        begun = time.perf_counter()
        journal.cut_log()
        assert time.perf_counter() - begun < 5
    store(journal, [decision(3)])
    assert journal.last_seq == 3


def test_more_ids_than_a_statement_takes_are_found_in_parts(journal):
    store(journal, [decision(seq) for seq in range(1, 31)])
    names = [f"t{i}" for i in range(40_000)]
    assert journal.find(names).keys() == {f"t{seq}" for seq in range(1, 31)}
