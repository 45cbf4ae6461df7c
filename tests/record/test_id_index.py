"""Ids are found whatever way they have gone from memory to the table, and after a crash at any moment of it."""

import contextlib
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import alembic.command
import alembic.config
import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

import sentinel.review
from sentinel.errors import JournalProblem
from sentinel.record.decision_batch import DecisionBatch
from sentinel.record.journal import Journal
from sentinel.record.journal_reader import DECISION_COLUMNS, DecisionRow
from sentinel.review import id_index


def decision(seq, transaction_id):
    return DecisionRow(
        seq=seq, transaction_id=transaction_id, content=b"{}", features=b"", fraud_probability=0.5, decision="approve",
        review_threshold=0.6, block_threshold=0.9, model_version="v1", detector="shop", late=False, variant=None,
        experiment=None, circuit="closed", degraded=None, batch_size=1, latency_us=5, decided_at_us=7,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def small_generations(monkeypatch):
    """So that little data goes all the way; slots are many, or pages would be few."""
    monkeypatch.setattr(id_index, "GENERATION", 16)
    monkeypatch.setattr(id_index, "_SLOTS", 32)
    monkeypatch.setattr(id_index, "_AT_ONCE", 3)
    monkeypatch.setattr(id_index, "_ROWS", 4)
    monkeypatch.setattr(id_index, "_INSERT_ROWS", id_index._INSERT + ", (?, ?)" * 3)
    monkeypatch.setattr(id_index, "_LEAST_BITS", 64)
    monkeypatch.setattr(id_index, "_PAGE", 5)


def add(journal, names):
    rows = [decision(journal.last_seq + 1 + n, name) for n, name in enumerate(names)]
    journal.append(DecisionBatch.of_rows(rows))


def crashed(journal, folder):
    """The journal as a power cut would leave it now."""
    for file in journal.path.parent.glob("journal.db*"):
        shutil.copy(file, folder / file.name)
    return Journal(folder / "journal.db")


def in_the_table(journal):
    with contextlib.closing(sqlite3.connect(journal.path)) as reader:
        return reader.execute("SELECT count(*) FROM decision_ids").fetchone()[0]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=25), st.integers(0, 24), st.booleans())
def test_every_id_is_found_and_no_other_whenever_it_is_opened_again(sizes, crash_after, whole):
    known = {}
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        journal = Journal(Path(first) / "journal.db")
        for n, size in enumerate(sizes):
            names = [f"{n}-{i}" for i in range(size)]
            assert journal.find(names) == {}
            known.update((name, journal.last_seq + 1 + i) for i, name in enumerate(names))
            add(journal, names)
            if n == crash_after:
                again = crashed(journal, Path(second))
                journal.close()
                journal = again
            asked = list(known) if whole else names[:3] + list(known)[:5]
            found = journal.find([*asked, "never", *(f"{name}?" for name in asked)])
            assert {name: row.seq for name, row in found.items()} == {name: known[name] for name in asked}
        assert in_the_table(journal) >= min(len(known) - 4 * 40, 0)
        journal.close()


def test_most_of_many_are_in_the_table_and_the_sieve_knows_them(tmp_path):
    journal = Journal(tmp_path / "journal.db")
    for n in range(200):
        add(journal, [f"{n}-{i}" for i in range(3)])
    assert in_the_table(journal) > 500
    journal.close()
    journal = Journal(tmp_path / "journal.db")
    journal._ids._filling.join()
    assert journal._ids._sieve.is_complete
    assert len(journal.find([f"{n}-1" for n in range(200)])) == 200
    new = id_index.hash_texts([f"new-{i}" for i in range(1000)])
    assert len(journal._ids._sieve.left(new)) < 300
    add(journal, ["one more"])
    assert journal.find(["one more"]).keys() == {"one more"}
    journal.close()


def test_ids_whose_hashes_are_equal_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(id_index, "hash_texts", lambda texts: np.array([len(text) for text in texts], np.uint64) << 60)
    journal = Journal(tmp_path / "journal.db")
    names = [f"{n:02}" for n in range(40)]
    for name in names:
        assert journal.find([name]) == {}
        add(journal, [name])
    assert in_the_table(journal) > 15
    assert {name: row.seq for name, row in journal.find(names).items()} == {name: n + 1 for n, name in enumerate(names)}
    assert journal.find_one("07")[0].seq == 8
    assert journal.find_one("xy")[0] is None
    journal.close()


