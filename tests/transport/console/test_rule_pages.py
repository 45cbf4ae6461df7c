"""Rules and lists in a browser: the second half of an analyst's day, and what cannot be meant."""

import json
import re

import pytest

from tests.transport.console.conftest import HOSTILE_NOTE, payment, until
from tests.transport.console.test_pages import rows_of

BOOK = {
    "lists": [{"name": "deny_cards", "kind": "deny", "by": "card", "reason": "reported stolen"}],
    "rules": [
        {"name": "huge", "when": "amount > 5000", "do": "block", "reason": "larger than anyone pays", "owner": "ana"},
        {"name": "quiet", "when": "amount > 2000", "do": "review", "reason": "large", "state": "shadow"},
    ],
}


@pytest.fixture(scope="module", autouse=True)
def book(site):
    """A book in force before anyone looks, and one before it to go back to."""
    for note, rules in (("first", BOOK["rules"][:1]), ("second", BOOK["rules"])):
        drafted = site.api("/v1/rules/drafts", {"book": BOOK | {"rules": rules}, "note": note})
        site.api("/v1/rules/apply", {"draft": drafted["draft"], "note": HOSTILE_NOTE if note == "second" else note})
    site.api("/v1/score", [payment(n, transaction_id=f"r{n}", amount=2_500.0 + n) for n in range(20)])
    until(lambda: site.api("/health")["view"]["lag"] == 0)


def write(page, text):
    """Type a condition over what is there."""
    page.fill("#when", "")
    page.type("#when", text)


def test_a_rule_is_written_tried_published_seen_to_fire_and_rolled_back(visit, site):
    """The second half of an analyst's day, with the keyboard where there is a key."""
    editor = visit("operator")
    page = editor.page
    before = site.api("/v1/rules")["rules"]["draft"]
    editor.go("/decisions/r3")
    page.keyboard.press("r")
    page.wait_for_url("**/rules/edit?payment=r3")
    assert "amount >= 2503.0" in page.input_value("#when")
    page.fill("[name=name]", "over 2400")
    write(page, "amou")
    page.wait_for_selector(".offered li >> text=amount")
    page.keyboard.press("Tab")
    assert page.input_value("#when") == "amount"
    page.type("#when", " > 2400 and amuont < 1")
    page.wait_for_selector("#tried :text('there is no amuont; did you mean amount?')")
    assert page.locator("#tried mark").inner_text().startswith("amuont")
    assert page.get_attribute("#when", "aria-invalid") == "true"
    write(page, "amount > 2400")
    page.wait_for_selector("#tried [data-hits]")
    until(lambda: page.get_attribute("#when", "aria-invalid") == "false" or page.wait_for_timeout(100))
    tried = site.api("/v1/rules/backtest", {"book": BOOK | {"rules": [*BOOK["rules"], {
        "name": "over 2400", "when": "amount > 2400", "do": "review", "reason": "r"}]}, "newest": 1_000})  # fmt: skip
    hits = next(one["hits"] for one in tried["rules"] if one["name"] == "over 2400")
    assert hits >= 20
    until(lambda: page.get_attribute("#tried [data-hits]", "data-hits") == str(hits) or page.wait_for_timeout(100))
    page.select_option("[name=do]", "block")
    page.fill("[name=reason]", "a wave of large payments")
    page.fill("[name=note]", "seen on Monday")
    page.click("text=Save as a draft")
    page.wait_for_url(re.compile(r"/rules/drafts/\d+$"))
    number = int(page.url.rpartition("/")[2])
    assert site.api(f"/v1/rules/drafts/{number}")["author"] == "operator via operator"
    assert "over 2400" in editor.text(".changes >> nth=0")
    page.fill("[name=since]", "2020-01-01")
    page.click("button:has-text('Backtest')")
    page.wait_for_selector("[data-trial]", timeout=120_000)
    assert hits == int(editor.text("tr[data-rule='over 2400'] td:nth-child(3)").replace(",", ""))
    assert "All of it is of one day" in editor.text("[data-trial]")
    page.keyboard.press("p")
    page.fill("#publish [name=note]", "a wave")
    page.click("#publish button:has-text('Publish')")
    page.wait_for_url("**/rules")
    now = site.api("/v1/rules")["rules"]
    assert (now["draft"], now["note"], now["applied_by"]) == (number, "a wave", "operator via operator")
    site.api("/v1/score", payment(900, transaction_id="fires", amount=2_450.0))
    stored = site.api("/v1/decisions/fires")
    assert (stored["decision"], stored["rules"]["fired"]) == ("block", ["over 2400"])
    editor.go("/decisions/fires")
    assert "over 2400" in editor.text(".panel:has(h2:has-text('Rules'))")
    until(lambda: site.api("/health")["view"]["lag"] == 0)
    editor.go("/live/newest")
    assert "rule over 2400" in editor.text("tr.goes:has-text('fires')")
    editor.go("/try")
    page.fill("[data-field=amount]", "2450")
    page.click("text=Send")
    page.wait_for_selector("#answer dd:has-text('over 2400; without it, ')")
    editor.go("/decisions/fires")
    page.click("text=over 2400")
    page.wait_for_selector("tr.goes:has-text('fires')")
    page.wait_for_selector(".chart canvas")
    editor.go("/rules")
    page.click("button:has-text('Roll back')")
    assert "rule over 2400: gone" in editor.text("#back")
    page.click("#back button:has-text('Roll back')")
    page.wait_for_selector(f"header :text('draft {before} is in force')")
    assert site.api("/v1/rules")["rules"]["draft"] == before
    assert "rules" not in site.api("/v1/score", payment(901, transaction_id="fires no more", amount=2_450.0))


