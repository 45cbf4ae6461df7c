"""The public data with published results: our features are the authors' own, and a model beats ranking by value."""

import json
import subprocess
import sys

import numpy as np
import polars as pl

REFERENCE = "handbook_reference_features_2018-04_to_2018-07.parquet"


def sentinel(*arguments):
    command = [sys.executable, "-m", "sentinel", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_features_are_those_of_the_handbook(data_dir, tmp_path):
    data = data_dir / "handbook_simulated.parquet"
    sentinel("features", "build", "--detector", "handbook", "--data", data, "--out", tmp_path / "f.parquet")
    mine = pl.read_parquet(tmp_path / "f.parquet").with_columns(pl.col("tx_id").cast(pl.UInt32))
    theirs = pl.read_parquet(data_dir / REFERENCE)
    assert mine.columns[: len(theirs.columns)] == theirs.columns
    both = theirs.join(mine, on="tx_id", suffix="_mine")
    assert len(both) == len(theirs) == 1_169_723
    transactions = pl.read_parquet(data)
    tied = transactions.filter(pl.struct("customer_id", "tx_datetime").is_duplicated())["tx_id"]
    untied = both.filter(~pl.col("tx_id").is_in(tied.implode()))
    assert len(both) - len(untied) <= 58
    for name in theirs.columns[1:]:
        expected, found = untied[name].cast(pl.Float64).to_numpy(), untied[f"{name}_mine"].to_numpy()
        tolerance = 0.0 if "nb_tx" in name or "during" in name else 1e-9
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance, err_msg=name)


def test_real_payments_are_ranked_better_than_by_value(data_dir, tmp_path):
    given = ["--detector", "xente", "--data", data_dir / "xente_2018-11-15_to_2019-01-19.parquet", "--home", tmp_path]
    sentinel("train", *given)
    metrics = json.loads(sentinel("evaluate", *given, "--json"))["metrics"]
    precision, by_value = metrics["average_precision"], metrics["baselines"]["value"]
    assert precision["low"] < precision["value"] < precision["high"]
    assert precision["value"] > by_value["value"]
