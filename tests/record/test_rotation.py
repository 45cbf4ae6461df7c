"""The log says since when a hash key follows another one, and that says until when that one is needed."""

import pytest

from sentinel.events.secrets import HashKey, Secrets
from sentinel.record.audit import audit_page
from sentinel.record.log import Kind
from sentinel.record.rotation import Rotation, note_rotation, rotation_in

FIRST, SECOND = (HashKey(number, b"k" * 32) for number in "12")
DAY_US = 86_400_000_000
AT_US = 1_735_689_600_000_000  # 2025-01-01


@pytest.fixture
def log(fake_log):
    return fake_log.FakeLog()


def test_it_is_noted_once_and_again_when_a_server_went_back(log):
    for secrets in (Secrets(), Secrets(FIRST)):
        note_rotation(log, secrets, 1)
        assert rotation_in(log) is None
    both = Secrets(SECOND, before=Secrets(FIRST))
    for now_us in (2, 3):
        note_rotation(log, both, now_us)
        assert rotation_in(log) == Rotation("2", "1", 2)
    note_rotation(log, Secrets(SECOND), 4)  # the former one was taken out
    assert rotation_in(log) == Rotation("2", "1", 2)
    note_rotation(log, Secrets(FIRST), 5)
    assert rotation_in(log) == Rotation("1", "", 5)
    note_rotation(log, both, 6)
    assert rotation_in(log) == Rotation("2", "1", 6)
    assert [record.kind for record in log.records] == [Kind.AUDIT, Kind.ROTATED] * 3
    assert [one.after for one in audit_page(log, 9).changes] == [f'{{"hash_key":"{key}"}}' for key in "212"]


@pytest.mark.parametrize(
    ("days", "given", "ok", "said"),
    [
        (1, "1", True, "features need the former one until 2025-01-11"),
        (1, None, False, "until 2025-01-11T00:00:00Z: give it again as SENTINEL_HASH_KEY_BEFORE_FILE"),
        (1, "3", False, "give it again"),
        (11, "1", True, "SENTINEL_HASH_KEY_BEFORE_FILE can be taken out"),
        (11, None, True, "features need the former one no more; what is older is found and erased by its number only"),
    ],
)
def test_it_says_until_when_the_former_key_is_needed(days, given, ok, said):
    found = Rotation("2", "1", AT_US).says(10 * DAY_US, 180 * DAY_US, given, AT_US + days * DAY_US)
    assert found[0] == ok
    assert said in found[1]
    assert "2 follows 1 since 2025-01-01T00:00:00Z" in found[1]


def test_look_ups_by_number_need_it_as_long_as_the_log_is_kept():
    rotation = Rotation("2", "1", AT_US)
    assert "with the former one, until 2025-06-30T00:00:00Z" in rotation.says(DAY_US, 180 * DAY_US, "1", AT_US)[1]
    assert "with the former one, for ever" in rotation.says(DAY_US, None, "1", AT_US)[1]
    assert Rotation("1", "", AT_US).says(DAY_US, None, None, AT_US) == (
        True, "1 since 2025-01-01T00:00:00Z, and none before it",
    )  # fmt: skip
