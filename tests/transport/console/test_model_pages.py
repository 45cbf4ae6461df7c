"""The pages of models in a browser: what they show equals the API, and what is done there is done."""

import itertools
import json
import re

import msgspec
import pytest

from sentinel.policy.costs import Costs
from sentinel.policy.score_curve import ScoreCurve
from sentinel.policy.thresholds import Thresholds
from sentinel.record.retrainings import Asked, Failure, Run, Step, write_run
from tests.transport.console.conftest import payment, until

REPORT = "<!doctype html><title>v1</title><h1>The report of v1</h1><script>document.title='taken'</script>"


@pytest.fixture(scope="module")
def told(site):
    """The site with a report beside a model, a retraining that was refused and one that failed."""
    (site.home / "models/v1.report.html").write_text(REPORT)
    asked = Asked("shop", None, {})
    failures = {"failures": ["recall fell from 0.81 to 0.52"], "compared": None, "champion": "v1"}
    steps = [Step("collect", "2026-01-01T00:00:09Z", 2.5, {}), Step("gate", "2026-01-01T00:00:19Z", 2.5, failures)]
    write_run(site.home, Run("first", "2026-01-01T00:00:00Z", 1, asked, steps, ended="refused"))
    write_run(
        site.home,
        Run(
            "second",
            "2026-01-02T00:00:00Z",
            1,
            asked,
            failed=Failure("train", "2026-01-02T00:00:09Z", "no fraud in it"),
        ),
    )
    return site


@pytest.fixture
def experiment(site):
    """An experiment with v2 on half of the cards, with decisions of both; over afterwards."""
    site.api("/admin/ab/setup", {"candidate_version": "v2"})
    site.api("/admin/ab/split", {"percent": 50})
    site.api("/v1/score", [payment(n, transaction_id=f"ab-{n}", card=f"ab-{n % 90}") for n in range(300)])
    yield site
    if site.api("/admin/ab/status")["ab_active"]:
        site.api("/admin/ab/abort", {})
    if site.api("/admin/version")["version_a"] != "v1":
        site.api("/admin/reload", {"version": "v1"})


def numbers(text):
    return [float(one.replace(",", "")) for one in re.findall(r"-?\d[\d,]*\.?\d*", text)]


def test_versions_stand_side_by_side(visit, told):
    viewer = visit("viewer")
    viewer.go("/models")
    for version in ("v1", "v2"):
        viewer.page.check(f"[name=version][value={version}]")
    viewer.page.click("button:has-text('Compare')")
    viewer.page.wait_for_url("**/models/compare?**")
    text = viewer.text("main")
    for version in ("v1", "v2"):
        metrics = json.loads((told.home / f"models/{version}/manifest.json").read_text())["metrics"]
        assert f"{metrics['average_precision']['value']:.3f}" in text
        assert f"{metrics['review']['recall'] * 100:.1f}" in text
    viewer.go("/models/compare?version=v1")
    assert "Choose two" in viewer.text("main")


def test_the_report_of_a_training_is_in_the_page_and_runs_nothing(visit, told):
    viewer = visit("viewer")
    viewer.go("/models/v1")
    viewer.page.locator("iframe.report").scroll_into_view_if_needed()
    inside = viewer.page.frame_locator("iframe.report")
    inside.locator("h1:has-text('The report of v1')").wait_for()
    viewer.faults.clear()  # the browser says that it has blocked the script
    viewer.go("/models/v1/report")
    assert viewer.page.title() == "v1"
    viewer.faults.clear()
    viewer.go("/models/v2")
    assert "sentinel models report v2" in viewer.text("main")


