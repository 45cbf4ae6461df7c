"""Reference tables through the whole product: from files to a proven model, and any rows told to a running server."""

import asyncio
import json
import random
import shutil
import subprocess
import sys
from contextlib import closing

import pytest

from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.model.bundle import read_manifest
from sentinel.record.applied import log_folder
from sentinel.record.entries import decision_rows
from sentinel.record.log import Follower, Kind
from sentinel.record.log_reader import FileLogReader
from sentinel.transport.client import Client

HOST = "127.0.0.1"
START_S = 1_738_400_000


def sentinel(*arguments, fails=False):
    done = subprocess.run(
        [sys.executable, "-m", "sentinel", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode != 0) == fails, done.stderr[-2000:]
    return done


@pytest.fixture(scope="module")
def detector(shop_detector):
    return shop_detector.replace("shop_detector", "shop_with_tables_detector")


@pytest.fixture(scope="module")
def given(table_shop_files, detector):
    files = table_shop_files
    data = ["--detector", detector, "--data", files["history"]]
    return data, ["--table", f"cards={files['cards']}", "--table", f"nets={files['nets']}"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, given):
    data, tables = given
    home = tmp_path_factory.mktemp("trained") / "home"
    done = sentinel("train", *data, *tables, "--home", home)
    assert "400 rows of the table cards" in done.stderr
    return home


def test_a_bundle_says_which_tables_it_was_trained_with(trained):
    tables = read_manifest(trained / "models" / "v1").history.tables
    assert {name: one.rows for name, one in tables.items()} == {"cards": 400, "nets": 3}
    assert all(len(one.sha256) == 64 for one in tables.values())


def test_a_table_that_is_declared_has_to_be_given_or_left_out_by_name(given, tmp_path):
    data, tables = given
    home = ["--home", tmp_path / "home"]
    said = sentinel("train", *data, *tables[:2], *home, fails=True).stderr
    assert "looks transactions up in the table nets, and no file of it is given" in said
    assert "--table nets=none to do without" in said.replace("\n", " ")
    said = sentinel("train", *data, *tables, "--table", "shops=x.csv", *home, fails=True).stderr
    assert "no such table; it has cards, nets" in said.replace("\n", " ")
    sentinel("train", *data, *tables[:2], "--table", "nets=none", *home)
    assert list(read_manifest(tmp_path / "home" / "models" / "v1").history.tables) == ["cards"]


def test_a_model_is_measured_with_the_same_tables_on_the_part_that_it_did_not_see(trained, given):
    data, tables = given
    said = sentinel("evaluate", *data, *tables, "--home", trained).stderr
    assert "measured on the test part of the model's own history" in said
    others = [*tables[:2], "--table", "nets=none"]
    assert "of the time that the model learned from" in sentinel("evaluate", *data, *others, "--home", trained).stderr


def test_live_features_are_those_of_the_file_to_the_bit(given):
    data, tables = given
    report = json.loads(sentinel("parity", *data, *tables, "--events", 2_000, "--json").stdout)
    assert (report["differing"], report["killed"]) == (0, 1)
    assert report["compared"] == 2_000 * report["features"]


def test_tables_are_loaded_and_shown_without_a_server(trained, table_shop_files, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(trained, home)
    said = sentinel("tables", "load", "cards", table_shop_files["cards"], "--home", home).stderr
    assert "cards: 400 rows, 400 changed, 0 removed" in said
    assert (
        "400 rows, 0 changed" in sentinel("tables", "load", "cards", table_shop_files["cards"], "--home", home).stderr
    )
    sentinel("tables", "load", "nets", table_shop_files["nets"], "--home", home)
    shown = json.loads(sentinel("tables", "show", "nets", "10.1.2.3", "--home", home, "--json").stdout)
    assert (shown["first"], shown["last"], shown["columns"]) == (
        "10.1.0.0",
        "10.1.5.255",
        {"country": "FR", "asn": 64501},
    )
    listed = json.loads(sentinel("tables", "show", "--home", home, "--json").stdout)["tables"]
    assert {one["name"]: one["rows"] for one in listed} == {"cards": 200, "nets": 3}
    assert "no row in force" in sentinel("tables", "show", "nets", "9.9.9.9", "--home", home, fails=True).stderr
    assert "no table 'shops'" in sentinel("tables", "show", "shops", "x", "--home", home, fails=True).stderr
    audited = json.loads(sentinel("audit", "--home", home, "--json").stdout)
    assert [one["what"] for one in audited["changes"][:2]] == ["tables load", "tables load"]


# any rows, told in any order


class Rows:
    """Rows as they were told, each key and moment with the last that was said of it."""

    def __init__(self):
        self.cards, self.nets = {}, {}

    def expected(self, payment):
        card = self._last(self.cards, payment["card"], payment["event_time"])
        net = self._last(self.nets, payment["ip"].rpartition(".")[0], payment["event_time"])
        return {f"cards_{name}": one for name, one in card.items()} | {f"nets_{name}": one for name, one in net.items()}

    def _last(self, rows, key, moment):
        at = [when for one, when in rows if one == key and when <= moment]
        return rows[key, max(at)] if at else {}


def told(rng, rows):
    if rng.random() < 0.5:
        key, when = f"c{rng.randint(0, 5)}", START_S + rng.randint(0, 20)
        columns = rng.choice([{}, {"limit": rng.randint(1, 10**6) / 100}, {"score": rng.random(), "home": "DE"}])
        rows.cards[key, when] = columns
        return "/v1/tables/cards", {"card": key, "valid_from": when, **columns}
    key, when = f"10.0.{rng.randint(0, 3)}", START_S + rng.randint(0, 20)
    columns = rng.choice([{}, {"country": rng.choice("ABC")}, {"asn": float(rng.randint(1, 9))}])
    rows.nets[key, when] = columns
    return "/v1/tables/nets", {"first": f"{key}.0/24", "valid_from": when, **columns}


async def talk(port, life, rng, rows, expected):
    async with Client(HOST, port, 2) as client:
        for n in range(60):
            for _ in range(rng.choice((0, 1, 3))):
                path, row = told(rng, rows)
                status, raw, _ = await client.post(path, json.dumps(rng.choice([row, [row], [row, row]])).encode())
                assert status == 200, raw
            paid = [
                {
                    "transaction_id": f"{life}-{n}-{i}", "event_time": START_S + rng.randint(-1, 21), "amount": 1,
                    "card": f"c{rng.randint(0, 6)}", "shop": "s", "ip": f"10.0.{rng.randint(0, 4)}.{rng.randint(0, 255)}",
                }
                for i in range(rng.choice((1, 5)))
            ]  # fmt: skip
            status, raw, _ = await client.post("/v1/score", json.dumps(paid).encode())
            assert status == 200, raw
            expected |= {one["transaction_id"]: rows.expected(one) for one in paid}


def test_what_was_told_in_any_order_is_found_as_of_the_time_of_each_transaction(tmp_path, table_shop_home):
    home, rng, rows, expected = tmp_path / "home", random.Random(11), Rows(), {}
    shutil.copytree(table_shop_home, home)
    server = ServerProcess(home, HOST, free_port(HOST))
    try:
        for life in range(3):
            server.start()
            asyncio.run(talk(server.port, life, rng, rows, expected))
            server.kill()
    finally:
        server.stop()
    with closing(FileLogReader(log_folder(home))) as log:
        decided = [one for page in Follower(log, 0).rest() for one in page if one.kind == Kind.DECIDED]
    found = {row.transaction_id: json.loads(row.content) for one in decided for row in decision_rows(one)}
    assert found.keys() >= expected.keys()
    for name, one in expected.items():
        said = {field: value for field, value in found[name].items() if field.startswith(("cards_", "nets_"))}
        assert {field: value for field, value in said.items() if value is not None} == one
