"""The whole day of an analyst, in one browser: what none of the other tests of pages shows is that it hangs together."""

import re

import pytest

from tests.transport.console.conftest import payment, until
from tests.transport.console.test_cases import press

WAVE = "wave-card"


@pytest.fixture(scope="module")
def server_settings():
    return {"SENTINEL_CASES": "on", "SENTINEL_CASE_DEADLINES": "high:1h:1000,normal:8h:100,low:3d"}


def wave(site, name, amount):
    """A payment of the wave that this day is about, as it is answered."""
    return site.api("/v1/score", payment(0, transaction_id=name, card=WAVE, shop="shop-3", amount=amount))


def test_an_analyst_finds_decides_rules_and_takes_it_back(visit, site):
    """Log in, take a case, look around, decide it; write a rule, backtest it, publish it, see it fire, roll it back."""
    site.api("/admin/thresholds", {"review": 1e-9, "block": 1.0})  # each payment asks for a look
    for n in range(3):
        wave(site, f"wave-{n}", 99_000.5 + n)
    until(lambda: site.api("/v1/cases?state=work&transaction_id=wave-2")["cases"])
    until(lambda: site.api("/health")["view"]["lag"] == 0)

    analyst = visit()  # nothing but the address
    page = analyst.page
    analyst.go("/cases")
    page.wait_for_url(lambda url: "/login?next=" in url)
    page.fill("[name=name]", "admin")
    page.fill("[name=password]", "four words that last")
    page.keyboard.press("Enter")
    page.wait_for_url("**/cases")

    press(page, "t")  # the next one is the wave: it may lose most
    page.wait_for_url(re.compile(r"/cases/\d+$"))
    number = int(page.url.rpartition("/")[2])
    case = site.api(f"/v1/cases/{number}")
    assert (case["key"]["value"], case["holder"]) == (WAVE, "admin")
    assert analyst.text("h1") == f"{number}: {WAVE}"
    page.wait_for_selector("main svg[aria-label^='Decisions of this card'], main .timeline, main [data-around]")

    page.click(f"dl a:has-text('{WAVE}')")  # all that this card did
    page.wait_for_selector("tr.goes:has-text('wave-1')")
    page.click("a:has-text('wave-1')")
    page.wait_for_url("**/decisions/wave-1*")
    assert "99,001.5" in analyst.text("main")
    analyst.go(f"/cases/{number}")
    press(page, "f")
    page.wait_for_selector("header .tag:has-text('Fraud')")
    for n in range(3):
        (told,) = site.api(f"/v1/decisions/wave-{n}")["outcomes"]
        assert told["is_fraud"] is True

    analyst.go("/decisions/wave-1")
    page.wait_for_load_state("load")
    page.keyboard.press("r")
    page.wait_for_url("**/rules/edit?payment=wave-1")
    page.fill("[name=name]", "the wave")
    page.fill("#when", 'amount > 90000 and shop == "shop-3"')
    page.select_option("[name=do]", "block")
    page.fill("[name=reason]", "a wave at shop-3")
    page.wait_for_selector("#tried [data-hits='3']")
    page.click("text=Save as a draft")
    page.wait_for_url(re.compile(r"/rules/drafts/\d+$"))
    draft = int(page.url.rpartition("/")[2])

    page.fill("[name=since]", "2020-01-01")
    page.click("button:has-text('Backtest')")
    page.wait_for_selector("[data-trial]")
    hits, frauds = (analyst.text(f"tr[data-rule='the wave'] td:nth-child({n})") for n in (3, 5))
    assert (hits, frauds) == ("3", "100\u202f% of 3")
    assert wave(site, "before", 99_500.0)["decision"] == "review"  # a draft decides nothing

    page.keyboard.press("p")
    page.fill("#publish [name=note]", "seen in a case")
    page.keyboard.press("Enter")
    page.wait_for_url("**/rules")
    assert f"draft {draft} is in force" in analyst.text("header")
    fired = wave(site, "fires", 99_500.0)
    assert (fired["decision"], fired["rules"]) == ("block", ["the wave"])
    until(lambda: site.api("/health")["view"]["lag"] == 0)
    analyst.go("/rules/rule?name=the+wave")
    page.wait_for_selector("tr.goes:has-text('fires')")
    analyst.go("/decisions/fires")
    assert "the wave" in analyst.text(".panel:has(h2:has-text('Rules'))")

    analyst.go("/rules")  # the first book there ever was: before it there were no rules
    page.click("header button:has-text('Roll back')")
    assert "rule the wave: gone" in analyst.text("#back")
    page.fill("#back [name=note]", "the wave is over")
    page.click("#back button:has-text('Roll back')")
    page.wait_for_selector("header :text('the model decides alone')")
    assert "rules" not in wave(site, "fires-no-more", 99_500.0)
    assert analyst.text("main .panel:has(h2:has-text('History')) tbody tr >> nth=0").startswith(
        "no rules\tadmin\tthe wave is over"
    )
    assert page.locator("header button:has-text('Roll back')").count() == 0