def test_an_experiment_begins_shows_its_counts_changes_its_share_and_ends(visit, site):
    operator = visit("operator")
    page = operator.page
    operator.go("/models/experiment")
    page.select_option("[name=version]", "v2")
    page.locator("[name=percent]").fill("40")
    assert operator.text("#share-said") == "40 %"
    page.click("button:has-text('Begin')")
    page.wait_for_selector("text=v2 decides for 40 % of the cards")
    try:
        assert site.api("/admin/version")["split_percent"] == 40
        site.api("/v1/score", [payment(n, transaction_id=f"e-{n}", card=f"e-{n % 60}") for n in range(200)])
        status = site.api("/admin/ab/status")
        assert status["predictions_a"] + status["predictions_b"] == 200
        for side in "ab":
            page.locator(f"[data-at=decisions-{side}]", has_text=f"{status[f'predictions_{side}']:,}").wait_for()
        flagged = next(one for one in rows(page, "#figures tbody tr") if one[0] == "Disturbed")
        shown = [status["comparison"]["flag_rate"][side] for side in "ab"]
        assert [numbers(one)[0] for one in flagged[1:3]] == [round(one * 100, 2) for one in shown]
        page.wait_for_selector("#trail[data-points]")
        page.locator("[name=percent]").fill("75")
        page.click("text=Change the share")
        page.wait_for_selector("text=v2 decides for 75 % of the cards")
        operator.go("/models")
        assert page.locator("button:has-text('Promote')").count() == 0
        operator.go("/models/experiment")
        page.fill("[name=reason]", "tried enough")
        page.click("text=End without it")
        page.wait_for_selector("text=tried enough")
    finally:
        if site.api("/admin/ab/status")["ab_active"]:
            site.api("/admin/ab/abort", {})
    assert site.api("/admin/ab/status")["ended"]["reason"] == "tried enough"


def test_a_challenger_is_promoted_once_the_gate_is_overruled_with_a_reason(visit, experiment):
    policy = experiment.home / "promotion_policy.yaml"
    policy.write_text("min_pr_auc_val: 0.0\n")
    operator = visit("operator")
    try:
        operator.go("/models/experiment")
        operator.page.click("text=Promote v2")
        operator.page.wait_for_selector("#told :text('has not been through the gate')")
        assert experiment.api("/admin/version")["version_a"] == "v1"
        operator.page.fill("[name=because]", "the gate is being rebuilt")
        operator.page.click("text=Promote all the same")
        operator.page.wait_for_selector("text=none runs; v2 decides alone")
        assert experiment.api("/admin/version")["version_a"] == "v2"
        operator.go("/models")
        assert "not asked" in operator.text("tr:has-text('v2')")
    finally:
        policy.unlink()


def test_the_shadow_is_compared_with_what_was_decided(visit, site):
    operator = visit("operator")
    operator.go("/models/shadow")
    assert "No model is watched" in operator.text("main")
    site.api("/admin/shadow/start", {"version": "v2"})
    try:
        sent = itertools.count()

        def are_compared():  # it scores what comes once it is there
            rows = [payment(n, transaction_id=f"s-{next(sent)}") for n in range(20)]
            return site.api("/v1/score", rows) and _report(site).get("compared", 0) >= 20

        until(are_compared)

        def is_at_rest():
            before = _report(site)
            operator.go("/models/shadow")
            return before == _report(site)

        until(is_at_rest)
        report = _report(site)
        assert numbers(operator.text("[data-at=agreement]")) == [round(report["agreement"] * 100, 1)]
        for live, row in zip(report["matrix"], rows(operator.page, ".matrix tbody tr"), strict=True):
            assert [int(numbers(one)[0]) for one in row[1:]] == list(report["matrix"][live].values())
        operator.page.click("text=Stop watching")
        operator.page.wait_for_url("**/models")
        assert site.api("/admin/version")["shadow"] is None
    finally:
        site.api("/admin/shadow/stop", {})


def _report(site):
    try:
        return site.api("/admin/shadow/report")
    except OSError:
        return {}


