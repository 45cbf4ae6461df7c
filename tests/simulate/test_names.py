"""Names of simulated cards, merchants and devices: one for each, and none tells what a number did not."""

import polars as pl
import pytest

from sentinel.simulate.names import _FIRST, _LAST, _SHOPS, _TONGUES, _cards, _devices, named
from sentinel.simulate.payments import simulate_all
from sentinel.simulate.towns import TOWNS

KEYS = ("card_id", "merchant_id", "device_id")


@pytest.fixture(scope="module")
def made():
    return simulate_all(30_000, seed=11)


@pytest.fixture(scope="module")
def shown(made):
    return named(made)


def test_nothing_but_the_names_is_another(made, shown):
    assert shown.payments.drop(KEYS).equals(made.payments.drop(KEYS))
    assert shown.events.drop("card_id", "device_id").equals(made.events.drop("card_id", "device_id"))
    assert shown.payments.schema == made.payments.schema


@pytest.mark.parametrize("key", KEYS)
def test_each_has_one_name_that_no_other_has(made, shown, key):
    both = pl.DataFrame({"old": made.payments[key], "new": shown.payments[key]}).unique()
    assert both["old"].n_unique() == both["new"].n_unique() == len(both)
    assert (made.payments[key].is_null() == shown.payments[key].is_null()).all()


def test_events_speak_of_the_same_cards_and_devices(made, shown):
    for key in ("card_id", "device_id"):
        names = dict(zip(made.payments[key], shown.payments[key], strict=True))
        pairs = zip(made.events[key], shown.events[key], strict=True)
        assert all(names.get(old, new) == new for old, new in pairs)


def test_the_same_arguments_give_the_same_names(made, shown):
    assert named(made).payments.equals(shown.payments)


def test_cards_beyond_the_four_digits_are_told_apart():
    """Also between countries: two that speak otherwise share no last name."""
    every = [name for names in _LAST.values() for name in names.split()]
    assert len(every) == len(set(every))
    cards = [f"c{n:07}" for n in range(120_000)]
    payments = pl.DataFrame({"card_id": cards, "country": [("PT", "DE", "AT")[n % 3] for n in range(len(cards))]})
    names = _cards(payments, pl.DataFrame({"card_id": []}, schema={"card_id": pl.String}))
    assert len(set(names.values())) == len(cards)


def test_devices_are_told_apart():
    assert len(set(_devices(f"d{n:07}" for n in range(200_000)).values())) == 200_000


def test_a_shop_says_its_town_and_a_shop_on_the_web_none(made, shown):
    tills = shown.payments.filter(pl.col("channel") != "online")
    town = pl.col("merchant_id").str.extract(r", ([A-Za-z ]+?)(?: \d+)?$")
    of = {one.name: one.country for one in TOWNS}
    said = tills.select(town.alias("town"), "country").unique()
    assert said["town"].null_count() == 0
    assert all(of[name] == country for name, country in said.iter_rows())
    web = shown.payments.filter(pl.col("channel") == "online")["merchant_id"]
    assert web.str.contains(" Online").all()


def test_a_holder_is_called_as_in_the_country_where_the_card_pays_most(shown):
    cards = shown.payments.group_by("card_id").agg(pl.col("country").mode().sort().last(), pl.len())
    last = cards.filter(pl.col("len") > 20).with_columns(pl.col("card_id").str.split(" ").list.get(1).alias("last"))
    for country, name in last.filter(pl.col("country").is_in(["PT", "PL", "GB"])).select("country", "last").iter_rows():
        assert name in _LAST[_TONGUES[country]].split()


def test_every_category_and_every_tongue_has_names(made):
    assert set(made.payments["merchant_category"]) <= set(_SHOPS)
    assert set(_TONGUES.values()) == set(_FIRST) == set(_LAST)
    assert {one.country for one in TOWNS if one.customers} == set(_TONGUES)


def test_names_tell_nothing_of_fraud():
    """The share of each kind of device is about the same among frauds, of which there are many here, as among others."""
    payments = named(simulate_all(20_000, seed=11, fraud_share=0.4)).payments
    kind = pl.col("device_id").str.replace(r" [0-9a-f]{6}$", "").alias("kind")
    devices = payments.drop_nulls("device_id").group_by("device_id").agg(pl.col("is_fraud").any()).with_columns(kind)
    fraud, other = (devices.filter(pl.col("is_fraud") == one)["kind"] for one in (True, False))
    assert min(len(fraud), len(other)) > 300
    for name in devices["kind"].unique():
        assert (fraud == name).mean() == pytest.approx((other == name).mean(), abs=0.07)


def test_no_name_looks_like_a_card_number(shown):
    for key in KEYS:
        assert not shown.payments[key].drop_nulls().str.contains(r"\d{7,}").any()
