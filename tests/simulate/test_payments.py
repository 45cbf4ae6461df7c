import hashlib
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.errors import InvalidDefinition
from sentinel.simulate.payments import PATTERNS, simulate, simulate_all

START = datetime(2025, 1, 1, tzinfo=UTC)
INSTANT = pl.Datetime("us", "UTC")
COLUMNS = {
    "transaction_id": pl.String,
    "event_time": INSTANT,
    "amount": pl.Float64,
    "card_id": pl.String,
    "merchant_id": pl.String,
    "device_id": pl.String,
    "merchant_category": pl.String,
    "channel": pl.String,
    "country": pl.String,
    "latitude": pl.Float64,
    "longitude": pl.Float64,
    "is_fraud": pl.Boolean,
    "fraud_pattern": pl.String,
    "outcome_time": INSTANT,
}
MAY_BE_NULL = {"device_id", "fraud_pattern"}


@pytest.fixture(scope="module")
def made():
    return simulate_all(60_000, seed=11)


@pytest.fixture(scope="module")
def payments(made) -> pl.DataFrame:
    return made.payments.with_row_index("row")


@pytest.fixture(scope="module")
def events(made) -> pl.DataFrame:
    return made.events


def of(payments: pl.DataFrame, pattern: str) -> pl.DataFrame:
    return payments.filter(fraud_pattern=pattern)


def km(a: str, b: str) -> pl.Expr:
    """Great-circle distance between the places whose columns end in `a` and `b`."""
    lat_a, lon_a, lat_b, lon_b = (pl.col(f"{c}{e}").radians() for e in (a, b) for c in ("latitude", "longitude"))
    half = ((lat_b - lat_a) / 2).sin().pow(2) + lat_a.cos() * lat_b.cos() * ((lon_b - lon_a) / 2).sin().pow(2)
    return 12_742 * half.sqrt().arcsin()


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 400), seed=st.integers(0, 2**63), days=st.integers(1, 400), share=st.floats(0, 0.499))
def test_the_table_keeps_its_laws_at_any_size(n, seed, days, share):
    frame = simulate(n, seed, days=days, fraud_share=share)
    assert dict(frame.schema) == COLUMNS
    assert len(frame) == n == frame["transaction_id"].n_unique()
    assert frame["event_time"].is_sorted()
    assert frame["event_time"].min() >= START
    assert frame["event_time"].max() < START + timedelta(days=days)
    assert (frame["outcome_time"] > frame["event_time"]).all()
    assert frame["is_fraud"].sum() == int(n * share + 0.5)
    assert (frame["is_fraud"] == frame["fraud_pattern"].is_not_null()).all()
    assert all(frame[name].null_count() == 0 for name in COLUMNS if name not in MAY_BE_NULL)
    assert frame["latitude"].is_between(-90, 90).all()
    assert frame["longitude"].is_between(-180, 180).all()
    cents = np.rint(frame["amount"].to_numpy() * 100)
    assert (cents >= 1).all()
    assert (frame["amount"].to_numpy() == cents / 100).all()


def test_one_payment_and_ten_can_be_simulated():
    assert [len(simulate(n, seed=3)) for n in (1, 10, 100)] == [1, 10, 100]


@pytest.mark.parametrize("threads", [("0", "1"), ("1", "2"), ("4242", "7")])
def test_the_same_seed_gives_the_same_bytes_whatever_hash_seed_and_threads(threads, tmp_path):
    hash_seed, n_threads = threads
    out = tmp_path / "payments.parquet"
    code = f"from sentinel.simulate.payments import simulate; simulate(20_000, 5).write_parquet({str(out)!r})"
    surroundings = {**os.environ, "PYTHONHASHSEED": hash_seed, "POLARS_MAX_THREADS": n_threads}
    subprocess.run([sys.executable, "-c", code], env=surroundings, check=True)
    here = tmp_path / "here.parquet"
    simulate(20_000, 5).write_parquet(here)
    assert hashlib.sha256(out.read_bytes()).hexdigest() == hashlib.sha256(here.read_bytes()).hexdigest()


def test_another_seed_gives_other_payments():
    assert not simulate(1_000, 1).equals(simulate(1_000, 2))


def test_a_start_in_another_zone_is_the_same_instant():
    berlin = datetime(2025, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))
    assert simulate(500, 1, start=berlin).equals(simulate(500, 1, start=START))


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        ({"transactions": 0}, "1 or more"),
        ({"seed": -1}, "0 or above"),
        ({"days": 0}, "1 or more"),
        ({"days": 10**9}, "1970 to 2100"),
        ({"fraud_share": 0.5}, "from 0"),
        ({"fraud_share": -0.1}, "from 0"),
        ({"fraud_share": float("nan")}, "from 0"),
        ({"start": datetime(2025, 1, 1)}, "tzinfo"),
        ({"start": datetime(1960, 1, 1, tzinfo=UTC)}, "1970 to 2100"),
    ],
)
def test_a_bad_argument_is_refused_with_advice(arguments, advice):
    with pytest.raises(InvalidDefinition, match=advice):
        simulate(**({"transactions": 10, "seed": 1} | arguments))


