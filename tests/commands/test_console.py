"""`sentinel console`: where it may listen, and the first log-in, which is told once."""

import re
import shutil

import pytest

from sentinel.commands.demo_console import ConsoleProcess
from sentinel.commands.people import people_of
from sentinel.commands.server_process import free_port
from sentinel.config import read_settings
from sentinel.errors import InvalidDefinition
from sentinel.transport.console.application import address_of

HOST = "127.0.0.1"


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ({}, "http://127.0.0.1:8080"),
        ({"console_host": "::1", "console_port": 81}, "http://[::1]:81"),
        ({"console_url": "https://fraud.example/"}, "https://fraud.example"),
        ({"console_url": "http://localhost:9000"}, "http://localhost:9000"),
        ({"console_host": "10.0.0.7", "tls_certificate": "c.pem", "tls_key": "k.pem"}, "https://10.0.0.7:8080"),
    ],
)
def test_the_address_is_what_people_type(given, address):
    assert address_of(read_settings(given, {})) == address


@pytest.mark.parametrize(
    "given",
    [
        {"console_host": "0.0.0.0"}, {"console_host": "10.0.0.7"}, {"console_url": "http://fraud.example"},  # noqa: S104
        {"console_url": "https://fraud.example/console"}, {"console_url": "fraud.example"},
    ],
)  # fmt: skip
def test_passwords_do_not_travel_in_the_open(given):
    with pytest.raises(InvalidDefinition, match=r"in the open|SENTINEL_CONSOLE_URL: write"):
        address_of(read_settings(given, {}))


def test_the_first_start_tells_the_first_log_in_and_the_next_one_does_not(shop_home, tmp_path):
    home = shutil.copytree(shop_home, tmp_path / "home")
    away = {"SENTINEL_SERVER_URL": f"http://{HOST}:{free_port(HOST)}"}  # it starts without a server, too
    console = ConsoleProcess(home, HOST, free_port(HOST), environment=away)
    for times in (1, 2):
        console.start()
        console.stop()
        told = re.findall(r"first log-in: admin, password (\S+)", (home / "console.log").read_text())
        assert len(told) == 1, times
    people = people_of(read_settings({"home": home}, {}))
    assert people.has_password("admin", told[0])
    assert people.named("admin").must_change
    people.database.close()
