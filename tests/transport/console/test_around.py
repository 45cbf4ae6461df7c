"""The page around a key: what it shows equals the API, in every state, and it is harmless, audited and readable."""

import shutil
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest

from sentinel.commands.demo_console import ConsoleProcess
from sentinel.commands.people import people_of
from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.config import read_settings
from sentinel.review.surroundings import ROWS
from sentinel.transport.console.words import card
from tests.transport.console.conftest import BY, HOST, HOSTILE, PASSWORD, Site, until

LISBON, LAGOS = (38.7223, -9.1393), (6.5244, 3.3792)
NUMBER = "4111 1111 1111 1111"


def payment(n, minutes=0, place=LISBON, **more):
    at = datetime.now(UTC) - timedelta(hours=2) + timedelta(minutes=minutes)
    row = {
        "transaction_id": f"p{n}", "event_time": at.isoformat(), "amount": 10.5 + n, "card": "ana",
        "shop": "kiosk", "device": "phone", "channel": "web", "risk": 0.5,
    }  # fmt: skip
    return row | ({} if place is None else {"latitude": place[0], "longitude": place[1]}) | more


@pytest.fixture(scope="module")
def site(placed_home, tmp_path_factory):
    """Both processes, with payments of a card that was in two places, of those who share its phone, and of others."""
    home = tmp_path_factory.mktemp("site") / "home"
    shutil.copytree(placed_home, home)
    server = ServerProcess(home, HOST, free_port(HOST))
    own = {"SENTINEL_SERVER_URL": f"http://{HOST}:{server.port}", "SENTINEL_CONSOLE_URL": ""}
    console = ConsoleProcess(home, HOST, free_port(HOST), environment=own)
    made = Site(home, server, console)
    people = people_of(read_settings({"home": home}, {}))
    for role in ("viewer", "analyst", "admin"):
        people.add(role, role, PASSWORD, BY, 1, must_change=False)
    people.database.close()
    server.start()
    try:
        made.api("/v1/score", [payment(n, minutes=n) for n in range(5)])
        made.api("/v1/score", payment(5, minutes=14, place=LAGOS, shop="web", amount=3_000.25))
        made.api("/v1/score", [payment(n, minutes=n, card=f"other-{n}", shop="market") for n in range(6, 12)])
        made.api("/v1/score", payment(12, card=NUMBER, shop="web", device="tablet", place=None))
        made.api("/v1/score", payment(13, card=HOSTILE, shop="<img src=x>", device=None))
        busy = [payment(n, card="busy", device=f"d{n % 40}", shop="market") for n in range(20, 20 + ROWS + 7)]
        made.api("/v1/score", busy)
        for n, is_fraud in ((5, True), (7, True), (0, False)):
            made.api("/v1/outcomes", {"transaction_id": f"p{n}", "is_fraud": is_fraud})
        console.start()
        until(lambda: made.api("/health")["view"]["lag"] == 0)
        yield made
    finally:
        console.stop()
        server.stop()
    assert "Traceback" not in (home / "console.log").read_text()


def address(value, key="card", **more):
    return "/around?" + urlencode({"key": key, "value": value, **more})


def cells(page, selector):
    return [row.split("\t") for row in page.locator(selector).all_inner_texts()]


def test_it_shows_what_the_api_says(visit, site):
    told = site.api("/v1/entities/card/ana")
    analyst = visit("analyst")
    analyst.go(address("ana"))
    for one in analyst.page.locator("details:not([open]) summary").all():
        one.click()
    shown = cells(analyst.page, "main .panel:has(h2:text-is('Over time')) tbody tr")
    assert [row[1] for row in shown] == [one["transaction_id"] for one in told["decisions"]]
    assert [float(row[4].replace(",", "")) for row in shown] == [one["amount"] for one in told["decisions"]]
    assert [row[5].lower() for row in shown] == [one["decision"] for one in told["decisions"]]
    words = {None: "not known", True: "Fraud", False: "Legitimate"}
    assert [row[7] for row in shown] == [words[one["is_fraud"]] for one in told["decisions"]]
    linked = cells(analyst.page, "#linked tbody tr")
    assert [row[0].split() for row in linked] == [[one["key"], one["value"]] for one in told["linked"]]
    assert [int(row[2]) for row in linked] == [one["shared_by"] for one in told["linked"]]
    assert [int(row[4]) for row in linked] == [one["tally"]["frauds"] for one in told["linked"]]
    (journey,) = cells(analyst.page, "#journeys tbody tr")
    assert f"{told['journeys'][0]['km']:,.0f} km" in journey[2]
    assert "Impossible" in journey[2]
    near = analyst.page.locator(".ties ul:last-child li a").all_inner_texts()
    assert near == [card(one["value"]) for one in told["neighbours"]]
    assert "other-7" in near
    long_names = "all => all.forEach((one) => { one.textContent = 'n'.repeat(40) })"
    analyst.page.eval_on_selector_all(".ties .end", long_names)
    analyst.page.eval_on_selector(".ties", "it => { it.style.width = '560px' }")
    assert analyst.page.eval_on_selector(".ties", "it => it.scrollWidth <= it.clientWidth")
    widths = analyst.page.eval_on_selector_all(".ties ul:last-child .end", "all => all.map((one) => one.clientWidth)")
    assert min(widths) >= 80  # who shares these is cut short, and never to a letter
    said = analyst.text("header")
    assert "6 decisions" in said
    assert "1 fraud" in said
    assert "1 journey nobody can have made" in said


