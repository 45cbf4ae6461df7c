"""A build by Spark, for real: the rows of one machine's build, to the bit."""

import os
import shutil
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

PATIENCE_S = 1700
N = 4_000
DETECTOR = """
from sentinel import Detector, Schema, category, count, fraud_rate, mean, ratio
detector = Detector(
    schema=Schema(
        keys=("card_id", "shop_id"), categories=("channel",), outcome_time="known_at", optional=("shop_id",)
    ),
    features=(
        count(by="card_id", over="1h").named("cards"),
        ratio(count(by="card_id", over="2h"), to=count(by="shop_id", over="3h")),
        fraud_rate(by="shop_id", over="6h", delay="1h"),
        category("channel"),
    ),
)
"""


@pytest.fixture(scope="module")
def spark(environment_of):
    """The environment of commands that find PySpark."""
    folder = environment_of("spark")
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        required = "spark" in os.environ.get("SENTINEL_TEST_REQUIRE", "")
        (pytest.fail if required else pytest.skip)("there is no java, which Spark runs in")
    quick = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"  # it does not run for long
    return {**os.environ, "SENTINEL_SPARK_PYTHON": str(folder / "bin" / "python"), "JDK_JAVA_OPTIONS": quick}


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A detector, and a history in two files, in no order, some of whose rows cannot be used."""
    folder, chance = tmp_path_factory.mktemp("spark"), np.random.default_rng(3)
    at_s = 1_770_000_000 + chance.integers(0, 100_000, N)
    known_s = at_s + chance.integers(-500, 15_000, N)
    rows = pl.DataFrame({
        "transaction_id": [f"t{i}" for i in range(N)],
        "event_time": pl.Series(at_s * 1_000).cast(pl.Datetime("ms")),
        "amount": [None if i % 100 == 7 else float(i % 90) for i in range(N)],
        "card_id": chance.integers(1, 90, N).astype(np.uint16),
        "shop_id": [None if one == 0 else f"s{one}" for one in chance.integers(0, 30, N)],
        "channel": [("app", "web", "chip")[one] for one in chance.integers(0, 3, N)],
        "is_fraud": [None if one == 0 else one == 1 for one in chance.integers(0, 6, N)],
        "known_at": pl.Series(known_s * 1_000).cast(pl.Datetime("ms")),
    })  # fmt: skip
    (folder / "rows of it").mkdir()
    rows[: N // 3].write_parquet(folder / "rows of it" / "b 1.parquet")
    rows[N // 3 :].write_parquet(folder / "rows of it" / "a+2.parquet")
    (folder / "d.py").write_text(DETECTOR)
    return folder


def build(folder, environment, data, *more, code=0):
    command = [
        sys.executable, "-m", "sentinel", "features", "build", "--detector", str(folder / "d.py"),
        "--data", str(folder / data), *more,
    ]  # fmt: skip
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == code, done.stderr[-3000:]
    return done.stderr


@pytest.mark.timeout(1800)
def test_spark_builds_what_one_machine_builds(spark, given):
    said = build(
        given, spark, "rows of it", "--out", str(given / "spark.parquet"), "--engine", "spark", "--master", "local[1]"
    )
    first = 1_407 - N // 3 + 1  # of those without an amount, in the file whose name comes first
    assert f"skipped 40 rows: amount is missing, first row {first}" in said
    assert "skipped 40 rows: amount is missing" in build(
        given, os.environ, "rows of it", "--out", str(given / "local.parquet")
    )
    local = pl.read_parquet(given / "local.parquet").sort("transaction_id")
    found = pl.read_parquet(given / "spark.parquet").sort("transaction_id")
    assert found["transaction_id"].to_list() == local["transaction_id"].to_list()
    assert len(found) == N - N // 100
    for name in local.columns[1:]:
        assert found[name].to_numpy().tobytes() == local[name].to_numpy().tobytes(), name


@pytest.mark.skipif("CI" in os.environ, reason="a second start of Spark takes 25 s of processor time")
@pytest.mark.timeout(1800)
def test_an_id_that_comes_twice_is_refused(spark, given):
    rows = pl.read_parquet(given / "rows of it" / "b 1.parquet")
    pl.concat([rows, rows.tail(1)]).write_parquet(given / "twice.parquet")
    said = build(
        given, spark, "twice.parquet", "--out", str(given / "no.parquet"), "--engine", "spark",
        "--master", "local[1]", code=1,
    )  # fmt: skip
    assert "the same value twice" in said
    assert not (given / "no.parquet").exists()


def test_without_spark_it_is_said_where_it_comes_from(given):
    environment = {name: value for name, value in os.environ.items() if name != "SENTINEL_SPARK_PYTHON"}
    said = build(given, environment, "rows of it", "--out", str(given / "no.parquet"), "--engine", "spark", code=1)
    assert "services install spark" in said
