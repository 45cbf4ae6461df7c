"""What these tests need: a disk whose power can be cut, and new logs in a broker."""

import importlib.util
from pathlib import Path
from secrets import token_hex

import pytest

from sentinel.record.kafka.connection import client_settings
from sentinel.record.kafka.place import Place


@pytest.fixture(scope="session")
def simulated_disk():
    """The module with `SimulatedDisk` and `PowerCut`."""
    path = Path(__file__).with_name("simulated_disk.py")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def new_kafka_place(service):
    """Makes places of new logs in the broker that runs here, each with the settings of its clients."""
    servers = service("kafka").environment["SENTINEL_KAFKA"]

    def make() -> tuple[Place, dict[str, object]]:
        place = Place(servers, f"test-{token_hex(4)}-")
        return place, client_settings(place, {})

    return make
