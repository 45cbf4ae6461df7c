"""Cases in a browser: what they show equals the API, three are decided without a mouse, and nothing written does harm."""

from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.transport.console.conftest import payment, until

HOSTILE = "<img src=x onerror=\"document.title='taken'\"> \u202egnp.exe 4111 1111 1111 1111\n" + "n" * 9_800


@pytest.fixture(scope="module")
def server_settings():
    return {"SENTINEL_CASES": "on", "SENTINEL_CASE_DEADLINES": "high:1h:1000,normal:8h:100,low:3d"}


@pytest.fixture(scope="module")
def office(site):
    """The site, where a rule asks for a look at whatever is sent."""
    book = {"rules": [{"name": "watch all", "when": "amount > 0", "do": "tag", "reason": "to look at"}]}
    site.api("/v1/rules/apply", {"draft": site.api("/v1/rules/drafts", {"book": book})["draft"]})
    return site


def opened(site, *payments):
    """The cases of payments that are sent now."""
    site.api("/v1/score", list(payments))
    return [case_about(site, one["transaction_id"]) for one in payments]


def case_about(site, name):
    address = f"/v1/cases?state=work&transaction_id={quote(name)}"
    until(lambda: site.api(address)["cases"])
    return site.api(address)["cases"][0]


def press(page, key):
    """Press a key once the page hears it: htmx makes its buttons work a moment after the page is loaded."""
    page.wait_for_load_state("load")
    page.wait_for_selector(f"[data-hotkey={key}][data-htmx-powered], [data-focus-key={key}]")
    page.keyboard.press(key)


def rows_of(page, selector="main table >> nth=0"):
    return [row.split("\t") for row in page.locator(f"{selector} >> tbody tr").all_inner_texts()]


def test_the_queue_is_that_of_the_api(visit, office):
    opened(office, *(payment(n, transaction_id=f"q{n}", card=f"queue-{n}", amount=1_000.5 + n) for n in range(5)))
    analyst = visit("analyst")
    analyst.go("/cases")
    found = office.api("/v1/cases?limit=50")
    shown = rows_of(analyst.page)
    assert [row[0].split()[0] for row in shown] == [str(one["case"]) for one in found["cases"]]
    assert [row[4].replace(",", "") for row in shown] == [one["expected_loss"] for one in found["cases"]]
    figures = office.api("/v1/cases/figures")
    assert f"{figures['waiting'] + figures['in_hand']} to do" in analyst.text("header")
    assert analyst.text(".figure .value >> nth=0").replace(",", "") == figures["expected_loss"]
    opened(office, payment(9, transaction_id="q9", card="queue-9"))
    to_do = figures["waiting"] + figures["in_hand"] + 1
    analyst.page.locator("#count", has_text=f"{to_do} to do").wait_for()  # it counts by itself


def test_three_cases_are_decided_without_a_mouse(visit, office):
    opened(office, *(payment(n, transaction_id=f"k{n}", card=f"keys-{n}", amount=90_000.0 + n) for n in range(3)))
    analyst = visit("analyst")
    page = analyst.page
    analyst.go("/cases")
    press(page, "t")
    done = []
    for key, outcome in (("f", "fraud"), ("l", "legitimate"), ("u", "undecided")):
        page.wait_for_selector("header button[data-hotkey=f]")
        number = int(page.url.rsplit("/", 1)[1])
        press(page, key)
        page.wait_for_selector(f"header .tag:has-text('{outcome.capitalize()}')")
        case = office.api(f"/v1/cases/{number}")
        assert (case["state"], case["outcome"], case["decided_by"]) == ("decided", outcome, "analyst")
        told = office.api(f"/v1/decisions/{case['transactions'][0]['transaction_id']}")["outcomes"]
        assert [one["is_fraud"] for one in told] == {"fraud": [True], "legitimate": [False], "undecided": []}[outcome]
        done.append(number)
        press(page, "j")
        page.wait_for_url(lambda url, number=number: not url.endswith(f"/cases/{number}"))
    assert len(set(done)) == 3


def test_a_decision_is_undone_with_one_key(visit, office):
    (case,) = opened(office, payment(20, transaction_id="z1", card="undo-1"))
    analyst = visit("analyst")
    analyst.go(f"/cases/{case['case']}")
    press(analyst.page, "f")
    analyst.page.wait_for_selector("#told button[data-hotkey=z], header button[data-hotkey=o]")
    undo = "z" if analyst.page.locator("#told button[data-hotkey=z]").count() else "o"  # a busy machine may be past it
    press(analyst.page, undo)
    analyst.page.wait_for_selector("header .tag:has-text('reopened')")
    assert office.api(f"/v1/cases/{case['case']}")["outcome"] is None
    (told,) = office.api("/v1/decisions/z1")["outcomes"]
    assert told["revoked"] is not None


