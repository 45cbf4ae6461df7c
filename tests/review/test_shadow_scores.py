"""The scores of shadows in a real file: which are kept, and that the file does not grow."""

import sqlite3

import pytest

from sentinel.review import shadow_scores
from sentinel.review.shadow_scores import ShadowProgress, ShadowRecord, ShadowScore

KEEP = 3_000


def score(version, seq, decided_at_us=None):
    return ShadowScore(version, seq, f"{version}-{seq * 7919 % 100_003}", 0.5, "review", 0.4, "approve", "v1", False,
                       decided_at_us or seq)  # fmt: skip


def progress(version, seq=0, **changes):
    return ShadowProgress(version, "0" * 64, 0, seq, **changes)


@pytest.fixture
def record(tmp_path):
    record = ShadowRecord(tmp_path / "shadow.db")
    yield record
    record.close()


def store(record, version, seqs, keep=None, **changes):
    """As a shadow does it: a page, then a step of deleting."""
    for begin in range(seqs.start, seqs.stop, 500):
        page = range(begin, min(begin + 500, seqs.stop))
        record.store([score(version, seq, **changes) for seq in page], progress(version, page[-1]))
        if keep is not None:
            record.prune(keep)


def held(record, version):
    with sqlite3.connect(record.path) as reader:
        found = reader.execute(
            "SELECT seq FROM shadow_scores WHERE model_version = ? ORDER BY seq", (version,)
        ).fetchall()
    return [seq for (seq,) in found]


def pages(record):
    with sqlite3.connect(record.path) as reader:
        return reader.execute("PRAGMA page_count").fetchone()[0]


def test_the_newest_stay_in_a_file_that_grows_no_more(record):
    record.begin(progress("v2"))
    store(record, "v2", range(1, 2 * KEEP + 1), KEEP)
    settled = pages(record)
    store(record, "v2", range(2 * KEEP + 1, 8 * KEEP + 1), KEEP)
    assert held(record, "v2") == list(range(7 * KEEP + 1, 8 * KEEP + 1))
    assert pages(record) < 1.15 * settled
    assert record.prune(KEEP) == 0
    assert record.progress("v2").seq == 8 * KEEP


def test_much_that_is_too_much_goes_in_small_steps(record, monkeypatch):
    monkeypatch.setattr(shadow_scores, "_STEP", 400)
    record.begin(progress("v2"))
    store(record, "v2", range(1, 2001))
    steps = []
    while gone := record.prune(100):
        steps.append(gone)
    assert steps == [400, 400, 400, 400, 300]
    assert held(record, "v2") == list(range(1901, 2001))


def test_what_a_past_shadow_left_goes_first_even_when_its_journal_counted_further(record):
    record.begin(progress("v2"))
    store(record, "v2", range(90_001, 91_001), decided_at_us=5)
    record.begin(progress("v3"))
    store(record, "v3", range(1, 1001), 1_500, decided_at_us=6)
    assert (len(held(record, "v2")), len(held(record, "v3"))) == (500, 1000)
    store(record, "v3", range(1001, 2001), 1_500, decided_at_us=7)
    assert held(record, "v2") == []
    assert held(record, "v3") == list(range(501, 2001))


def test_another_process_counts_what_it_finds(record, tmp_path):
    record.begin(progress("v2"))
    store(record, "v2", range(1, 1001))
    record.close()
    again = ShadowRecord(tmp_path / "shadow.db")
    assert again.begin(progress("v2", 1000)).seq == 1000
    assert again.prune(950) == 50
    assert again.prune(950) == 0
    again.close()


def test_a_shadow_that_begins_anew_deletes_its_past_in_steps_and_no_one_elses(record, monkeypatch):
    monkeypatch.setattr(shadow_scores, "_STEP", 300)
    record.begin(progress("v2"))
    store(record, "v2", range(1, 1001))
    record.begin(progress("v3"))
    store(record, "v3", range(1, 101))
    fresh = progress("v2", 1000)._replace(bundle_sha256="1" * 64)
    assert record.begin(fresh) == fresh == record.progress("v2")
    assert (held(record, "v2"), len(held(record, "v3"))) == ([], 100)
    assert record.prune(60) == 40
