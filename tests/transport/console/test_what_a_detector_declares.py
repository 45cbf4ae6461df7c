"""What a detector declares for people: which of its rules stood in for the model, and the currency of its amounts."""

import msgspec
import pytest

from sentinel import Fallback, Rule
from sentinel.commands.business import business_of
from sentinel.config import read_settings
from sentinel.errors import InvalidDefinition
from sentinel.events.files import history_of_frame
from sentinel.model.registry import Registry
from sentinel.record.applied import HomeDeployment
from sentinel.train.pipeline import train
from tests.conftest import SHOP, shop_frame
from tests.transport.console.conftest import payment, until

RULES = (
    Rule("amount > 100", 0.3, "a large payment"),
    Rule("risk >= 0.5", 0.25, "a risky device"),
    Rule("amount > 9000", 0.4, "far too large"),
)


@pytest.fixture(scope="module")
def server_settings():
    return {"SENTINEL_CASES": "on"}


@pytest.fixture(scope="module")
def two_models_home(tmp_path_factory):
    """A home whose detector has rules for the time without a model."""
    home = tmp_path_factory.mktemp("rules") / "home"
    detector = msgspec.structs.replace(SHOP, fallback=Fallback(rules=RULES), currency="CHF")
    history = history_of_frame(shop_frame(2000), SHOP.schema)
    HomeDeployment(home).promote(train(detector, history, Registry(home / "models"), lambda *_: None).version)
    return home


def test_what_the_rules_gave_is_told_by_the_api_and_on_the_pages(visit, site):
    assert site.api("/v1/decisions/p50")["fallback"] is None  # the model decided
    site.api("/admin/fallback", {"only": True})
    site.api("/v1/score", payment(0, transaction_id="no-model", amount=450.5, risk=0.7))
    site.api("/v1/score", payment(0, transaction_id="nothing-held", amount=5.5, risk=0.1))
    stored = site.api("/v1/decisions/no-model")
    assert (stored["decision"], stored["degraded"], stored["why"]) == ("review", "fallback only", None)
    gave = stored["fallback"]
    assert [(one["reason"], one["add"]) for one in gave["rules"]] == [
        ("a large payment", 0.3),
        ("a risky device", 0.25),
    ]
    assert gave["base"] + sum(one["add"] for one in gave["rules"]) == pytest.approx(stored["fraud_probability"])
    assert site.api("/v1/decisions/nothing-held")["fallback"] == {"base": 0.05, "rules": []}

    until(lambda: site.api("/v1/cases?state=work&transaction_id=no-model")["cases"])
    number = site.api("/v1/cases?state=work&transaction_id=no-model")["cases"][0]["case"]
    analyst = visit("analyst")
    for path in ("/decisions/no-model", f"/cases/{number}"):
        analyst.go(path)
        rows = [row.split("\t") for row in analyst.page.locator("[data-stood-in] tbody tr").all_inner_texts()]
        assert rows[:3] == [
            ["a large payment", "+0.30"],
            ["a risky device", "+0.25"],
            ["What every payment has then", "0.05"],
        ]
        assert rows[3][1] == "0.60"
        assert "somebody has switched it off" in analyst.text("main")
    analyst.go("/decisions/nothing-held")
    assert "None of its rules held" in analyst.text("[data-stood-in]")


def test_money_has_the_currency_that_the_detector_declares(visit, site):
    (money,) = site.api("/v1/business")["total"]["money"]
    assert (money["currency"], money["digits"]) == ("CHF", 2)
    assert business_of(read_settings({"home": site.home}, {}), {}).total.money[0].currency == "CHF"
    analyst = visit("analyst")
    analyst.go("/decisions/p50")
    assert "3,050.25\u202fCHF" in analyst.text("header")
    analyst.go("/search")
    assert "Amount, CHF" in analyst.text("main thead")
    analyst.go("/cases")
    assert analyst.text(".figure .value >> nth=0").endswith("\u202fCHF")
    analyst.go("/business")
    assert analyst.text("[data-at=saved]").endswith(" CHF")


@pytest.mark.parametrize("currency", ["eur", "EURO", "", "E\u00dcR"])
def test_a_currency_is_three_letters(currency):
    with pytest.raises(InvalidDefinition, match="three letters"):
        msgspec.structs.replace(SHOP, currency=currency)
