"""The pages in a browser: what they show equals the API, and nothing that is stored can harm who looks at it."""

import csv
import io
import json

import pytest

from sentinel.transport.console.cells import safe_cell
from tests.transport.console.conftest import HOSTILE, PATIENCE_S, payment, until

PAGES = ("/", "/search", "/search?card=nobody", "/decisions/p45", "/try", "/try/load", "/models", "/models/v1", "/admin", "/admin/keys",
         "/admin/audit", "/admin/notifications", "/design", "/password", "/nothing/here", "/decisions/not-there")  # fmt: skip

DARK_PAGES = ("/", "/decisions/p45", "/models", "/admin", "/design")


def rows_of(page, selector="main table tbody tr"):
    return [row.split("\t") for row in page.locator(selector).all_inner_texts()]


def test_a_search_shows_what_the_api_finds(visit, site):
    analyst = visit("analyst")
    analyst.go("/search")
    analyst.page.fill("[name=card]", "card-3")
    analyst.page.fill("[name=least]", "20")
    analyst.page.click("button:has-text('Search')")
    analyst.page.wait_for_url("**/search?*card=card-3*")
    found = site.api("/v1/decisions?card=card-3&least_amount=20&limit=50")["decisions"]
    shown = rows_of(analyst.page)
    assert [row[1] for row in shown] == [one["transaction_id"] for one in found]
    assert len(found) > 3
    assert [float(row[4].replace(",", "")) for row in shown] == [one["amount"] for one in found]
    assert [row[5].lower().split()[0] for row in shown] == [one["decision"] for one in found]
    analyst.page.reload()  # the address says it all
    assert rows_of(analyst.page) == shown


def test_pages_of_a_search_follow_each_other_without_gaps(visit, site):
    viewer = visit("viewer")
    viewer.go("/search")
    seen = [row[1] for row in rows_of(viewer.page)]
    assert len(seen) == 50
    viewer.page.click("a[rel=next]")
    viewer.page.wait_for_url("**cursor=*")
    seen += [row[1] for row in rows_of(viewer.page)]
    assert len(seen) == len(set(seen))
    assert {f"p{n}" for n in range(60)} <= set(seen)


def test_the_same_as_csv_is_safe_in_a_spreadsheet(caller, site):
    site.api("/v1/score", payment(90, transaction_id="=1+1", card="@sum", amount=7_777.0))
    one = caller()
    one.log_in("viewer")
    until(lambda: "7777" in one.ask("/search.csv?least=7777")[2])
    status, headers, text = one.ask("/search.csv?least=7777")
    assert (status, headers["content-disposition"]) == (200, 'attachment; filename="decisions.csv"')
    (row,) = csv.DictReader(io.StringIO(text))
    assert (row["transaction_id"], row["card"], float(row["amount"])) == ("'=1+1", "'@sum", 7777.0)
    everything = list(csv.DictReader(io.StringIO(one.ask("/search.csv?least=1")[2])))
    assert len(everything) >= 62
    assert {row["transaction_id"]: row["is_fraud"] for row in everything}["p40"] == "True"


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"), ("  =1", "'  =1"), ("\uff1d1", "'\uff1d1"), ("\n=1", "'\n'=1"), ("a;=1", "a;'=1"), ("a,@x", "a,'@x"),
        ("c-17", "c-17"), ("a;b", "a;b"), ("1=1", "1=1"),
    ],
)  # fmt: skip
def test_no_cell_is_a_formula_wherever_a_spreadsheet_cuts(text, cell):
    assert safe_cell(text) == cell


def test_a_search_by_a_card_number_leads_to_an_address_without_it(caller, site):
    one = caller()
    one.log_in("viewer")
    status, headers, _ = one.ask("/search?card=4111111111111111&least=20")
    assert status == 303
    assert "4111" not in headers["location"]
    assert "p61" in one.ask(headers["location"])[2]
    form = {"card": "4111-1111-1111-1111", "least": "20"}
    status, led, _ = one.ask("/search", form, {"x-csrf-token": one.csrf(), "origin": site.url})
    assert (status, led["hx-redirect"]) == (200, headers["location"])
    assert one.ask("/search", form)[0] == 403
    found = site.api("/v1/decisions/search", {"card": "4111 1111 1111 1111", "limit": 5})["decisions"]
    assert [row["transaction_id"] for row in found] == ["p61"]


