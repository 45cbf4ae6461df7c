"""A detector of payments that have a device and a place, and a model of it."""

from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest

from sentinel.events.files import history_of_frame
from sentinel.events.schema import Schema
from sentinel.model.registry import Registry
from sentinel.record.applied import HomeDeployment
from sentinel.train.pipeline import train
from tests.shop_detector import detector as shop

DETECTOR = msgspec.structs.replace(
    shop,
    schema=Schema(
        keys=("card", "shop", "device"),
        categories=("channel",),
        numbers=("risk",),
        place=("latitude", "longitude"),
        optional=("channel", "risk", "device", "latitude", "longitude"),
    ),
)


@pytest.fixture(scope="session")
def placed_home(tmp_path_factory, shop_history) -> Path:
    """A home folder with one model of that detector; copy it before you write to it."""
    home = tmp_path_factory.mktemp("placed") / "home"
    rng = np.random.default_rng(5)
    n = 1_500
    frame = shop_history.head(n).with_columns(
        device=pl.Series([f"device-{one}" for one in rng.integers(0, 90, n)]),
        latitude=pl.Series(rng.uniform(40, 50, n)),
        longitude=pl.Series(rng.uniform(0, 10, n)),
    )
    manifest = train(DETECTOR, history_of_frame(frame, DETECTOR.schema), Registry(home / "models"), lambda *_: None)
    HomeDeployment(home).promote(manifest.version)
    return home
