"""Keepers of services whose folder goes when the test ends."""

import pytest

from services.keeper import Keeper


@pytest.fixture
def keep(tmp_path):
    """Makes a keeper of some services; what it started is ended."""
    kept = []

    def make(*services, folder=tmp_path / "services"):
        folder.mkdir(exist_ok=True)
        for one in services:  # nothing to install, so nothing is asked of the network
            (folder / f"venv-{one.name}").mkdir(exist_ok=True)
            (folder / f"venv-{one.name}" / "packages.txt").write_text("")
        kept.append(Keeper({one.name: one for one in services}, folder))
        return kept[-1]

    yield make
    for keeper in kept:
        for name in keeper.catalog:
            keeper.stop(name)
