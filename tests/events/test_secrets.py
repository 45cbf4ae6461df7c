"""What is secret is a keyed hash from the moment it is read; the key is the operator's, and always the same one."""

import stat

import pytest

from sentinel.config import Settings
from sentinel.errors import InvalidDefinition, InvalidInput
from sentinel.events.secrets import HashKey, Secrets, is_hidden, key_of, read_secrets

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
    read_secrets(tmp_path, GIVEN, None, "hash")
    with pytest.raises(InvalidDefinition, match="number the new one: 2:"):
        read_secrets(tmp_path, OTHER, None, "hash")
    read_secrets(tmp_path, f"2:{OTHER}", None, "hash")
    read_secrets(tmp_path, GIVEN, None, "hash")


def test_card_numbers_can_be_refused_or_allowed():
    with pytest.raises(InvalidInput, match="no card number") as error:
        Secrets(key_of(GIVEN), "refuse").scrubbed("4111111111111111", "$.note")
    assert error.value.path == "$.note"
    assert "4111" not in str(error.value)
    assert Secrets(None, "refuse").scrubbed("fine") == "fine"
    assert Secrets(None, "allow").scrubbed("4111111111111111") == "4111111111111111"
    with pytest.raises(InvalidDefinition, match="SENTINEL_HASH_KEY_FILE"):
        Secrets().scrubbed("4111111111111111")
