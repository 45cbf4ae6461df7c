"""Logging in by a real provider, in a browser: there, back, in, out again there, and with its keys changed."""

import json
import subprocess
import sys
import urllib.request

import pytest

from sentinel.commands.demo_console import ConsoleProcess
from sentinel.commands.people import people_of
from sentinel.commands.server_process import free_port
from sentinel.config import read_settings
from tests.transport.console.conftest import BY, HOST, PASSWORD, PATIENCE_S, Visitor, until


class ProviderProcess:
    """oidc-provider-mock as a process; each start has new keys, and knows nobody."""

    def __init__(self):
        self.port = free_port(HOST)
        self.issuer = f"http://{HOST}:{self.port}"
        self._process = None

    def start(self):
        command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: urllib.request.urlopen(f"{self.issuer}/jwks", timeout=5).read())
        self.set_person("ana", email="ana@bank.example", groups=["fraud-team"])
        self.set_person("ben", email="ben@bank.example", groups=["canteen"])

    def set_person(self, subject, **claims):
        asked = urllib.request.Request(
            f"{self.issuer}/users/{subject}",
            json.dumps(claims).encode(),
            {"content-type": "application/json"},
            method="PUT",
        )
        urllib.request.urlopen(asked, timeout=PATIENCE_S).close()

    def stop(self):
        self._process.terminate()
        self._process.wait()


@pytest.fixture(scope="module")
def provider():
    made = ProviderProcess()
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def own(provider):
    """The settings of a console that has no server, and takes both ways in."""
    return {
        "SENTINEL_SERVER_URL": f"http://{HOST}:9", "SENTINEL_CONSOLE_URL": "", "SENTINEL_OIDC_ISSUER": provider.issuer,
        "SENTINEL_OIDC_CLIENT_ID": "sentinel", "SENTINEL_OIDC_CLIENT_SECRET": "a secret of it",
        "SENTINEL_OIDC_ROLES": "fraud-team:analyst, fraud-admins:admin",
    }  # fmt: skip


@pytest.fixture(scope="module")
def console(tmp_path_factory, own):
    home = tmp_path_factory.mktemp("provided") / "home"
    home.mkdir()
    made = ConsoleProcess(home, HOST, free_port(HOST), environment=own)
    people = people_of(read_settings({"home": home}, {}))
    people.add("root", "admin", PASSWORD, BY, 1, must_change=False)
    people.database.close()
    made.start()
    yield made
    made.stop()
    assert "Traceback" not in (home / "console.log").read_text()


@pytest.fixture
def visitor(chromium, console):
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, locale="en-GB")
    made = Visitor(context, f"http://{HOST}:{console.port}")
    yield made
    assert made.faults == []
    context.close()


def log_in(visitor, subject, path="/login"):
    visitor.go(path)
    visitor.page.click("text=your company's account")
    visitor.page.fill("input[name=sub]", subject)
    visitor.page.locator("input[name=sub]").press("Enter")


def test_a_log_in_by_the_provider_leads_to_where_one_wanted_to_go_and_out_again_there(visitor, provider):
    log_in(visitor, "ana", "/design")
    visitor.page.wait_for_url(visitor.url + "/design")
    assert "ana@bank.example" in visitor.text(".who")
    assert "analyst" in visitor.text(".who")
    visitor.go("/password")
    visitor.page.click("text=Log out")
    visitor.page.wait_for_url(provider.issuer + "/oauth2/end_session?**")
    visitor.go("/design")
    visitor.page.wait_for_url("**/login?next=/design")


def test_who_has_no_role_is_told_so_and_gets_nowhere(visitor):
    log_in(visitor, "ben")
    visitor.page.wait_for_selector("text=no role here")
    visitor.go("/design")
    visitor.page.wait_for_url("**/login?**")


def test_the_role_is_that_of_the_next_log_in_also_after_the_provider_has_changed_its_keys(visitor, provider):
    provider.stop()
    provider.start()
    provider.set_person("ana", email="ana@bank.example", groups=["fraud-admins"])
    log_in(visitor, "ana", "/design")
    visitor.page.wait_for_url(visitor.url + "/design")
    assert "admin" in visitor.text(".who")


def test_a_link_to_the_way_back_that_somebody_else_made_lets_nobody_in(visitor):
    visitor.go("/login/provider/back?code=stolen&state=made-up")
    visitor.page.wait_for_selector("text=begun elsewhere")
    visitor.go("/login/provider/back?error=access_denied&state=made-up")
    visitor.page.wait_for_selector("[role=alert]")


def test_passwords_can_be_switched_off(console, chromium, own):
    off = own | {"SENTINEL_LOCAL_LOG_IN": "off"}
    other = ConsoleProcess(console.home, HOST, free_port(HOST), environment=off)
    other.start()
    try:
        context = chromium.new_context()
        visitor = Visitor(context, f"http://{HOST}:{other.port}")
        visitor.go("/login")
        assert visitor.page.locator("[name=password]").count() == 0
        body = b"name=root&password=" + PASSWORD.replace(" ", "+").encode()
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(visitor.url + "/login", body), timeout=PATIENCE_S)
        with refused.value as answer:
            assert (answer.code, b"by the provider" in answer.read()) == (403, True)
        log_in(visitor, "ana", "/design")
        visitor.page.wait_for_url(visitor.url + "/design")
        context.close()
    finally:
        other.stop()