def test_a_batch_larger_than_all_slots_is_taken(tmp_path):
    journal = Journal(tmp_path / "journal.db")
    names = [f"large-{i}" for i in range(500)]
    add(journal, names[:10])
    add(journal, names[10:])
    add(journal, ["small"])
    assert journal.find([*names, "small"]).keys() == {*names, "small"}
    journal.close()


def test_a_full_disk_while_ids_move_loses_none_of_them(tmp_path):
    journal = Journal(tmp_path / "journal.db")
    stored = []

    def add_all(names):
        for name in names:
            add(journal, [f"{name}-{i}" for i in range(5)])
            stored.extend(f"{name}-{i}" for i in range(5))

    for n in range(30):
        pages = journal._driver.execute("PRAGMA page_count").fetchone()[0]
        journal._driver.execute(f"PRAGMA max_page_count={pages}")
        with pytest.raises(JournalProblem, match="full"):
            add_all(f"{n}-until-full-{k}" for k in range(1000))
        journal._driver.execute("PRAGMA max_page_count=1000000")
        add_all([f"{n}-a", f"{n}-b"])
        assert journal.find(stored).keys() == set(stored)
    assert in_the_table(journal) > 300
    journal.close()


def test_others_find_an_id_while_it_is_on_its_way(tmp_path):
    journal = Journal(tmp_path / "journal.db")
    add(journal, ["first"])
    stop, missed, asked = threading.Event(), [], []

    def look():
        while not stop.is_set():
            newest = journal.last_seq
            for seq in {1, max(newest - 20, 1), max(newest // 2, 1), newest}:
                name = "first" if seq == 1 else f"t{seq}"
                asked.append(name)
                if journal.find_one(name)[0] is None:
                    missed.append(name)

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(600):
        add(journal, [f"t{journal.last_seq + 1 + i}" for i in range(3)])
    stop.set()
    for thread in threads:
        thread.join()
    assert len(asked) > 20
    assert missed == []
    journal.close()


@pytest.fixture
def old_journal(tmp_path):
    """As the version before left it: a unique index, and a hundred decisions."""
    path = tmp_path / "journal.db"
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config = alembic.config.Config()
        config.set_main_option("script_location", str(Path(sentinel.review.__file__).with_name("migrations")))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "0002")
        marks = ",".join("?" * len(DECISION_COLUMNS))
        for seq in range(1, 101):
            connection.exec_driver_sql(
                f"INSERT INTO decisions ({','.join(DECISION_COLUMNS)}) VALUES ({marks})",  # noqa: S608
                tuple(decision(seq, f"old-{seq}")),
            )
    engine.dispose()
    return path


def found_again(path):
    journal = Journal(path)
    assert in_the_table(journal) == 96
    add(journal, ["new"])
    assert len(journal.find([f"old-{seq}" for seq in range(1, 101)])) == 100
    assert journal.find_one("new")[0].seq == 101
    journal.close()


def test_a_journal_of_before_is_taken_over(old_journal):
    found_again(old_journal)


def test_a_take_over_that_is_cut_short_begins_anew(old_journal):
    code = (
        "import os; from pathlib import Path; from alembic import op; from sentinel.record.journal import Journal\n"
        "op.create_table = lambda *_, **__: os._exit(9)\n"
        f"Journal(Path({str(old_journal)!r}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    found_again(old_journal)


def test_a_full_disk_while_it_is_opened_says_so_and_loses_nothing(old_journal):
    Journal(old_journal).close()
    with contextlib.closing(sqlite3.connect(old_journal)) as writer:
        writer.execute("DELETE FROM decision_ids")
        writer.execute("DELETE FROM decision_ids_upto")
        writer.commit()
        writer.execute("CREATE TRIGGER full BEFORE INSERT ON decision_ids_upto BEGIN SELECT RAISE(ABORT, 'full'); END")
    with pytest.raises(JournalProblem, match=r"cannot be opened: full"):
        Journal(old_journal)
    with contextlib.closing(sqlite3.connect(old_journal)) as writer:
        writer.execute("DROP TRIGGER full")
    found_again(old_journal)