def test_the_page_of_rules_shows_what_the_api_says(visit, site):
    viewer = visit("viewer")
    viewer.go("/rules")
    figures = {one["name"]: one for one in site.api("/v1/rules/figures?days=7")["rules"]}
    shown = {row[0].split("\n")[0]: row for row in rows_of(viewer.page, "main .panel >> nth=0 >> tbody tr")}
    assert list(shown) == ["list deny_cards", "huge", "quiet"]  # what blocks, then a shadow
    assert int(shown["quiet"][5].replace(",", "")) == sum(figures["quiet"]["hits"])
    assert viewer.page.locator("main a:has-text('New rule')").count() == 0  # a viewer changes nothing
    assert viewer.page.title() != "taken"
    assert "<img src=x" in viewer.text("main")
    viewer.go("/rules/rule?name=quiet")
    assert "large" in viewer.text("dl >> nth=0")


def test_two_people_who_edit_one_draft_overwrite_nothing(visit, site):
    first, second = visit("operator"), visit("admin")
    for one, limit in ((first, 5_100), (second, 5_200)):
        one.go("/rules/edit?name=huge")
        write(one.page, f"amount > {limit}")
    first.page.click("text=Save as a draft")
    first.page.wait_for_url(re.compile(r"/rules/drafts/\d+$"))
    number = first.page.url.rpartition("/")[2]
    second.page.click("text=Save as a draft")
    second.page.wait_for_selector(f"#told :text('that is draft {number}; nothing is overwritten')")
    assert site.api("/v1/rules/drafts?limit=1")["drafts"][0]["number"] == int(number)


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("card > 5", "a text cannot be compared with a number"), ("card in list('gone')", "there is no list gone"),
        ("amount = 5", "write == instead of ="), ("amount / 0 > 1", None), ("<script>", "a constant is expected"),
        ("x" * 10_001, "10,000"),
    ],
    ids=lambda one: str(one)[:20],
)  # fmt: skip
def test_what_cannot_be_meant_is_told_in_its_place(caller, when, said):
    one = caller()
    one.log_in("operator")
    form = {"base": "0", "seen": "0", "was": "", "name": "", "when": when, "do": "review", "reason": ""}
    status, _, body = one.ask("/rules/try", form, {"x-csrf-token": one.csrf(), "hx-request": "true"})
    assert status in (200, 422)
    assert said is None or said in body
    assert ("data-fault" in body) == (said is not None)
    assert "<script>" not in body
    if said is None:
        assert 'data-hits="0"' in body  # a division by zero is missing, and fulfils nothing


def test_the_whole_book_as_text_is_read_as_it_is_written(visit, site):
    editor = visit("operator")
    page = editor.page
    editor.go("/rules/text")
    text = page.input_value("#text")
    assert "name: huge" in text
    page.fill("#text", text + "\n- name: broken\n  when: 'amuont > 1'\n  do: review\n  reason: r\n")
    page.wait_for_selector("#tried :text('there is no amuont')")
    page.fill("#text", "rules: [")
    page.wait_for_selector("#tried :text('is no YAML')")
    page.fill("#text", text.replace("amount > 5000", "amount > 6000"))
    page.wait_for_selector("#tried tr:has-text('huge')")
    page.click("text=Save as a draft")
    page.wait_for_url(re.compile(r"/rules/drafts/\d+$"))
    assert "holds when amount > 6000, and not when amount > 5000" in editor.text(".changes >> nth=0")


