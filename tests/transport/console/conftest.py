"""A server with decisions of several kinds, its console, people of every role, and one browser for all tests."""

import json
import os
import shutil
import time
import urllib.error
import urllib.request
from contextlib import suppress
from datetime import UTC, datetime
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

from sentinel.commands.demo_console import ConsoleProcess
from sentinel.commands.people import people_of
from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.config import read_settings
from sentinel.record.audit import By

HOST = "127.0.0.1"
PASSWORD = "four words that last"  # noqa: S105 - of people who live as long as this test
BY = By("the test", "here", "a test")
PATIENCE_S = 60.0
CHROMIUM = "/usr/bin/chromium"


class Site(NamedTuple):
    """A server, its console, and what was decided there."""

    home: Path
    server: ServerProcess
    console: ConsoleProcess

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.console.port}"

    def api(self, path: str, body: Any = None) -> Any:
        """What the server itself says."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"} if data else {}
        asked = urllib.request.Request(f"http://{HOST}:{self.server.port}{path}", data, headers)
        with urllib.request.urlopen(asked, timeout=PATIENCE_S) as answer:
            return json.load(answer)


def payment(n, **more):
    """A transaction of the small detector, now."""
    row = {
        "transaction_id": f"p{n}",
        "event_time": datetime.now(UTC).isoformat(),
        "amount": 10.5 + n,
        "card": f"card-{n % 7}",
        "shop": f"shop-{n % 5}",
        "channel": "web",
        "risk": 0.5,
    }
    return row | more


HOSTILE = "<script>document.title='taken'</script>\u202e\"'/../%2e%2e"
HOSTILE_NOTE = "<img src=x onerror=\"document.title='taken'\"> " + "n" * 200


@pytest.fixture(scope="module")
def server_settings():
    """What is set for the server; a module that needs more says so."""
    return {}


@pytest.fixture(scope="module")
def site(two_models_home, tmp_path_factory, server_settings):
    """Both processes, with 60 decisions, three outcomes and people of every role."""
    home = tmp_path_factory.mktemp("site") / "home"
    shutil.copytree(two_models_home, home)
    server = ServerProcess(home, HOST, free_port(HOST), environment=server_settings)
    own = {"SENTINEL_SERVER_URL": f"http://{HOST}:{server.port}", "SENTINEL_CONSOLE_URL": ""}
    console = ConsoleProcess(home, HOST, free_port(HOST), environment=own)
    made = Site(home, server, console)
    people = people_of(read_settings({"home": home}, {}))
    for role in ("viewer", "analyst", "operator", "admin"):
        people.add(role, role, PASSWORD, BY, 1, must_change=False)
    people.database.close()
    server.start()
    try:
        made.api("/v1/score", [payment(n) for n in range(40)])
        made.api("/v1/score", [payment(n, amount=3_000.25 + n, shop="shop-3") for n in range(40, 60)])
        made.api("/v1/score", payment(60, transaction_id=HOSTILE, amount=4_321.0, shop="shop-3"))
        made.api("/v1/score", payment(61, card="4111 1111 1111 1111", amount=4_322.0, shop="shop-3"))
        for n, is_fraud in ((40, True), (41, False)):
            made.api("/v1/outcomes", {"transaction_id": f"p{n}", "is_fraud": is_fraud})
        made.api("/v1/outcomes", {"transaction_id": HOSTILE, "is_fraud": True, "reason": HOSTILE_NOTE})
        console.start()
        until(lambda: made.api("/health")["view"]["lag"] == 0)
        yield made
    finally:
        console.stop()
        server.stop()
    assert "Traceback" not in (home / "console.log").read_text()


def until(holds):
    """Wait until something is so."""
    end = time.monotonic() + PATIENCE_S
    while True:
        with suppress(OSError):
            if holds():
                return
        assert time.monotonic() < end, "it has not become so"
        time.sleep(0.05)


@pytest.fixture(
    scope="module"
)  # until it is closed there is an event loop that runs, and tests beside these begin their own
def chromium():
    """One browser for a file. Where it is missing its tests are skipped, or fail where SENTINEL_TEST_REQUIRE names `browser`."""
    required = os.environ.get("SENTINEL_TEST_REQUIRE", "").replace(",", " ").split()
    if not Path(CHROMIUM).exists():
        missing = f"there is no {CHROMIUM} here; apt-get install chromium, or SENTINEL_TEST_REQUIRE=browser fails"
        pytest.fail(missing) if "browser" in required else pytest.skip(missing)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visitor:
    """Somebody with a browser of their own, logged in. What its scripts complain of fails the test."""

    def __init__(self, context, url):
        self.context, self.url = context, url
        self.page = context.new_page()
        self.page.set_default_timeout(PATIENCE_S * 1000)
        self.faults = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", self._said)
        self.page.on("dialog", lambda dialog: dialog.accept())

    def _said(self, message):
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.faults.append(message.text)

    def go(self, path):
        return self.page.goto(self.url + path)

    def log_in(self, name, password=PASSWORD):
        self.go("/login")
        self.page.fill("[name=name]", name)
        self.page.fill("[name=password]", password)
        self.page.click("button[type=submit]")

    def text(self, selector):
        return self.page.locator(selector).inner_text()

    def faults_of_page(self, rules, **options):
        """How much wider than the window it is at 1280 and at 820 pixels, and what axe calls serious, by its rules."""
        found, path = [], self.page.url.removeprefix(self.url)
        for width in (1280, 820):
            self.page.set_viewport_size({"width": width, "height": 900})
            wide = self.page.evaluate(
                "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            if wide > 0:
                found.append((path, width, f"{wide} pixels too wide"))
        report = Axe().run(self.page, options={"runOnly": rules, "resultTypes": ["violations"], **options}).response
        serious = [one for one in report["violations"] if one["impact"] in ("serious", "critical")]
        return found + [(path, one["id"], one["nodes"][0]["html"][:160]) for one in serious]


@pytest.fixture
def visit(chromium, site):
    """Visitors of the console, by name."""
    visitors = []

    def come(name=None, **how):
        context = chromium.new_context(viewport={"width": 1280, "height": 900}, locale="en-GB", **how)
        visitor = Visitor(context, site.url)
        visitors.append(visitor)
        if name is not None:
            visitor.log_in(name)
            visitor.page.wait_for_url(site.url + "/")
        return visitor

    yield come
    for visitor in visitors:
        assert visitor.faults == []
        visitor.context.close()


class Caller:
    """Somebody who speaks HTTP without a browser, with the cookies that a browser would have."""

    def __init__(self, url):
        self.url = url
        self.cookies = CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies), _Stay())

    def ask(self, path, form=None, headers=None):
        data = None if form is None else urlencode(form).encode()
        asked = urllib.request.Request(self.url + path, data, headers or {})
        try:
            with self._opener.open(asked, timeout=PATIENCE_S) as answer:
                return answer.status, _lower(answer.headers), answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _lower(error.headers), error.read().decode()

    def log_in(self, name, password=PASSWORD):
        return self.ask("/login", {"name": name, "password": password})

    def csrf(self):
        page = self.ask("/password")[2]
        return page.split('name="csrf-token" content="')[1].split('"')[0]


def _lower(headers):
    return {name.lower(): value for name, value in headers.items()}


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


@pytest.fixture
def caller(site):
    return lambda: Caller(site.url)