def test_a_wrong_search_is_refused_beside_what_was_typed(visit):
    viewer = visit("viewer")
    viewer.go("/search")
    viewer.page.fill("[name=least]", "much")
    viewer.page.click("button:has-text('Search')")
    viewer.page.wait_for_selector("#wrong :text('Expected an amount')")
    assert viewer.page.input_value("[name=least]") == "much"


@pytest.mark.parametrize(
    "query", ["from=tomorrow", "least=much", "action=praise", "cursor=zz", "colour=red", "from=1e99"]
)
def test_a_search_that_cannot_be_says_why(caller, query):
    one = caller()
    one.log_in("viewer")
    status, _, body = one.ask(f"/search?{query}")
    assert status == 422
    assert "Expected" in body or "no search by" in body


def test_a_receipt_shows_the_stored_decision(visit, site):
    analyst = visit("analyst")
    analyst.go("/search")
    analyst.page.fill("[name=id]", "p45")
    analyst.page.keyboard.press("Enter")
    analyst.page.wait_for_url("**/decisions/p45")
    stored = site.api("/v1/decisions/p45")
    text = analyst.text("main")
    assert stored["decision"].capitalize() in text
    assert f"{stored['fraud_probability']:.3f}" in text
    assert f"{stored['transaction']['amount']:,.2f}" in analyst.text("header")
    assert f"{stored['transaction']['amount']:,}" in analyst.text("main dl >> nth=0")
    assert stored["transaction"]["card"] in text
    weights = [float(row[4]) for row in rows_of(analyst.page, "main .panel:first-child table tbody tr")]
    expected = sorted((one["contribution"] for one in stored["why"]["reasons"]), reverse=True)
    assert weights == [round(one, 2) for one in expected]
    analyst.page.click("text=Ask again")
    analyst.page.wait_for_selector("#again .tag")
    assert "to the last bit" in analyst.text("#again")
    analyst.go("/decisions/p40")
    assert "Fraud" in analyst.text("main .panel:has(h2:has-text('Turned out'))")


def test_a_card_number_is_never_shown_whole(visit, site):
    viewer = visit("viewer")
    viewer.go("/search?card=4111111111111111")
    (row,) = rows_of(viewer.page)
    assert row[1] == "p61"
    viewer.go("/search")
    viewer.page.fill("[name=card]", "4111 1111 1111 1111")
    viewer.page.click("button:has-text('Search')")
    viewer.page.wait_for_url("**/search?card=*")
    assert "11111111" not in viewer.page.url  # four of them may be in a port, or in a seal
    assert [row[1] for row in rows_of(viewer.page)] == ["p61"]
    viewer.go("/decisions/p61")
    assert "41111111" not in viewer.page.content().replace(" ", "")
    assert "hidden" in viewer.text("main")


def test_a_hostile_id_and_a_hostile_note_are_texts(visit, site):
    analyst = visit("analyst")
    for path in ("/", "/search?least=4321&most=4321"):
        analyst.go(path)
        analyst.page.wait_for_selector("tr.goes")
        assert analyst.page.title() != "taken"
    analyst.go("/search?least=4321&most=4321")
    analyst.page.click("tr.goes a")
    analyst.page.wait_for_selector("h1")
    assert HOSTILE.replace("\u202e", "") in analyst.text("h1").replace("\u202e", "")
    assert "<img src=x" in analyst.text("main")
    assert analyst.page.title() != "taken"
    assert analyst.page.locator("main img, main script").count() == 0


