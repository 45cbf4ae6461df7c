"""What is personal can be read while the subject's key is there, and never again once it is destroyed."""

import stat
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.errors import StorageProblem
from sentinel.record.subjects import FILE, SubjectKeys

DAY_US = 86_400_000_000


@pytest.fixture
def subjects(tmp_path):
    keys = SubjectKeys(tmp_path)
    yield keys
    keys.close()


def test_what_is_sealed_can_be_opened_and_says_nothing(subjects, tmp_path):
    sealed = subjects.sealed("card_id=c", "email", "a@b.example")
    assert "a@b" not in sealed
    assert subjects.are_new
    subjects.sync(0)
    assert not subjects.are_new
    assert subjects.opened("card_id=c", "email", sealed) == "a@b.example"
    assert subjects.sealed("card_id=c", "email", "a@b.example") == sealed
    other = SubjectKeys(tmp_path)
    assert other.sealed("card_id=c", "email", "a@b.example") == sealed
    assert not other.are_new
    other.close()
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


def test_it_belongs_to_its_subject_and_field(subjects):
    sealed = subjects.sealed("card_id=c", "email", "a@b.example")
    assert subjects.sealed("card_id=d", "email", "a@b.example") != sealed
    assert subjects.sealed("card_id=c", "phone", "a@b.example") != sealed
    subjects.sync(0)
    assert subjects.opened("card_id=d", "email", sealed) is None
    assert subjects.opened("card_id=c", "phone", sealed) is None
    assert subjects.opened("card_id=nobody", "email", sealed) is None


def test_what_is_erased_is_gone_from_the_file_too(subjects, tmp_path):
    sealed = subjects.sealed("card_id=c", "email", "a@b.example")
    subjects.sealed("card_id=d", "email", "x")
    subjects.sync(0)
    key = subjects._writer.execute("SELECT key FROM subjects WHERE subject = 'card_id=c'").fetchone()[0]
    assert subjects.erase("card_id=c")
    assert not subjects.erase("card_id=c")
    subjects.purge()
    assert subjects.opened("card_id=c", "email", sealed) is None
    for path in tmp_path.iterdir():
        assert key not in path.read_bytes(), path
        assert key[:32] not in path.read_bytes(), path
    again = subjects.sealed("card_id=c", "email", "a@b.example")
    subjects.sync(0)
    assert again != sealed
    assert subjects.opened("card_id=c", "email", again) == "a@b.example"
    assert subjects.opened("card_id=c", "email", sealed) is None


def test_keys_that_were_not_synced_are_lost(subjects, tmp_path):
    subjects.sealed("card_id=c", "email", "x")
    subjects.close()
    assert not SubjectKeys(tmp_path).erase("card_id=c")


def test_a_key_that_nothing_was_stored_with_yet_hinders_no_erasure(subjects, tmp_path):
    """A transaction may have been refused after it was read, or wait."""
    subjects.sealed("card_id=kept", "email", "x")
    subjects.sync(0)
    sealed = subjects.sealed("card_id=new", "email", "x")
    assert subjects.erase("card_id=kept")
    subjects.sealed("card_id=later", "email", "x")
    subjects.purge()
    assert subjects.erase("card_id=new")
    subjects.sync(0)
    assert subjects.opened("card_id=new", "email", sealed) is None
    assert not SubjectKeys(tmp_path).erase("card_id=new")


def test_keys_are_forgotten_once_the_log_has_nothing_that_they_sealed(tmp_path):
    day = [100]
    subjects = SubjectKeys(tmp_path, lambda: day[0] * DAY_US)
    old, used = (subjects.sealed(f"card_id={name}", "email", name) for name in ("old", "used"))
    subjects.sync(0)
    day[0] = 150
    assert subjects.sealed("card_id=used", "email", "used") == used
    subjects.sync(pruned_us=101 * DAY_US)
    assert subjects.opened("card_id=old", "email", old) is None
    assert subjects.opened("card_id=used", "email", used) == "used"
    day[0] = 151
    assert subjects.sealed("card_id=old", "email", "old") != old
    subjects.close()


def test_without_a_file_there_is_nothing_to_open_and_a_fault_is_named(tmp_path):
    assert SubjectKeys(tmp_path).opened("card_id=c", "email", "x") is None
    (tmp_path / FILE).write_bytes(b"no database" * 1000)
    with pytest.raises(StorageProblem, match="keys of what is personal"):
        SubjectKeys(tmp_path).sealed("card_id=c", "email", "x")


def test_a_full_disk_loses_keys_and_says_so_until_the_file_is_opened_anew(subjects):
    subjects.sealed("card_id=kept", "email", "x")
    subjects.sync(0)
    pages = subjects._writer.execute("PRAGMA page_count").fetchone()[0]
    subjects._writer.execute(f"PRAGMA max_page_count={pages}")
    names = (f"card_id={n}" for n in range(10_000))
    deque((subjects.sealed(name, "email", "x") for name in names), maxlen=0)
    with pytest.raises(StorageProblem, match="full"):
        subjects.sync(0)
    assert subjects.are_new
    for _ in range(2):
        subjects.sealed("card_id=kept", "email", "x")
        with pytest.raises(StorageProblem, match="could not be stored"):
            subjects.sync(0)
    subjects.close()
    assert subjects.opened("card_id=kept", "email", subjects.sealed("card_id=kept", "email", "x")) == "x"
    assert not subjects.erase("card_id=1")


@given(st.text(max_size=256))
def test_any_text_comes_back(tmp_path_factory, text):
    subjects = SubjectKeys(tmp_path_factory.mktemp("any"))
    sealed = subjects.sealed("card_id=c", "email", text)
    subjects.sync(0)
    assert subjects.opened("card_id=c", "email", sealed) == text
    subjects.close()


def test_a_subject_is_known_by_its_other_names_as_long_as_its_key(tmp_path):
    day = [100]
    subjects = SubjectKeys(tmp_path, lambda: day[0] * DAY_US)
    subjects.sealed("card=s2", "email", "x", "card=s1")
    subjects.sealed("card=s3", "email", "x", "card=s2")
    subjects.sealed("card=other", "email", "x")
    subjects.sync(0)
    for name in ("card=s1", "card=s2", "card=s3"):
        assert sorted(subjects.names_of(name)) == ["card=s1", "card=s2", "card=s3"]
        subjects.erase(name)
    assert subjects.names_of("card=other") == ["card=other"]
    day[0] = 150
    subjects.sealed("card=s3", "email", "x", "card=s2")
    subjects.sync(pruned_us=101 * DAY_US)
    assert sorted(subjects.names_of("card=s3")) == ["card=s2", "card=s3"]
    subjects.close()


def test_the_file_is_made_before_the_first_subject_where_that_is_asked(subjects, tmp_path, monkeypatch):
    subjects.prepare()
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    monkeypatch.setattr("sqlite3.connect", None)  # the first transaction opens nothing any more
    assert subjects.sealed("card_id=c", "email", "a@b.example")