def test_every_decision_has_a_mark_that_opens_its_receipt(visit, site):
    analyst = visit("analyst")
    analyst.go(address("ana"))
    assert analyst.page.locator("svg.timeline a").count() == 6
    assert analyst.page.locator("svg.timeline .told").count() == 1
    assert analyst.page.locator("svg.map .way.impossible").count() == 1
    outline = analyst.page.locator("svg.map use").evaluate("one => one.getBBox().width")
    assert outline > 1_000  # the file with the outlines has come, and the policy lets it be drawn
    analyst.page.locator("svg.timeline a").last.click()
    analyst.page.wait_for_url("**/decisions/p5?*")
    analyst.page.click("text=around >> nth=0")
    analyst.page.wait_for_url("**/around?*")
    assert analyst.text("h1") == "ana"


def test_one_walks_on_without_a_mouse(visit, site):
    analyst = visit("analyst")
    analyst.go(address("phone", key="device"))
    rows = analyst.page.locator("#linked tbody tr").count()
    assert rows >= 3
    analyst.page.keyboard.press("j")
    first = analyst.page.locator("tr.goes[aria-selected=true] a").first
    first.wait_for(state="attached")
    where = first.get_attribute("href")
    analyst.page.keyboard.press("Enter")
    analyst.page.wait_for_url(f"**{where}")


def test_more_than_are_shown_and_a_time_without_any_are_said(visit, site):
    analyst = visit("analyst")
    analyst.go(address("busy"))
    assert f"The newest {ROWS} are shown" in analyst.text("main")
    assert "the newest 200 decisions" in analyst.text("header")
    assert "more, seen longer ago, are not shown" in analyst.text("main")
    analyst.go(address("nobody", over="7d"))
    assert "Nothing in this time" in analyst.text("main")
    analyst.page.click("text=All")
    analyst.page.wait_for_url("**over=all*")
    assert "Nothing is known of this card" in analyst.text("main")
    analyst.go(address("tablet", key="device"))
    assert "None of these says where it was" in analyst.text("main")


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("key=colour&value=red", 404, "card, shop, device"),
        ("", 404, "card, shop, device"),
        ("key=card&value=ana&over=ever", 422, "over=1h"),
        ("key=card&value=ana&colour=red", 422, "Expected a key"),
    ],
)
def test_what_cannot_be_looked_at_says_why(caller, query, status, said):
    one = caller()
    one.log_in("viewer")
    found, _, body = one.ask(f"/around?{query}")
    assert (found, said in body) == (status, True)


def test_a_card_number_is_found_never_shown_and_every_look_is_audited(caller, site):
    one = caller()
    one.log_in("viewer")
    status, _, body = one.ask(address(NUMBER))
    assert status == 200
    assert "/decisions/p12" in body
    assert "41111111" not in body.replace(" ", "").replace("+", "")

    def looks():
        found = site.api("/admin/audit?limit=500")["changes"]
        return [one for one in found if one["what"] == "console: look around" and one["who"].startswith("viewer")]

    until(lambda: any(one["asked"].startswith("card=") for one in looks()))
    assert "41111111" not in str(looks()).replace(" ", "").replace("+", "")


def test_hostile_names_are_texts(visit, site):
    analyst = visit("analyst")
    for path in (address(HOSTILE), address("<img src=x>", key="shop")):
        analyst.go(path)
        analyst.page.wait_for_selector("#linked tbody tr")
        assert analyst.page.title() != "taken"
        assert analyst.page.locator("main img, main script").count() == 0
    analyst.page.locator("#linked a", has_text="script").first.click()
    analyst.page.wait_for_selector("h1:has-text('script')")
    assert HOSTILE.replace("\u202e", "") in analyst.text("h1").replace("\u202e", "")


@pytest.mark.parametrize(
    ("scheme", "rules"),
    [
        ("light", ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"]),
        ("dark", {"type": "rule", "values": ["color-contrast"]}),
    ],
    ids=["light", "dark"],
)
def test_it_has_no_serious_fault_of_accessibility_and_does_not_scroll_sideways(visit, site, scheme, rules):
    viewer = visit("viewer", color_scheme=scheme)
    found = []
    for path in (address("ana"), address("busy"), address("nobody"), address(HOSTILE), "/design"):
        viewer.go(path)
        viewer.page.evaluate("() => document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        found += viewer.faults_of_page(rules)
    assert found == []