def test_a_case_shows_why_and_who_is_second_is_told_who_was_first(visit, office):
    (case,) = opened(office, payment(30, transaction_id="s1", card="second-1", amount=3_500.25, shop="shop-3"))
    address = f"/cases/{case['case']}"
    one, other = visit("analyst"), visit("operator")
    one.go(address)
    other.go(address)
    press(other.page, "t")
    other.page.wait_for_selector("header .tag:has-text('operator')")
    press(one.page, "f")
    one.page.wait_for_selector("#told [role=alert]")
    assert "taken by 'operator'" in one.text("#told")
    one.page.reload()
    assert "operator has this case" in one.text("main")
    assert one.page.locator("header button[data-hotkey=f]").count() == 0
    stored = office.api("/v1/decisions/s1")
    assert len(rows_of(one.page)) == len(stored["why"]["reasons"])
    assert "3,500.25" in one.text("header")
    assert "rule watch all" in one.text("main")


def test_whatever_is_written_does_no_harm(visit, office):
    (case,) = opened(office, payment(40, transaction_id="<b>h</b>\u202e", card="<i>hostile</i>"))
    analyst = visit("analyst")
    page = analyst.page
    analyst.go(f"/cases/{case['case']}")
    press(page, "n")
    page.keyboard.insert_text(HOSTILE)
    page.click("button:has-text('Write down')")
    page.wait_for_selector("#notes .said")
    assert "<img src=x" in analyst.text("#notes .said")
    assert "41111111" not in page.content().replace(" ", "").replace("-", "")
    assert "taken" not in page.title()
    assert page.locator("main img, main i, main b").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    page.click("text=Attach one")
    page.fill("[name=address]", "https://wiki.example/7")
    page.fill("[name=title]", "<u>the shop</u>")
    page.click("button:has-text('Attach')")
    link = page.wait_for_selector("a:has-text('the shop')")
    assert (link.get_attribute("href"), link.get_attribute("rel")) == ("https://wiki.example/7", "noreferrer noopener")


def test_a_session_that_ends_in_the_middle_decides_nothing(visit, office):
    (case,) = opened(office, payment(50, transaction_id="e1", card="ends-1"))
    analyst = visit("analyst")
    analyst.go(f"/cases/{case['case']}")
    analyst.page.wait_for_load_state("networkidle")  # what the page asks for by itself is answered
    analyst.context.clear_cookies()
    press(analyst.page, "f")
    analyst.page.wait_for_url(lambda url: "/login?next=" in url)
    assert office.api(f"/v1/cases/{case['case']}")["state"] == "open"
    analyst.page.fill("[name=name]", "analyst")
    analyst.page.fill("[name=password]", "four words that last")
    analyst.page.click("button[type=submit]")
    analyst.page.wait_for_url(f"**/cases/{case['case']}")


def test_a_viewer_looks_and_does_nothing(visit, caller, office):
    (case,) = opened(office, payment(60, transaction_id="v1", card="viewed-1"))
    viewer = visit("viewer")
    viewer.go(f"/cases/{case['case']}")
    assert viewer.page.locator("header button, main form").count() == 0
    one = caller()
    one.log_in("viewer")
    token = {"x-csrf-token": one.csrf()}
    status, _, body = one.ask(f"/cases/{case['case']}/take", {"version": case["version"]}, token)
    assert (status, "needs the right" in body) == (403, True)
    assert office.api(f"/v1/cases/{case['case']}")["holder"] is None


@pytest.mark.parametrize(("path", "status"), [
    ("/cases/999999", 404), ("/cases/x", 422), ("/cases?state=lost", 422), ("/cases?cursor=zz", 422), ("/cases?holder=nobody", 200),
])  # fmt: skip
def test_what_is_not_there_is_said(caller, office, path, status):
    one = caller()
    one.log_in("analyst")
    got, _, body = one.ask(path)
    assert got == status
    assert ("Nothing fits" in body) == (status == 200)


@pytest.mark.parametrize("width", [1280, 820])
def test_pages_are_readable_for_everyone(visit, office, width):
    (case,) = opened(office, payment(70 + width, transaction_id=f"a{width}", card=f"axe-{width}"))
    for scheme in ("light", "dark"):
        analyst = visit("analyst", color_scheme=scheme)
        analyst.page.set_viewport_size({"width": width, "height": 900})
        for path in ("/cases", "/cases?state=done", f"/cases/{case['case']}", "/design"):
            analyst.go(path)
            assert analyst.page.evaluate("document.documentElement.scrollWidth") <= width, path
            found = Axe().run(analyst.page).response["violations"]
            assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == [], path


def test_what_was_looked_at_is_audited(visit, office):
    (case,) = opened(office, payment(80, transaction_id="l1", card="looked-1"))
    visit("analyst").go(f"/cases/{case['case']}")

    def looked():
        changes = office.api("/admin/audit?limit=50")["changes"]
        return [
            one for one in changes if one["what"] == "console: look at a case" and one["asked"] == str(case["case"])
        ]

    until(looked)
    assert looked()[0]["who"].startswith("analyst ")