def test_live_counts_what_the_server_counts(visit, site):
    viewer = visit("viewer")
    viewer.page.wait_for_selector("#live[data-seen]")
    before = site.api("/metrics")["total_requests"]
    site.api("/v1/score", [payment(n, transaction_id=f"live-{n}") for n in range(100, 130)])
    figures = site.api("/metrics")
    assert figures["total_requests"] == before + 30
    for one in ("approve", "challenge", "review", "block"):
        viewer.page.locator(f'[data-at="total-{one}"]', has_text=f"{figures[one]:,}").wait_for()
    assert viewer.text('[data-at="model"]').startswith(site.api("/health")["model_version"])
    newest = viewer.page.locator("#newest tr.goes")
    newest.first.wait_for()
    listed = [
        one for action in ("review", "block") for one in site.api(f"/v1/decisions?action={action}&limit=8")["decisions"]
    ]
    expected = [one["transaction_id"] for one in sorted(listed, key=lambda one: -one["position"])][:8]
    until(
        lambda: (
            [row[1] for row in rows_of(viewer.page, "#newest tbody tr")] == expected
            or viewer.page.wait_for_timeout(500)
        )
    )
    viewer.page.keyboard.press(" ")
    assert viewer.text("#pause").startswith("Go on")
    seen = viewer.page.get_attribute("#live", "data-seen")
    viewer.page.wait_for_timeout(2_500)
    assert viewer.page.get_attribute("#live", "data-seen") == seen


def test_live_draws_days_from_what_the_view_has_counted(visit, site):
    viewer = visit("viewer")
    viewer.go("/")
    viewer.page.click("text=Week")
    viewer.page.wait_for_url("**/?range=604800")
    viewer.page.click("summary:has-text('The charts as a table')")
    viewer.page.wait_for_selector("#as-table tbody tr >> nth=6")
    assert viewer.page.locator("#chart-latency").count() == 0  # days keep none
    rows = [row.split("\t") for row in viewer.page.locator("#as-table tbody tr").all_inner_texts()]
    assert [row[2] for row in rows] == ["\u2013"] * 7
    today = site.api("/v1/business?each=day")["periods"][-1]["figures"]["decisions"]
    assert 60 <= int(rows[0][1].replace(",", "")) <= today
    assert rows[-1][1] == "\u2013"  # of days before the first decision nothing is known


def test_try_it_sends_what_the_form_says_and_a_repeat_says_so(visit, site):
    operator = visit("operator")
    operator.go("/try")
    operator.page.click("#new-id")
    name = operator.page.input_value("[data-field=transaction_id]")
    operator.page.fill("[data-field=amount]", "1234.5")
    operator.page.fill("[data-field=channel]", "")
    sent = json.loads(operator.page.input_value("#transaction"))
    assert (sent["transaction_id"], sent["amount"], "channel" in sent) == (name, 1234.5, False)
    operator.page.click("text=Send")
    operator.page.wait_for_selector("#answer .tag")
    stored = site.api(f"/v1/decisions/{name}")
    assert stored["transaction"]["amount"] == 1234.5
    assert stored["decision"].capitalize() in operator.text("#answer")
    assert "answered before" not in operator.text("#answer")
    operator.page.click("text=Send")
    operator.page.wait_for_selector("#answer :text('answered before')")
    operator.page.fill("#transaction", "{")
    assert "no JSON" in operator.text("#wrong")
    operator.page.click("text=Send")
    operator.page.wait_for_selector("#answer :text('No valid JSON')")
    operator.page.fill("#transaction", json.dumps(sent | {"amount": "much"}))
    operator.page.click("text=Send")
    operator.page.wait_for_selector("#answer :text('$.amount')")


def test_a_load_test_is_watched_stopped_and_told_apart(visit, site):
    operator = visit("operator")
    page = operator.page
    operator.go("/try/load")
    for name, value in (("rate", "5"), ("seconds", "60")):
        page.locator(f"[name={name}]").fill(value)
    page.click("#begin")
    page.wait_for_selector("#load[data-over=false]")
    until(lambda: int(operator.text("[data-at=received]").replace(",", "")) > 3 or page.wait_for_timeout(200))
    assert page.is_disabled("#begin")
    page.click("#stop")
    page.wait_for_selector("#load[data-over=true]")
    assert "stopped by operator" in operator.text("header")
    received = int(operator.text("[data-at=received]").replace(",", ""))
    name = json.dumps(site.api("/admin/audit?limit=50")).partition("ids load-")[2].partition("-")[0]
    stored = site.api("/v1/decisions?limit=500")["decisions"]
    assert sum(one["transaction_id"].startswith(f"load-{name}-") for one in stored) >= received


