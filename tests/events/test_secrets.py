"""What is secret is a keyed hash from the moment it is read; the key is the operator's, and always the same one."""

import os
import stat

import pytest

from sentinel.config import Settings
from sentinel.errors import InvalidDefinition, InvalidInput, StorageProblem
from sentinel.events.secrets import KEY_FILE, HashKey, Secrets, is_hidden, key_of

GIVEN = "Zr8Qm1pX0vK5tB7nC3yL9wE2sD4fG6hJ"
OTHER = "aQ1wE2rT3yU4iO5pL6kJ7hG8fD9sZ0xC"


def test_a_hash_names_its_key_and_tells_nothing_else():
    one, other = key_of(GIVEN), key_of(f"2:{OTHER}")
    assert one.hash("4111111111111111").startswith("s1_")
    assert other.hash("4111111111111111").startswith("s2_")
    assert one.hash("a") != one.hash("b") != key_of(OTHER).hash("b")
    assert is_hidden(one.hash("a"))
    assert not is_hidden("s1_short")
    assert GIVEN not in repr(vars(Secrets(one)))


def test_a_card_number_is_the_same_however_it_is_written_and_a_hash_stays():
    secrets = Secrets(key_of(GIVEN))
    hidden = secrets.hidden("4111111111111111")
    assert secrets.hidden("4111-1111 1111 1111") == hidden
    assert secrets.hidden(hidden) == hidden
    assert secrets.hidden("41-7") != secrets.hidden("417")
    assert secrets.scrubbed("card 4111 1111 1111 1111!") == f"card {hidden}!"


@pytest.mark.parametrize("text", ["", "  ", "short", "a" * 64, "2:", "2:short", "x" * 31])
def test_a_short_or_simple_key_is_refused_and_not_shown(text):
    with pytest.raises(InvalidDefinition, match="32 random characters") as error:
        key_of(text)
    assert not text.strip() or text.strip() not in str(error.value).replace("too short", "")


def test_the_key_comes_from_a_setting_or_a_file(tmp_path):
    file = tmp_path / "key"
    file.write_text(f"3:{GIVEN}\n")
    of_file = Settings(home=tmp_path / "a", hash_key_file=file).secrets()
    of_setting = Settings(home=tmp_path / "a", hash_key=f"3:{GIVEN}").secrets()
    assert of_file.has_given_key
    assert of_file.hidden("x") == of_setting.hidden("x") == HashKey("3", GIVEN.encode()).hash("x")
    with pytest.raises(InvalidDefinition, match="both given"):
        Settings(home=tmp_path / "a", hash_key=GIVEN, hash_key_file=file).secrets()
    with pytest.raises(InvalidDefinition, match="cannot be read"):
        Settings(home=tmp_path / "a", hash_key_file=tmp_path / "away").secrets()


def test_without_a_key_one_is_made_that_only_the_owner_can_read(tmp_path):
    home = tmp_path / "home"
    made = Settings(home=home).secrets()
    assert not made.has_given_key
    assert made.scrubbed("nothing to hide") == "nothing to hide"
    assert not home.exists()
    assert made.scrubbed("4111111111111111").startswith("s0_")
    assert Settings(home=home).secrets().hidden("x") == made.hidden("x")
    assert not made.has_given_key
    assert Settings(home=tmp_path / "other").secrets().hidden("x") != made.hidden("x")
    assert {stat.S_IMODE(path.stat().st_mode) for path in home.iterdir()} == {0o600}
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_another_key_with_the_same_number_is_refused(tmp_path):
    Settings(home=tmp_path, hash_key=GIVEN).secrets()
    for wrong in ({"hash_key": OTHER}, {"hash_key": f"2:{GIVEN}", "hash_key_before": OTHER}):
        with pytest.raises(InvalidDefinition, match="number the new one: 2:"):
            Settings(home=tmp_path, **wrong).secrets()
    Settings(home=tmp_path, hash_key=f"2:{OTHER}").secrets()
    Settings(home=tmp_path, hash_key=GIVEN).secrets()


