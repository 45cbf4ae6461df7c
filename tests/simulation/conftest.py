"""The models of the simulated shop, trained once, and runs with them."""

import pytest
import shop
from witness import Models

from sentinel.model.bundle import load_bundle
from simulation import on_machines


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Models:
    folder = tmp_path_factory.mktemp("simulated") / "models"
    shop.train_models(folder)
    return Models(folder, load_bundle)


@pytest.fixture(scope="session")
def context_models(tmp_path_factory) -> Models:
    folder = tmp_path_factory.mktemp("simulated_with_events") / "models"
    shop.train_models(folder, shop.EVENTS)
    return Models(folder, load_bundle)


@pytest.fixture
def run_with_context(context_models):
    """The same as `run_of`, of a shop that knows context events."""
    with on_machines(context_models) as run_of:
        yield run_of


@pytest.fixture
def run_of(models):
    """Makes runs: `run_of(seed)`; each is over when the next is made."""
    with on_machines(models) as run_of:
        yield run_of