def test_a_list_is_looked_up_filled_and_emptied(visit, site):
    editor = visit("operator")
    page = editor.page
    editor.go("/lists")
    page.click("text=deny_cards")
    page.wait_for_url("**/lists/deny_cards")
    page.fill("form:has-text('Put on it') [name=value]", "card-77")
    page.fill("form:has-text('Put on it') [name=reason]", HOSTILE_NOTE)
    page.click("button:has-text('Put on it')")
    page.wait_for_selector("#told :text('counts from the next decision')")
    page.fill("form:has-text('Bring a file') textarea", "value,until\ncard-78,\ncard-79,yesterday\n,\n")
    page.click("text=Bring it")
    page.wait_for_selector("#imported :text('line 3')")
    assert "line 4: expected a value" in editor.text("#imported")
    assert site.api("/v1/lists/deny_cards/card-78")["periods"] == []  # all of it or nothing
    page.fill("form:has-text('Bring a file') textarea", "value,reason\ncard-78,a leak\ncard-79,\n")
    page.click("text=Bring it")
    page.wait_for_selector("#imported :text('2 entries count')")
    assert site.api("/v1/lists/deny_cards/card-78")["periods"][0]["author"] == "operator via operator"
    editor.go("/lists/deny_cards")
    page.fill("form:has-text('Bring a file') textarea", "value\ncard-80\n")
    page.click("button:has-text('As a draft')")
    page.wait_for_url(re.compile(r"/rules/drafts/\d+$"))
    assert "1 told with the draft" in editor.text(".changes >> nth=0")
    assert site.api("/v1/lists/deny_cards/card-80")["periods"] == []
    page.click("text=Edit the text")
    page.wait_for_selector(":text('brings entries of lists: publish it first')")
    editor.go("/lists/deny_cards")
    assert [row[0] for row in rows_of(page)][:3] == ["card-77", "card-78", "card-79"]
    page.fill("[data-search]", "card-77")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-is-on=yes]")
    assert "card-77" not in page.url
    page.fill("[name=as_of]", "2020-01-01T00:00:00")
    page.click("text=Look")
    page.wait_for_selector("[data-is-on=no]")
    page.click("tr:has-text('card-77') >> text=Take off")
    page.wait_for_selector("#told :text('counts from the next decision')")
    assert site.api("/v1/lists/deny_cards/card-77")["is_on"] is False
    assert page.title() != "taken"


def test_thresholds_are_a_draft_too(visit, site):
    before = site.api("/admin/thresholds")["a"]
    editor = visit("operator")
    editor.go("/rules")
    editor.page.fill("[name=review]", "much")
    editor.page.click("form:has-text('Thresholds of') button")
    editor.page.wait_for_selector("#thresholds-told :text('Expected a probability')")
    editor.page.fill("[name=review]", "0.0625")
    editor.page.click("form:has-text('Thresholds of') button")
    editor.page.wait_for_url(re.compile(r"/rules/drafts/\d+$"))
    assert "review from 0.0625, and not from" in editor.text(".changes >> nth=0")
    assert site.api("/admin/thresholds")["a"] == before


def test_a_rule_sleeps_for_one_card(visit, site):
    editor = visit("operator")
    editor.go("/rules/rule?name=huge")
    editor.page.fill("form:has-text('sleep') [name=value]", "card-sleepy")
    editor.page.fill("[name=until]", "2040-01-01")
    editor.page.click("text=Snooze")
    editor.page.wait_for_selector("#slept :text('sleeps for this card until')")
    assert "rules" not in site.api(
        "/v1/score", payment(910, transaction_id="asleep", card="card-sleepy", amount=6_000.0)
    )
    assert site.api("/v1/score", payment(911, transaction_id="awake", card="card-awake", amount=6_000.0))["rules"] == [
        "huge"
    ]


def test_a_viewer_looks_up_and_changes_nothing(caller):
    one = caller()
    one.log_in("viewer")
    headers = {"x-csrf-token": one.csrf(), "hx-request": "true"}
    assert one.ask("/lists/deny_cards/look-up", {"value": "card-1"}, headers)[0] == 200
    for path in (
        "/lists/deny_cards/add",
        "/rules/save",
        "/rules/publish",
        "/rules/rollback",
        "/rules/snooze",
        "/rules/try",
    ):
        assert one.ask(path, {"value": "card-1"}, headers)[0] == 403, path


def test_the_pages_of_rules_have_no_serious_fault_and_scroll_nowhere_sideways(visit, site):
    drafts = json.loads(json.dumps(site.api("/v1/rules/drafts?limit=1")))["drafts"][0]["number"]
    paths = ("/rules", "/rules/rule?name=huge", "/rules/edit?name=huge", "/rules/text", f"/rules/drafts/{drafts}", "/lists",
             "/lists/deny_cards", "/rules/rule?name=none", "/rules/drafts/9999", "/lists/none")  # fmt: skip
    found = []
    for scheme, rules in (
        ("light", ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"]),
        ("dark", {"type": "rule", "values": ["color-contrast"]}),
    ):
        operator = visit("operator", color_scheme=scheme)
        for path in paths:
            operator.go(path)
            found += operator.faults_of_page(rules)
    assert found == []
