"""`sentinel console`: where it may listen, and the first log-in, which is told once."""

import re
import shutil
import urllib.error
import urllib.request
from http.cookiejar import CookieJar
from urllib.parse import urlencode

import pytest

from sentinel.commands.demo_console import ConsoleProcess
from sentinel.commands.people import people_of
from sentinel.commands.server_process import free_port
from sentinel.config import read_settings
from sentinel.errors import InvalidDefinition
from sentinel.record.audit import By
from sentinel.transport.console.application import address_of

HOST = "127.0.0.1"
PASSWORD = "four words that last"  # noqa: S105 - of somebody who lives as long as this test


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


@pytest.fixture
def console(shop_home, tmp_path):
    """One whose server is away."""
    home = shutil.copytree(shop_home, tmp_path / "home")
    away = {"SENTINEL_SERVER_URL": f"http://{HOST}:{free_port(HOST)}"}
    made = ConsoleProcess(home, HOST, free_port(HOST), environment=away)
    yield made
    made.stop()
    assert "Traceback" not in (home / "console.log").read_text()


def test_the_first_start_tells_the_first_log_in_and_the_next_one_does_not(console):
    for times in (1, 2):
        console.start()
        console.stop()
        told = re.findall(r"first log-in: admin, password (\S+)", (console.home / "console.log").read_text())
        assert len(told) == 1, times
    people = people_of(read_settings({"home": console.home}, {}))
    assert people.has_password("admin", told[0])
    assert people.named("admin").must_change
    people.database.close()


def test_while_the_server_is_away_pages_say_so_and_what_is_stored_is_found(console):
    people = people_of(read_settings({"home": console.home}, {}))
    by = By("a test", "here", "it")
    people.add("ana", "admin", PASSWORD, by, 1, must_change=False)
    console.start()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))

    def ask(path, form=None):
        data = None if form is None else urlencode(form).encode()
        try:
            with opener.open(f"http://{HOST}:{console.port}{path}", data, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    assert ask("/login", {"name": "ana", "password": PASSWORD})[0] == 200
    for path in ("/decisions/p1", "/try", "/admin/audit"):
        status, body = ask(path)
        assert (status, "The server does not answer" in body, "sentinel serve" in body) == (503, True, True), path
    status, body = ask("/search?card=card-1")
    assert (status, "Nothing fits" in body) == (200, True)
    status, body = ask("/models")
    assert (status, "v1" in body, "does not answer" in body) == (200, True, True)
    assert people.n_not_audited() >= 4  # who was added, the log-in, the receipt, the search
    people.database.close()
