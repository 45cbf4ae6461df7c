"""Business and Drift in a browser: what they show equals the API, in every state."""

import csv
import io

import pytest

from tests.transport.console.conftest import payment, until

WEEK = "from=2020-01-01&to=2020-01-08"
PAGES = ("/business", "/business?by=model&each=week", "/business?by=field:channel&value=web", f"/business?{WEEK}", "/drift",
         "/drift?feature=amount", "/drift?all=yes", "/design")  # fmt: skip


def rows_of(page, selector):
    return [row.split("\t") for row in page.locator(f"{selector} tbody tr").all_inner_texts()]


@pytest.fixture(scope="module")
def told(site):
    """The outcomes of the site are in the sums."""
    until(lambda: site.api("/v1/business")["total"]["frauds"] >= 2)
    return site


def plain(text):
    return text.replace("\u202f", " ")


def test_business_shows_what_the_api_says(visit, told):
    viewer = visit("viewer")
    viewer.page.keyboard.press("g")
    viewer.page.keyboard.press("b")
    viewer.page.wait_for_url("**/business")
    viewer.page.wait_for_selector("#business[data-drawn='4']")
    found = told.api("/v1/business")
    total, (money,) = found["total"], found["total"]["money"]
    inked = (
        "it => new Set(new Uint32Array(it.getContext('2d').getImageData(0, 0, it.width, it.height).data.buffer)).size"
    )
    drawn = viewer.page.eval_on_selector("#chart-fraud canvas", inked)
    viewer.page.evaluate("charts[0].made.setSeries(1, {show: false}); charts[0].made.setSeries(2, {show: false})")
    assert drawn > viewer.page.eval_on_selector("#chart-fraud canvas", inked)  # the only day is a point
    assert plain(viewer.text("[data-at=fraud]")) == f"{total['fraud_bps']:,.1f} bp"
    assert plain(viewer.text("[data-at=approved]")) == f"{total['approval_rate'] * 100:.1f} %"
    for name in ("saved", "lost", "held"):
        assert viewer.text(f"[data-at={name}]") == f"{money[name] // 100:,}.{money[name] % 100:02}"
    shown = rows_of(viewer.page, "#by-action")
    assert [int(row[1].replace(",", "")) for row in shown] == list(total["actions"].values())
    assert [int(row[2]) for row in shown] == [one["frauds"] for one in found["actions"]]
    assert "still to come" in viewer.text("main")
    viewer.page.click("#as-table summary")
    newest = rows_of(viewer.page, "#as-table")[0]
    assert (newest[0], int(newest[1])) == (found["periods"][-1]["begin"], found["periods"][-1]["figures"]["decisions"])
    assert "not mature" in newest[-1]


def test_side_by_side_and_one_value_alone_are_in_the_address(visit, told):
    viewer = visit("viewer")
    viewer.go("/business")
    viewer.page.select_option("[name=by]", "model")
    viewer.page.click("button:has-text('Show')")
    viewer.page.wait_for_url("**by=model**")
    groups = told.api("/v1/business?by=model")["groups"]
    assert [(row[0], int(row[1])) for row in rows_of(viewer.page, "#groups")] == [
        (one["value"], one["figures"]["decisions"]) for one in groups
    ]
    viewer.page.click("#groups a")
    viewer.page.wait_for_url("**value=**")
    assert f"of model {groups[0]['value']} alone" in viewer.text("header")
    viewer.page.click("text=All values")
    viewer.page.wait_for_selector("#groups")
    viewer.page.click("text=Week")
    viewer.page.wait_for_url("**each=week**")
    viewer.go(f"/business?{WEEK}")
    assert "Nothing was decided in these days" in viewer.text("main")


def test_the_same_as_csv(caller, told):
    one = caller()
    one.log_in("viewer")
    status, headers, text = one.ask("/business.csv?each=month")
    assert (status, headers["content-disposition"]) == (200, 'attachment; filename="business.csv"')
    rows = list(csv.DictReader(io.StringIO(text)))
    found = told.api("/v1/business?each=month")
    assert [int(row["decisions"]) for row in rows] == [period["figures"]["decisions"] for period in found["periods"]]
    (money,) = found["periods"][-1]["figures"]["money"]
    assert rows[-1]["volume"] == f"{money['volume'] // 100}.{money['volume'] % 100:02}"
    assert one.ask("/business?from=tomorrow")[0] == 422
    assert one.ask("/business.csv?by=field:nothing")[0] == 422


def test_drift_says_how_far_it_is_then_what_moved_and_how(visit, told):
    viewer = visit("viewer")
    viewer.go("/drift")
    report = told.api("/admin/drift")
    if not report["enough_data"]:
        assert "too few to compare" in viewer.text("header")
        assert viewer.text("[data-at=have]") == f"{report['current_count']:,}"
        for n in range(report["least_rows"] // 100 + 1):
            told.api("/v1/score", [payment(n * 100 + m, transaction_id=f"d{n}-{m}", amount=900.5) for m in range(100)])
    until(lambda: told.api("/admin/drift")["drift_detected"])
    report = told.api("/admin/drift")
    viewer.go("/drift?all=yes")
    assert viewer.text("[data-at=moved]") == str(report["drifted_features"])
    shown = rows_of(viewer.page, "#features")
    assert len(shown) == len(report["per_feature"]) + 1
    moved = report["drifted_features"] + report["score"]["drifted"]
    assert [row[1] for row in shown] == ["moved"] * moved + ["steady"] * (len(shown) - moved)
    viewer.go("/drift?feature=amount")
    found = told.api("/admin/drift/amount")
    assert found["rows_now"] == report["current_count"]
    bins = rows_of(viewer.page, "#bins")
    assert [plain(row[2]) for row in bins] == [
        f"{one['now'] * 100:.2f} %" for one in found["bins"] if one["then"] or one["now"] or one["what"] == "upto"
    ]
    assert len(rows_of(viewer.page, "#quantiles")) == len(found["quantiles"])
    assert viewer.page.locator("svg.pairs g").count() == len(bins)
    assert viewer.go("/drift?feature=nothing").status == 404


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_a_serious_fault_of_accessibility_or_scrolls_sideways(visit, told, scheme):
    rules = ["wcag2a", "wcag2aa", "wcag21aa"] if scheme == "light" else {"type": "rule", "values": ["color-contrast"]}
    viewer = visit("viewer", color_scheme=scheme)
    found = []
    for path in PAGES if scheme == "light" else ("/business?by=model", "/drift?feature=amount"):
        viewer.go(path)
        found += viewer.faults_of_page(rules)
    assert found == []