def test_models_shows_who_decides_and_an_operator_changes_it(visit, site):
    operator = visit("operator")
    operator.go("/models")
    assert {row[1]: row[2].strip() for row in rows_of(operator.page)} == {"v2": "\u2013", "v1": "champion"}
    try:
        operator.page.click("tr:has-text('v2') >> text=Watch in shadow")
        operator.page.wait_for_selector("tr:has-text('v2') .tag:has-text('shadow')")
        assert site.api("/admin/version")["shadow"] == "v2"
        operator.page.click("text=Stop watching")
        operator.page.wait_for_selector("tr:has-text('v2') >> text=Watch in shadow")
        operator.page.click("tr:has-text('v2') >> text=Promote")
        operator.page.wait_for_selector("tr:has-text('v2') .tag:has-text('champion')")
        assert site.api("/admin/version")["version_a"] == "v2"
    finally:
        site.api("/admin/reload", {"version": "v1"})
    operator.go("/models/v1")
    metrics = json.loads((site.home / "models/v1/manifest.json").read_text())["metrics"]
    assert f"{metrics['average_precision']['value']:.3f}" in operator.text("main")
    assert f"{metrics['review']['recall'] * 100:.1f}" in operator.text("main")


def test_an_admin_lets_somebody_in_and_out(visit, site):
    admin = visit("admin")
    admin.go("/admin")
    admin.page.fill("[name=name]", "Carla")
    admin.page.select_option("form [name=role]", "analyst")
    admin.page.click("text=Add")
    password = admin.page.locator(".secret").inner_text()
    carla = visit()
    carla.log_in("carla", password)
    carla.page.wait_for_url("**/password")
    for field, text in (("old", password), ("new", "carla's own few words"), ("again", "carla's own few words")):
        carla.page.fill(f"[name={field}]", text)
    carla.page.click("text=Change the password")
    carla.page.wait_for_url(site.url + "/")
    carla.page.wait_for_selector("#live[data-seen]")
    admin.page.click("tr:has-text('carla') >> text=Disable")
    admin.page.wait_for_selector("tr:has-text('carla') .tag:has-text('disabled')")
    carla.page.wait_for_url(
        lambda url: "/login?" in url, timeout=PATIENCE_S * 1000
    )  # a session that ends in the middle of looking
    admin.go("/admin/audit")
    admin.page.wait_for_selector("td:has-text('disable a person')")
    admin.go("/admin/keys")
    assert "no keys yet" in admin.text("main")


def test_a_session_that_ends_while_a_form_is_filled_in_leads_to_the_log_in_and_back(visit, site):
    operator = visit("operator")
    operator.go("/try")
    operator.context.clear_cookies()
    operator.page.click("text=Send")
    operator.page.wait_for_url("**/login?next=/try")
    operator.page.fill("[name=name]", "operator")
    operator.page.fill("[name=password]", "four words that last")
    operator.page.click("button[type=submit]")
    operator.page.wait_for_url("**/try")


def test_everything_can_be_done_with_keys(visit, site):
    analyst = visit("analyst")
    page = analyst.page
    page.keyboard.press("?")
    page.wait_for_selector("dialog[open]")
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("s")
    page.wait_for_url("**/search")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    first = page.locator("tr.goes").first
    assert first.get_attribute("aria-selected") == "true"
    name = first.locator("a").inner_text()
    page.keyboard.press("Enter")
    page.wait_for_url("**/decisions/**")
    assert analyst.text("h1") == name
    page.go_back()
    page.keyboard.press("/")
    page.keyboard.type("p45")
    page.keyboard.press("Enter")
    page.wait_for_url("**/decisions/p45")


@pytest.mark.parametrize(
    ("scheme", "pages", "rules"),
    [
        ("light", PAGES, ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"]),
        ("dark", DARK_PAGES, {"type": "rule", "values": ["color-contrast"]}),
    ],
    ids=["light", "dark"],
)
def test_no_page_has_a_serious_fault_of_accessibility_or_scrolls_sideways(visit, site, scheme, pages, rules):
    """Light and dark differ in colours alone."""
    admin = visit("admin", color_scheme=scheme)
    found = []
    for path in pages:
        admin.go(path)
        if path == "/":
            admin.page.wait_for_selector("#live[data-seen]")
        found += admin.faults_of_page(rules)
    assert found == []