def test_thresholds_do_what_the_server_would_say_they_do_and_go_into_force_with_a_note(visit, site):
    operator = visit("operator")
    page = operator.page
    operator.go("/models/thresholds")
    page.wait_for_selector("#explorer[data-shown]")
    told = site.api("/admin/thresholds/curve")
    curve, costs = msgspec.convert(told["curve"], ScoreCurve), msgspec.convert(told["costs"], Costs)
    points = curve.points
    for n in (len(points) // 3, len(points) // 2, len(points) - 2):
        page.locator("[data-moves=review]").fill(str(n))
        sent = {one: page.input_value(f"[data-sends={one}]") for one in ("review", "block")}
        chosen = Thresholds(float(sent["review"]), float(sent["block"]))
        assert chosen.review == points[n]
        expected = curve.consequences(chosen, costs)
        shown = {
            one: operator.text(f"[data-at={one}]") for one in ("cost_a_day", "precision", "recall", "reviews_a_day")
        }
        assert numbers(shown["cost_a_day"])[0] == pytest.approx(expected.cost_a_day, abs=0.006)
        assert numbers(shown["recall"])[0] == pytest.approx(expected.recall * 100, abs=0.006)
        assert numbers(shown["precision"])[0] == pytest.approx(expected.precision * 100, abs=0.006)
        assert numbers(shown["reviews_a_day"])[0] == pytest.approx(expected.reviews_a_day, abs=0.06)
    page.fill("#capacity", "0.001")
    assert ("more than you can do" in operator.text("#over")) == (expected.reviews_a_day > 0.001)
    page.fill("[data-cost=review]", "4")
    dearer = curve.consequences(chosen, msgspec.structs.replace(costs, review=4.0))
    assert numbers(operator.text("[data-at=cost_a_day]"))[0] == pytest.approx(dearer.cost_a_day, abs=0.006)
    page.fill("[data-cost=review]", str(costs.review))
    page.click("#cheapest")
    cheapest = numbers(operator.text("[data-at=cost_a_day]"))[0]
    swept = [row.cost_a_day for moved in ("review", "block") for row in curve.sweep(chosen, moved, costs)]
    assert cheapest <= min(swept) + 0.006
    page.click("#as-now")
    assert page.is_disabled("#apply")
    page.locator("[data-moves=review]").fill(str(len(points) // 2))
    chosen_text = {one: page.input_value(f"[data-sends={one}]") for one in ("review", "block")}
    page.fill("[name=note]", "fewer looks over the holidays")
    try:
        page.click("#apply")
        until(lambda: site.api("/admin/thresholds")["a"]["review"] == float(chosen_text["review"]))
        assert site.api("/admin/thresholds")["a"]["block"] == float(chosen_text["block"])
    finally:
        site.api("/admin/thresholds", {})
    until(lambda: "fewer looks over the holidays" in json.dumps(site.api("/admin/audit?limit=100")))


def test_what_the_log_says_of_thresholds_is_shown_or_why_it_cannot(visit, site):
    analyst = visit("analyst")
    analyst.go("/models/thresholds?period=1")
    analyst.page.wait_for_selector("#explorer[data-shown]")
    told = site.api("/admin/thresholds/curve?from=2020-01-01")
    assert told["measured_on"].split(" from ")[0] in analyst.text("#measured")
    assert analyst.page.locator("#apply").count() == 0  # an analyst may look
    analyst.go("/models/thresholds?period=week")
    assert "give one of" in analyst.text("main")


def test_retrainings_say_how_they_went_and_why(visit, told):
    viewer = visit("viewer")
    viewer.go("/models/retraining")
    text = viewer.text("main")
    assert "no fraud in it" in text
    viewer.page.click("summary:has-text('first')")
    assert "recall fell from 0.81 to 0.52" in viewer.text("main")
    found = [one.inner_text().split()[0] for one in viewer.page.locator("details summary b").all()]
    assert found == [one["name"] for one in told.api("/admin/retrainings")["runs"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_of_models_has_a_serious_fault_of_accessibility_or_scrolls_sideways(visit, told, experiment, scheme):
    admin = visit("admin", color_scheme=scheme)
    found = []
    for path in ("/models", "/models/compare?version=v1&version=v2", "/models/v1", "/models/experiment",
                 "/models/shadow", "/models/thresholds", "/models/retraining"):  # fmt: skip
        admin.go(path)
        if path == "/models/thresholds":
            admin.page.wait_for_selector("#explorer[data-shown]")
        found += admin.faults_of_page(["wcag2a", "wcag2aa", "wcag21aa", "best-practice"], iframes=False)
    admin.faults[:] = [one for one in admin.faults if "sandboxed" not in one]  # the script of the report
    assert found == []


def rows(page, selector):
    return [row.split("\t") for row in page.locator(selector).all_inner_texts()]
