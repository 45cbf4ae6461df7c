"""The helper of these tests: a disk whose power can be cut."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def simulated_disk():
    """The module with `SimulatedDisk` and `PowerCut`."""
    path = Path(__file__).with_name("simulated_disk.py")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
