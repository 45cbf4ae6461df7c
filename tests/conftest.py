"""A small detector and a bundle trained on it once: what the tests of the online half run on."""

import gc
import importlib.util
import os
import shutil

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before XGBoost is loaded; see cli.main
for patient in ("SENTINEL_DEADLINE_MS", "SENTINEL_CIRCUIT_THRESHOLD_MS"):
    os.environ.setdefault(patient, "5000")  # a busy machine is no fault of ours; a test in haste sets its own

from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest

from sentinel.detectors import load_detector
from sentinel.events.files import history_of_frame, read_history
from sentinel.events.reference_tables.files import read_table, with_tables
from sentinel.model.registry import Registry
from sentinel.policy.fault_matrix import MATRIX, Cell
from sentinel.record.applied import HomeDeployment, log_folder
from sentinel.record.entries import DecisionRow, OutcomeRow, decision_rows, outcome_rows
from sentinel.record.log import Follower, Kind
from sentinel.record.log_reader import FileLogReader
from sentinel.train.pipeline import train
from services.catalog import CATALOG, JARS, PACKAGES
from services.keeper import Keeper
from services.service import Running, ServiceFailed
from tests.own_services import OwnBroker


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "fault(dependency, fault): brings about a fault of the table in policy/fault_matrix.py"
    )


