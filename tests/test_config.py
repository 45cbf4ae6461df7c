"""Settings: what is not set, which keys are refused, and when callers need one."""

import pytest

from sentinel.config import Settings, read_settings
from sentinel.errors import InvalidDefinition

EVERYWHERE = "0.0.0.0"  # noqa: S104 - that is what is tried
GOOD = "a-key-of-16-or-more"


def test_an_empty_variable_is_not_set():
    names = ("HOST", "PORT", "AUTH", "CORS_ORIGINS", "HOSTS", "TLS_KEY", "KEEP_LOG", "DEADLINE_MS")
    assert read_settings({}, dict.fromkeys([f"SENTINEL_{name}" for name in names], "")) == Settings()


@pytest.mark.parametrize("name", ["SENTINEL_ADMIN_KEY", "SENTINEL_KEY"])
@pytest.mark.parametrize(
    "key", ["", " ", "x" * 15, "a key of more than 16", "sechzehn-Zeichen-ä", "line\nbreak-of-16-more"]
)
def test_a_key_that_is_empty_or_short_is_refused_and_not_shown(name, key):
    with pytest.raises(InvalidDefinition, match=f"{name} must be 16 characters") as refused:
        read_settings({}, {name: key})
    assert len(key) < 4 or key not in str(refused.value)


def test_keys_are_needed_as_soon_as_the_host_is_not_loopback():
    for host, needed in (("127.0.0.1", False), ("localhost", False), ("::1", False), (EVERYWHERE, True), ("::", True),
                         ("10.0.0.7", True), ("fraud.example", True)):  # fmt: skip
        assert read_settings({"host": host}, {}).needs_keys == needed
    assert read_settings({}, {"SENTINEL_AUTH": "required"}).needs_keys


def test_other_hosts_cannot_do_without():
    assert not read_settings({}, {"SENTINEL_AUTH": "off"}).needs_keys
    with pytest.raises(InvalidDefinition, match="this machine only"):
        read_settings({"host": EVERYWHERE}, {"SENTINEL_AUTH": "off"})
    with pytest.raises(InvalidDefinition, match=r"\$\.auth"):
        read_settings({}, {"SENTINEL_AUTH": "no"})


def test_commands_send_their_own_key_before_that_of_the_admin():
    assert read_settings({}, {}).bearer is None
    assert read_settings({}, {"SENTINEL_ADMIN_KEY": GOOD}).bearer == GOOD
    assert read_settings({}, {"SENTINEL_ADMIN_KEY": GOOD, "SENTINEL_KEY": GOOD + "2"}).bearer == GOOD + "2"
