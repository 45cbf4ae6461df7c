"""Settings: what is not set, which keys are refused, and when callers need one."""

import re
from pathlib import Path

import pytest

from sentinel.config import Settings, read_settings
from sentinel.environment import strangers_in
from sentinel.errors import InvalidDefinition

EVERYWHERE = "0.0.0.0"  # noqa: S104 - that is what is tried
GOOD = "a-key-of-16-or-more"


def test_an_empty_variable_is_not_set():
    names = ("HOST", "PORT", "CORS_ORIGINS", "HOSTS", "TLS_KEY", "KEEP_LOG", "DEADLINE_MS")
    assert read_settings({}, dict.fromkeys([f"SENTINEL_{name}" for name in names], "")) == Settings()


@pytest.mark.parametrize("blank", ["", " ", "\n", "\r\n", "\t "])
def test_a_variable_of_white_space_is_not_set_but_for_what_protects(blank):
    keys = (
        "auth", "admin_key", "key", "hash_key", "hash_key_before", "fronts_key", "fronts_key_also", "rules_need_two",
        "local_log_in", "trusted_keys_file",
    )  # fmt: skip
    others = [name for name in Settings.__struct_fields__ if name not in keys]
    assert read_settings({}, {f"SENTINEL_{name.upper()}": blank for name in others}) == Settings()
    for name in keys:
        with pytest.raises(InvalidDefinition, match=f"SENTINEL_{name.upper()} "):
            read_settings({}, {f"SENTINEL_{name.upper()}": blank})


@pytest.mark.parametrize("around", ["{}\n", "{}\r\n", " {} ", "\t{}"])
def test_white_space_around_a_value_does_not_count(around):
    """As a file read by a shell or kept by Windows has it."""
    given = {"ADMIN_KEY": GOOD, "KEY": GOOD, "HASH_KEY": "k" * 31 + "ab", "PORT": "81", "AUTH": "required", "HOME": "/a b",
             "FORCE_CIRCUIT_OPEN": "yes"}  # fmt: skip
    found = read_settings({}, {f"SENTINEL_{name}": around.format(value) for name, value in given.items()})
    assert found == read_settings({}, {f"SENTINEL_{name}": value for name, value in given.items()})
    assert (found.admin_key, found.key, found.hash_key, found.port) == (GOOD, GOOD, given["HASH_KEY"], 81)


@pytest.mark.parametrize(
    ("value", "is_open"),
    [("1", True), ("true", True), ("True", True), ("yes", True), ("YES", True), ("on", True), ("0", False), ("false", False),
     ("no", False), ("No", False), ("off", False), ("", False)],
)  # fmt: skip
def test_a_switch_is_read_in_the_usual_words(value, is_open):
    assert read_settings({}, {"SENTINEL_FORCE_CIRCUIT_OPEN": value}).force_circuit_open == is_open


@pytest.mark.parametrize("value", ["maybe", "2", "y", "enabled"])
def test_a_switch_in_other_words_is_refused(value):
    with pytest.raises(InvalidDefinition, match="force_circuit_open"):
        read_settings({}, {"SENTINEL_FORCE_CIRCUIT_OPEN": value})


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("SENTINEL_ARTIFACTS_DIR", "SENTINEL_HOME"), ("FRAUD_ARTIFACTS_DIR", "SENTINEL_HOME"),
        ("SENTINEL_SHADOW_ARTIFACTS_DIR", "/admin/shadow/start"),
    ],
)  # fmt: skip
def test_what_only_another_system_reads_is_refused_with_what_to_use(name, told):
    with pytest.raises(InvalidDefinition, match=f"{name} does nothing here.*{told}"):
        read_settings({}, {name: "./artifacts"})
    assert read_settings({}, {name: ""}) == Settings()


def test_what_the_other_systems_and_this_one_read_means_the_same():
    found = read_settings({}, {"SENTINEL_CIRCUIT_THRESHOLD_MS": "60", "SENTINEL_INJECT_LATENCY_MS": "0",
                               "SENTINEL_FORCE_CIRCUIT_OPEN": "TRUE"})  # fmt: skip
    assert (found.circuit_threshold_ms, found.inject_latency_ms, found.force_circuit_open) == (60.0, 0.0, True)


def test_a_service_of_kubernetes_that_is_called_sentinel_changes_nothing():
    links = {
        "SENTINEL_SERVICE_HOST": "10.0.0.7", "SENTINEL_SERVICE_PORT": "8000", "SENTINEL_SERVICE_PORT_HTTP": "8000",
        "SENTINEL_PORT": "tcp://10.0.0.7:8000", "SENTINEL_PORT_8000_TCP": "tcp://10.0.0.7:8000",
        "SENTINEL_PORT_8000_TCP_ADDR": "10.0.0.7", "SENTINEL_PORT_8000_TCP_PORT": "8000", "SENTINEL_PORT_8000_TCP_PROTO": "tcp",
    }  # fmt: skip
    assert read_settings({}, links) == Settings()
    assert strangers_in(links, Settings.__struct_fields__) == []


def test_a_variable_that_is_no_setting_is_told_with_what_may_be_meant():
    environment = {"SENTINEL_ADMN_KEY": "x", "SENTINEL_XYZZY": "1", "SENTINEL_HOME": "h", "PATH": "p", "SENTINELS": "s"}
    assert strangers_in(environment, Settings.__struct_fields__) == [
        "SENTINEL_ADMN_KEY is no setting; did you mean SENTINEL_ADMIN_KEY?",
        "SENTINEL_XYZZY is no setting",
    ]


EXAMPLE = Path(__file__).parents[1] / ".env.example"


def test_the_example_lists_every_setting_with_its_default():
    lines = re.findall(r"^# (SENTINEL_[A-Z_]+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE)
    assert sorted(name for name, _ in lines) == sorted(
        f"SENTINEL_{name.upper()}" for name in Settings.__struct_fields__
    )
    assert read_settings({}, {name: value for name, value in lines if value}) == Settings()
    shown = {name.removeprefix("SENTINEL_").lower(): value for name, value in lines}
    for name, default in zip(Settings.__struct_fields__, Settings.__struct_defaults__, strict=True):
        assert bool(shown[name]) == (default not in (None, ())), name


def test_the_example_sets_nothing_as_it_is():
    assert [line for line in EXAMPLE.read_text().splitlines() if line and not line.startswith("#")] == []


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


@pytest.mark.parametrize("name", ["AUTH", "RULES_NEED_TWO", "TRUSTED_KEYS_FILE"])
@pytest.mark.parametrize("empty", ["", " "])
def test_what_was_meant_to_protect_is_not_left_off_without_a_word(name, empty):
    with pytest.raises(InvalidDefinition, match=f"SENTINEL_{name} is empty"):
        read_settings({}, {f"SENTINEL_{name}": empty})