def test_every_pattern_occurs_from_20_000_payments_on():
    for seed in range(3):
        assert set(simulate(20_000, seed)["fraud_pattern"].drop_nulls()) == set(PATTERNS)
    assert len(PATTERNS) == 7


def test_devices_are_missing_exactly_where_the_card_was_read(payments):
    read = payments["channel"].is_in(["chip", "contactless", "atm"])
    assert (payments["device_id"].is_null() == read).all()


def test_a_merchant_keeps_its_category_and_its_till_its_place(payments):
    assert payments.group_by("merchant_id").agg(pl.col("merchant_category").n_unique())["merchant_category"].max() == 1
    tills = payments.filter(pl.col("channel") != "online").group_by("merchant_id")
    assert tills.agg(pl.struct("latitude", "longitude", "country").n_unique().alias("places"))["places"].max() == 1


def test_days_have_a_rhythm(payments):
    by_hour = payments.group_by(pl.col("event_time").dt.hour()).len().sort("event_time")["len"]
    assert by_hour[12:20].mean() > 4 * by_hour[1:5].mean()


def test_few_merchants_take_much_and_some_cards_are_used_far_more_than_others(payments):
    merchants = payments["merchant_id"].value_counts(sort=True)["count"]
    assert merchants.head(len(merchants) // 10).sum() > 0.4 * len(payments)
    cards = payments["card_id"].value_counts()["count"]
    assert cards.quantile(0.9) > 4 * cards.quantile(0.1)


def test_complaints_come_after_days(payments):
    delay = payments.filter("is_fraud").select(pl.col("outcome_time") - pl.col("event_time")).to_series()
    assert timedelta(days=2) < delay.median() < timedelta(days=7)
    assert delay.max() <= timedelta(days=60)


def test_names_do_not_tell_frauds(payments):
    """The number in a fraud's device name is as high as any other."""
    number = pl.col("device_id").str.slice(1).cast(pl.Int64)
    devices = payments.drop_nulls("device_id").unique("device_id").with_columns(number.rank() / pl.len())
    assert 0.35 < devices.filter("is_fraud")["device_id"].mean() < 0.65


def test_card_testing_is_a_burst_of_tiny_amounts(payments):
    frauds = of(payments, "card_testing")
    assert frauds["amount"].max() < 5
    near = (pl.col("event_time_other") - pl.col("event_time")).abs() <= timedelta(minutes=10)
    pairs = frauds.select("row", "event_time", "device_id").join(
        frauds.select("event_time", "device_id"), on="device_id", suffix="_other"
    )
    assert pairs.filter(near).group_by("row").len()["len"].min() >= 5
    assert frauds.group_by("device_id").agg(pl.col("card_id").n_unique())["card_id"].max() >= 5


def test_a_takeover_comes_from_a_device_the_card_never_used_and_spends_more(payments):
    frauds = of(payments, "account_takeover")
    before = frauds.select("row", "card_id", "device_id").join(
        payments.filter(~pl.col("is_fraud")), on=["card_id", "device_id"]
    )
    assert before.is_empty()
    usual = payments.filter(~pl.col("is_fraud")).group_by("card_id").agg(pl.col("amount").median().alias("usual"))
    assert frauds.join(usual, on="card_id").select(pl.col("amount") / pl.col("usual")).to_series().median() > 1.5
    lasts = frauds.group_by("card_id", "device_id").agg(pl.col("event_time").max() - pl.col("event_time").min())
    assert lasts["event_time"].max() < timedelta(days=1)


def test_a_compromised_merchant_is_fraudulent_for_weeks(payments):
    hit = (
        of(payments, "compromised_merchant")
        .group_by("merchant_id")
        .agg(
            pl.col("event_time").min().alias("first"),
            pl.col("event_time").max().alias("last"),
            pl.len().alias("frauds"),
        )
    )
    assert hit["frauds"].min() >= 5
    assert (hit["last"] - hit["first"]).min() > timedelta(days=7)
    within = pl.col("event_time").is_between("first", "last")
    share = payments.join(hit, on="merchant_id").filter(within).group_by("merchant_id").agg(pl.col("is_fraud").mean())
    assert share["is_fraud"].min() > 5 * payments["is_fraud"].mean()


def test_impossible_travel_is_faster_than_an_airliner(payments):
    frauds = of(payments, "impossible_travel")
    assert frauds["channel"].is_in(["chip", "contactless", "atm"]).all()
    place = ("card_id", "event_time", "latitude", "longitude")
    pairs = frauds.select("row", *place).join(payments.select(*place), on="card_id", suffix="_before")
    hours = (pl.col("event_time") - pl.col("event_time_before")).dt.total_seconds() / 3600
    pairs = pairs.filter(hours.is_between(0, 2, closed="right"), km("", "_before") / hours > 900)
    assert pairs["row"].n_unique() == len(frauds)


def test_a_large_amount_is_far_above_the_habit(payments):
    honest = (
        payments.filter(~pl.col("is_fraud"))
        .group_by("card_id")
        .agg(pl.col("amount").median().alias("usual"), pl.len().alias("known"))
    )
    frauds = of(payments, "large_amount").join(honest.filter(pl.col("known") >= 10), on="card_id")
    assert frauds.select((pl.col("amount") > 3 * pl.col("usual")).mean()).item() > 0.9
    above = payments.filter(~pl.col("is_fraud"))["amount"] > frauds["amount"].median()
    assert above.sum() > len(frauds)  # the amount alone does not tell


def test_a_slow_drip_takes_the_same_for_weeks(payments):
    drips = (
        of(payments, "slow_drip")
        .group_by("card_id", "merchant_id", "device_id")
        .agg(
            pl.len().alias("charges"),
            pl.col("amount").n_unique().alias("prices"),
            pl.col("amount").max(),
            (pl.col("event_time").max() - pl.col("event_time").min()).alias("lasts"),
            pl.col("event_time").diff().min().alias("step"),
        )
    )
    assert drips["charges"].min() >= 6
    assert drips["prices"].max() == 1
    assert drips["amount"].max() < 30
    assert drips["lasts"].min() > timedelta(days=14)
    assert drips["step"].min() > timedelta(hours=24)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 400), seed=st.integers(0, 2**63), days=st.integers(1, 400), share=st.floats(0, 0.499))