def test_a_key_that_follows_another_one_hides_anew_and_the_other_one_is_still_known(tmp_path):
    (tmp_path / "before").write_text(GIVEN)
    after = {"home": tmp_path, "hash_key": f"2:{OTHER}"}
    secrets = Settings(**after, hash_key_before_file=tmp_path / "before").secrets()
    assert secrets.hidden("a") == key_of(f"2:{OTHER}").hash("a")
    assert secrets.before.hidden("a") == key_of(GIVEN).hash("a")
    assert Settings(**after).secrets().before is None
    with pytest.raises(InvalidDefinition, match="hash_key_before is given without hash_key"):
        Settings(home=tmp_path, hash_key_before=GIVEN).secrets()
    with pytest.raises(InvalidDefinition, match="the same number, 2; number the new one: 3:"):
        Settings(**after, hash_key_before=f"2:{OTHER}").secrets()
    with pytest.raises(InvalidDefinition, match="hash_key_before and hash_key_before_file are both given"):
        Settings(**after, hash_key_before=GIVEN, hash_key_before_file=tmp_path / "before").secrets()


def lose(path):
    path.unlink()


def exchange(path):
    path.write_bytes(b"B" * 32)


def cut(path):
    path.write_bytes(path.read_bytes()[:31])


def make_pipe(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lose, "is gone"),
        (exchange, "not the one"),
        (cut, "not as it was written"),
        (make_pipe, "not as it was written"),
    ],
)
def test_a_key_that_was_made_and_is_another_now_is_told_at_once(tmp_path, harm, said):
    before = Settings(home=tmp_path).secrets().scrubbed("4111111111111111")
    path = tmp_path / "hash.key"
    kept = path.read_bytes()
    harm(path)
    with pytest.raises((InvalidDefinition, StorageProblem), match=said) as error:
        Settings(home=tmp_path).secrets()
    assert str(tmp_path) not in str(error.value)
    path.unlink(missing_ok=True)
    path.write_bytes(kept)
    assert Settings(home=tmp_path).secrets().scrubbed("4111111111111111") == before
    lose(path)
    (tmp_path / "hash-keys.json").write_text("{}")
    assert Settings(home=tmp_path).secrets().scrubbed("4111111111111111") != before


def test_a_key_that_was_given_and_is_not_given_any_more_is_missed(tmp_path):
    Settings(home=tmp_path, hash_key=f"3:{GIVEN}").secrets()
    with pytest.raises(InvalidDefinition, match=r"used with the hash key 3, and none is given now.*hash-keys\.json"):
        Settings(home=tmp_path).secrets()
    Settings(home=tmp_path, hash_key=f"4:{OTHER}").secrets()


def test_card_numbers_can_be_refused_or_allowed():
    with pytest.raises(InvalidInput, match="no card number") as error:
        Secrets(key_of(GIVEN), "refuse").scrubbed("4111111111111111", "$.note")
    assert error.value.path == "$.note"
    assert "4111" not in str(error.value)
    assert Secrets(None, "refuse").scrubbed("fine") == "fine"
    assert Secrets(None, "allow").scrubbed("4111111111111111") == "4111111111111111"
    with pytest.raises(InvalidDefinition, match="SENTINEL_HASH_KEY_FILE"):
        Secrets().scrubbed("4111111111111111")


def test_a_key_that_cannot_be_made_is_a_fault_of_the_disk(tmp_path):
    """It is made within a request, which is 503 then, and may be sent again."""
    (tmp_path / "home").touch()
    secrets = Settings(home=tmp_path / "home").secrets()
    with pytest.raises(StorageProblem, match=r"hash\.key of the home folder cannot be written or read"):
        secrets.scrubbed("card 4111111111111111")
    (tmp_path / "home").unlink()
    assert "s0_" in secrets.scrubbed("card 4111111111111111")


def test_a_key_that_was_damaged_is_told_before_anyone_asks(tmp_path):
    (tmp_path / KEY_FILE).write_bytes(b"short")
    with pytest.raises(StorageProblem, match="put it back from a copy"):
        Settings(home=tmp_path).secrets()
