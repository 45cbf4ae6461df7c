"""The seal of a front: it goes with one message, one topic and the keys that are given, and with nothing else."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.commands.doctor import examine
from sentinel.config import Settings, read_settings
from sentinel.errors import BadBody, InvalidDefinition
from sentinel.transport.wide.seal import Seal

OLD, NEW = "0123456789abcdef" * 2, "fedcba9876543210" * 2
MESSAGE = b'{"given":{"decision":"block"},"transaction":{"amount":1}}'
SEALED = Seal([OLD], "t").sealed(MESSAGE)


@given(st.binary().map(lambda rest: b'{"given":{' + rest + b"}"))
def test_what_was_sealed_is_opened_as_it_was(message):
    assert Seal([OLD], "t").opened(Seal([OLD], "t").sealed(message)) == message


@given(st.integers(0, len(SEALED) - 1), st.integers(1, 255))
def test_any_byte_that_is_another_one_is_told(place, change):
    changed = bytearray(SEALED)
    changed[place] ^= change
    with pytest.raises(BadBody):
        Seal([OLD], "t").opened(bytes(changed))


@given(st.binary(max_size=300))
def test_what_anybody_makes_up_is_told(message):
    with pytest.raises(BadBody):
        Seal([OLD], "t").opened(message)


def test_the_seal_of_one_topic_is_none_in_another():
    with pytest.raises(BadBody, match="another key, topic or message"):
        Seal([OLD], "other-transactions").opened(Seal([OLD], "transactions").sealed(MESSAGE))


def test_a_key_is_changed_while_both_are_taken_at_every_step():
    """The steps of docs/wide.md: whatever seals at one step is opened by whoever is at the same one, or one beside it."""
    steps = [[OLD], [OLD, NEW], [NEW, OLD], [NEW]]
    for before, after in itertools.pairwise(steps):
        for sealing, opening in ((before, before), (before, after), (after, before), (after, after)):
            assert Seal(opening, "t").opened(Seal(sealing, "t").sealed(MESSAGE)) == MESSAGE
    with pytest.raises(BadBody):
        Seal([NEW], "t").opened(Seal([OLD], "t").sealed(MESSAGE))


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, "fronts need SENTINEL_FRONTS_KEY_FILE"),
        ({"SENTINEL_FRONTS_KEY": "short"}, "SENTINEL_FRONTS_KEY is too short or too simple"),
        ({"SENTINEL_FRONTS_KEY": "k" * 64}, "SENTINEL_FRONTS_KEY is too short or too simple"),
        ({"SENTINEL_FRONTS_KEY": OLD, "SENTINEL_FRONTS_KEY_ALSO": "short"}, "SENTINEL_FRONTS_KEY_ALSO is too short"),
        ({"SENTINEL_FRONTS_KEY_ALSO": OLD}, "fronts need SENTINEL_FRONTS_KEY_FILE"),
        ({"SENTINEL_FRONTS_KEY": OLD, "SENTINEL_FRONTS_KEY_ALSO": OLD}, "are the same"),
        ({"SENTINEL_FRONTS_KEY": OLD, "SENTINEL_FRONTS_KEY_FILE": "/there"}, "both given"),
        ({"SENTINEL_FRONTS_KEY_FILE": "/nowhere/key"}, "/nowhere/key cannot be read"),
    ],
)
def test_keys_that_will_not_do_are_refused_without_being_shown(environment, told):
    with pytest.raises(InvalidDefinition, match=told) as raised:
        read_settings({}, environment).fronts_keys()
    assert OLD not in str(raised.value)


def test_an_empty_key_is_none_and_is_told():
    with pytest.raises(InvalidDefinition, match="SENTINEL_FRONTS_KEY is empty"):
        read_settings({}, {"SENTINEL_FRONTS_KEY": ""})


def test_keys_come_from_files(tmp_path):
    (tmp_path / "new").write_text(NEW + "\n")
    (tmp_path / "old").write_text(OLD + "\n")
    given = Settings(fronts_key_file=tmp_path / "new", fronts_key_also_file=tmp_path / "old")
    assert given.fronts_keys() == (NEW, OLD)


@pytest.mark.parametrize(
    ("given", "ok", "warns", "told"),
    [
        ({}, True, False, "none are taken"),
        ({"fronts": True}, False, False, "fronts need SENTINEL_FRONTS_KEY_FILE"),
        ({"profiles": "redis"}, False, False, "fronts need SENTINEL_FRONTS_KEY_FILE"),
        ({"fronts": True, "fronts_key": OLD}, True, False, "known by one key"),
        ({"fronts": True, "fronts_key": NEW, "fronts_key_also": OLD}, True, True, "two keys are taken"),
    ],
)
def test_the_doctor_says_whether_answers_can_be_told_from_made_up_ones(tmp_path, given, ok, warns, told):
    [found] = [one for one in examine(Settings(home=tmp_path, **given)) if one.what == "fronts"]
    assert (found.ok, found.warns) == (ok, warns)
    assert told in found.found