def test_the_events_keep_their_laws_at_any_size(n, seed, days, share):
    payments, events = simulate_all(n, seed, days=days, fraud_share=share)
    assert dict(events.schema) == {"event": pl.String, "event_id": pl.String, "event_time": INSTANT,
                                   "card_id": pl.String, "device_id": pl.String}  # fmt: skip
    assert events["event_time"].is_sorted()
    assert events["event_id"].n_unique() == len(events)
    assert events["event_time"].is_between(START, START + timedelta(days=days), closed="left").all()
    assert (events["device_id"].is_null() == (events["event"] == "password_change")).all()
    assert events["card_id"].is_in(payments["card_id"].unique().to_list()).all()


def since(payments: pl.DataFrame, events: pl.DataFrame) -> pl.Series:
    """Hours since the card's last of these events; null where there was none."""
    last = events.select("card_id", pl.col("event_time").alias("last")).sort("last")
    joined = payments.sort("event_time").join_asof(
        last, left_on="event_time", right_on="last", by="card_id", check_sortedness=False
    )
    return (joined["event_time"] - joined["last"]).dt.total_seconds() / 3600


def test_a_stolen_login_comes_before_spending_that_looks_as_usual(payments, events):
    frauds = of(payments, "stolen_login")
    assert (since(frauds, events.filter(event="login")) < 24).all()
    assert (since(frauds, events.filter(event="password_change")) < 24).mean() > 0.8
    honest = payments.filter(~pl.col("is_fraud"))
    usual = honest.filter(channel="online").group_by("card_id").agg(pl.col("amount").median().alias("usual"))
    ratio = frauds.join(usual, on="card_id").select(pl.col("amount") / pl.col("usual")).to_series()
    assert 0.5 < ratio.median() < 2
    known = frauds.join(honest.select("card_id", "device_id").unique(), on=["card_id", "device_id"], how="semi")
    assert len(known) > 0.5 * len(frauds)
    shops = frauds.join(honest.select("card_id", "merchant_id").unique(), on=["card_id", "merchant_id"], how="semi")
    assert len(shops) == len(frauds)


def test_who_stole_a_login_comes_from_a_device_that_the_card_never_used(payments, events):
    honest = payments.filter(~pl.col("is_fraud")).select("card_id", "device_id").unique()
    strange = events.filter(event="login").join(honest, on=["card_id", "device_id"], how="anti")
    frauds = of(payments, "stolen_login")
    assert (since(frauds, strange) < 24).all()


def test_customers_change_passwords_and_devices_too(payments, events):
    honest = payments.filter(~pl.col("is_fraud"))
    changed = (since(honest, events.filter(event="password_change")) < 24).sum()
    assert changed > 4 * len(of(payments, "stolen_login"))  # the change alone does not tell
    first = honest.drop_nulls("device_id").sort("event_time").unique(["card_id", "device_id"], keep="first")
    assert (since(first, events.filter(event="password_change")) < 1).sum() > 50