LONGEST_FIRST = ("scenarios", "simulation", "transport", "features", "commands", "record", "shadow", "serve")
"""Folders whose files take long. Several processes are given a file each: at the end short ones have to be left."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        folder = item.path.relative_to(here).parts[0] if item.path.is_relative_to(here) else ""
        return LONGEST_FIRST.index(folder) if folder in LONGEST_FIRST else len(LONGEST_FIRST)

    items.sort(key=place)
    gc.collect()
    gc.freeze()  # some thousand tests and all libraries stay: the collector need not look at them again and again


@pytest.fixture
def cell(request) -> Cell:
    """What the table says about the fault that this test brings about."""
    mark = request.node.get_closest_marker("fault")
    return next(one for one in MATRIX if one[:2] == mark.args)


@pytest.fixture(scope="session")
def program():
    """Finds a program that is none of ours. Where it is not installed the test is skipped; in CI, which installs it, it fails."""

    def find(name: str, package: str) -> str:
        found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
        if found is None:
            missing = f"there is no {name} here; apt-get install {package}"
            pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
        return found

    return find


START_US = 1_735_689_600_000_000  # 2025-01-01

SHOP_FILE = Path(__file__).with_name("shop_detector.py")
SHOP = load_detector(str(SHOP_FILE))
EVENT_SHOP = load_detector(str(Path(__file__).with_name("shop_with_events_detector.py")))

TABLE_SHOP_FILE = Path(__file__).with_name("shop_with_tables_detector.py")
TABLE_SHOP = load_detector(str(TABLE_SHOP_FILE))


def shop_frame(n: int, seed: int = 1) -> pl.DataFrame:
    """n transactions over 30 days; large amounts and one bad shop are fraud more often."""
    rng = np.random.default_rng(seed)
    times = START_US + np.sort(rng.integers(0, 30 * 86_400_000_000, n))
    amounts = np.rint(rng.lognormal(3, 1, n) * 100) / 100 + 0.01
    shops = rng.integers(0, 40, n)
    chance = np.where(shops == 3, 0.25, 0.01) + np.where(amounts > 120, 0.3, 0.0)
    return pl.DataFrame(
        {
            "transaction_id": [f"h{seed}-{i}" for i in range(n)],
            "event_time": times,
            "amount": np.round(amounts, 2),
            "card": [f"card-{one}" for one in rng.integers(0, 200, n)],
            "shop": [f"shop-{one}" for one in shops],
            "channel": [(None, "web", "chip", "web")[one] for one in rng.integers(0, 4, n)],
            "risk": rng.normal(size=n),
            "is_fraud": rng.random(n) < chance,
        }
    )


@pytest.fixture(scope="session")
def make_shop_frame():
    """Makes histories of the small detector, by how many rows and a seed."""
    return shop_frame


@pytest.fixture(scope="session")
def shop_history() -> pl.DataFrame:
    """What the small detector is trained on."""
    return shop_frame(6000)


@pytest.fixture(scope="session")
def shop_home(tmp_path_factory) -> Path:
    """A home folder with one trained model; copy it before you write to it."""
    home = tmp_path_factory.mktemp("home")
    registry = Registry(home / "models")
    manifest = train(SHOP, history_of_frame(shop_frame(6000), SHOP.schema), registry, lambda *_: None)
    HomeDeployment(home).promote(manifest.version)
    return home


@pytest.fixture(scope="session")
def event_shop_home(tmp_path_factory) -> Path:
    """A home folder with a model of the shop that knows context events; copy it before you write to it."""
    home = tmp_path_factory.mktemp("events") / "home"
    history = history_of_frame(shop_frame(6000), EVENT_SHOP.schema)
    HomeDeployment(home).promote(train(EVENT_SHOP, history, Registry(home / "models"), lambda *_: None).version)
    return home


def table_files(folder: Path, n: int = 200) -> dict[str, Path]:
    """Files of the tables of the shop that has some: of cards with versions, and of addresses."""
    rng = np.random.default_rng(7)
    versions = pl.DataFrame(
        {
            "card": [f"card-{one}" for one in range(n)] * 2,
            "valid_from": ["1970-01-01"] * n + ["2025-01-15T12:00:00Z"] * n,
            "limit": [f"{one:.2f}" for one in rng.integers(1, 100_000, 2 * n) / 100],
            "score": rng.normal(size=2 * n),
            "home": [("DE", "FR", "")[one] for one in rng.integers(0, 3, 2 * n)],
            "opened": ["2019-05-01", "2024-12-24 18:00"] * n,
        }
    )
    files = {"cards": folder / "cards.csv", "nets": folder / "nets.csv"}
    versions.write_csv(files["cards"])
    files["nets"].write_text(
        "first,last,country,asn\n10.0.0.0/16,,DE,64500\n10.1.0.0,10.1.5.255,FR,64501\n2001:db8::/32,,,64502\n"
    )
    return files


def with_addresses(frame: pl.DataFrame) -> pl.DataFrame:
    """A history of the shop with addresses."""
    made = ["10.0.7.7", "10.1.2.3", "10.9.9.9", "2001:db8::9", None, "nowhere"]
    return frame.with_columns(pl.Series("ip", [made[n % 6] for n in range(len(frame))]))


@pytest.fixture(scope="session")
def table_shop_files(tmp_path_factory) -> dict[str, Path]:
    """The files of the tables of the shop that has some, and `history`, of its transactions."""
    folder = tmp_path_factory.mktemp("tables")
    with_addresses(shop_frame(6000)).write_csv(folder / "history.csv")
    return {**table_files(folder), "history": folder / "history.csv"}


@pytest.fixture(scope="session")
def table_shop_home(tmp_path_factory, table_shop_files) -> Path:
    """A home folder with a model of the shop that has tables, which nobody has loaded yet. Copy it."""
    home = tmp_path_factory.mktemp("table_shop") / "home"
    schema = TABLE_SHOP.schema
    files = {name: read_table(table_shop_files[name], schema, name) for name in schema.tables}
    history = with_tables(read_history(table_shop_files["history"], schema), schema, files)
    HomeDeployment(home).promote(train(TABLE_SHOP, history, Registry(home / "models"), lambda *_: None).version)
    return home


def train_more(
    home: Path, history: pl.DataFrame, *, features: int | None = None, seed: int = 42, **learner: int
) -> str:
    """One more version of the small detector, or of one with only its first `features`."""
    learner = msgspec.structs.replace(SHOP.training.learner, **learner)
    detector = msgspec.structs.replace(
        SHOP,
        features=SHOP.features[:features],
        training=msgspec.structs.replace(SHOP.training, learner=learner, seed=seed),
    )
    return train(detector, history_of_frame(history, SHOP.schema), Registry(home / "models"), lambda *_: None).version


@pytest.fixture(scope="session")
def two_models_home(tmp_path_factory, shop_home) -> Path:
    """A home folder with the champion v1, and v2 of the same history: another model on the same state. Copy it."""
    home = tmp_path_factory.mktemp("two") / "home"
    shutil.copytree(shop_home, home)
    train_more(home, shop_frame(6000), trees=15, seed=7, max_depth=3)
    return home


@pytest.fixture(scope="session")
def four_models_home(tmp_path_factory, two_models_home) -> Path:
    """Besides v1 and v2: v3 learned from a history that ends ten days later, v4 from fewer features. Copy it."""
    home = tmp_path_factory.mktemp("four") / "home"
    shutil.copytree(two_models_home, home)
    later = shop_frame(4000, seed=2).with_columns(pl.col("event_time") + 10 * 86_400_000_000)
    train_more(home, later, trees=15)
    train_more(home, shop_frame(6000), features=8, trees=15)
    return home


def stored_in(home: Path) -> list[DecisionRow | OutcomeRow]:
    """Every decision and outcome in the log of a home folder, in its order; a server may run meanwhile."""
    log = FileLogReader(log_folder(home))
    rows: list[DecisionRow | OutcomeRow] = []
    for page in Follower(log, 0).rest():
        for record in page:
            if record.kind == Kind.DECIDED:
                rows += decision_rows(record)
            elif record.kind == Kind.OUTCOMES:
                rows += outcome_rows(record)
    log.close()
    return rows


@pytest.fixture(scope="session")
def stored():
    """The function `stored_in`."""
    return stored_in


@pytest.fixture(scope="session")
def shop_file(tmp_path_factory) -> Path:
    """A history of the small detector as a CSV file."""
    path = tmp_path_factory.mktemp("history") / "shop.csv"
    shop_frame(6000).write_csv(path)
    return path


@pytest.fixture(scope="session")
def shop_detector() -> str:
    """The path of the small detector's file."""
    return str(SHOP_FILE)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of public benchmark data; tests that need it are skipped where it is not."""
    folder = Path(os.environ.get("SENTINEL_DATA_DIR", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no benchmark data in {folder}; set SENTINEL_DATA_DIR")
    return folder


@pytest.fixture(scope="session")
def service():
    """Finds a service that `make services` started: its address, and what its clients set in their environment.

    Where it does not run the test is skipped. One that SENTINEL_TEST_REQUIRE names (`s3,mlflow`) is started, and the test
    fails where that cannot be done.
    """
    keeper = Keeper(CATALOG)
    required = os.environ.get("SENTINEL_TEST_REQUIRE", "").replace(",", " ").split()

    def find(name: str) -> Running:
        found = keeper.running(name)
        if found is not None:
            return found
        if name not in required:
            pytest.skip(f'{name} does not run here; make services NAMES="{name}", or SENTINEL_TEST_REQUIRE={name}')
        try:
            return keeper.up(name, lambda _said: None)
        except ServiceFailed as problem:
            pytest.fail(str(problem))

    return find


@pytest.fixture(scope="session")
def new_own_kafka(service):
    """Makes a broker in a folder, not started yet, with what the one that runs here was installed with."""

    def make(folder: Path) -> OwnBroker:
        service("kafka")
        return OwnBroker(folder, Keeper(CATALOG).folder)

    return make


@pytest.fixture
def own_kafka(new_own_kafka, tmp_path):
    """A broker of this test's own."""
    broker = new_own_kafka(tmp_path / "own-services")
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def environment_of():
    """Finds the environment of a program that is not ours, such as Airflow's.

    Where it was not made the test is skipped. One that SENTINEL_TEST_REQUIRE names is made.
    """
    keeper = Keeper(CATALOG)
    required = os.environ.get("SENTINEL_TEST_REQUIRE", "").replace(",", " ").split()

    def find(name: str) -> Path:
        folder = keeper.folder / f"venv-{name}"
        if (folder / "packages.txt").exists():
            return folder
        if name not in required:
            pytest.skip(f"{name} is not installed here; .venv/bin/python -m services install {name}")
        try:
            return keeper.install(name, PACKAGES[name], lambda _said: None, JARS.get(name, ()))
        except ServiceFailed as problem:
            pytest.fail(str(problem))

    return find


def _record_helper(name: str):
    path = Path(__file__).parent / "record" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def fake_log():
    """The module with `FakeLog`, a log in memory."""
    return _record_helper("fake_log")


@pytest.fixture(scope="session")
def made():
    """The module that makes records."""
    return _record_helper("made_records")
