"""What is personal is stored encrypted, survives a kill -9, and is erased for good; nothing else changes."""

import http.client
import json
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.config import Settings
from sentinel.detectors import load_detector
from sentinel.events.files import history_of_frame, read_history
from sentinel.model.bundle import load_bundle
from sentinel.model.registry import Registry
from sentinel.record.applied import HomeDeployment, log_folder
from sentinel.record.entries import decision_rows
from sentinel.record.feature_state import FeatureState, activation_of
from sentinel.record.log import Follower, Kind
from sentinel.record.log_reader import FileLogReader
from sentinel.train.pipeline import train

HOST = "127.0.0.1"
KEY = {"SENTINEL_HASH_KEY": "Zr8Qm1pX0vK5tB7nC3yL9wE2sD4fG6hJ"}
EMAILS = [f"ann.{n}@mail.example" for n in range(5)]


@pytest.fixture(scope="module")
def home(shop_detector, shop_history, tmp_path_factory):
    """A home whose detector takes `channel` for something personal of the card."""
    file = tmp_path_factory.mktemp("personal") / "personal_shop.py"
    declared = 'personal={"channel": "card"}, secret=("card",), keys='
    file.write_text(Path(shop_detector).read_text().replace("keys=", declared, 1))
    detector, home = load_detector(str(file)), tmp_path_factory.mktemp("erasure") / "home"
    secrets = Settings(home=home, hash_key=KEY["SENTINEL_HASH_KEY"]).secrets()
    history = history_of_frame(shop_history, detector.schema, secrets=secrets)
    HomeDeployment(home).promote(train(detector, history, Registry(home / "models"), lambda *_: None).version)
    return home


@pytest.fixture
def server(home):
    server = ServerProcess(home, HOST, free_port(HOST), environment=KEY)
    yield server
    server.stop()


def ask(server, method, path, body=None):
    connection = http.client.HTTPConnection(HOST, server.port, timeout=30)
    connection.request(method, path, body and json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read())
    connection.close()
    return found


def email_of(server, name):
    return ask(server, "GET", f"/v1/decisions/{name}")[1]["transaction"]["channel"]


def payment(n, begun):
    return {
        "transaction_id": f"t{n}", "event_time": begun + n, "amount": 5.0, "card": f"card-{n % 5}", "shop": "s",
        "risk": 0.5, "channel": EMAILS[n % 5],
    }  # fmt: skip


def everything_in(folder):
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def erase(home, subject):
    command = [sys.executable, "-m", "sentinel", "erase", subject, "--home", str(home), "--json"]
    done = subprocess.run(command, capture_output=True, env=ServerProcess(home, HOST, 1, environment=KEY)._environment)
    return done.returncode, json.loads(done.stdout or b"{}"), done.stderr.decode()


def assert_features_can_be_computed_again(home):
    bundle, log = load_bundle(home / "models" / "v1"), FileLogReader(log_folder(home))
    state = FeatureState(bundle, activation_of(log, bundle.state_id))
    state.store = bundle.new_store()
    compared = 0
    for page in Follower(log, state.begin).rest():
        for record in page:
            again = state.take(record)
            if record.kind == Kind.DECIDED:
                stored = np.stack([row.features for row in decision_rows(record)])
                np.testing.assert_array_equal(again.rows.view(np.uint64), stored.view(np.uint64))
                compared += stored.size
    log.close()
    return compared


def note_about(server, n):
    """The number of a case about a payment, which somebody has opened by hand, and what they wrote in it."""
    email = EMAILS[n % 5]
    opened = {"transaction_id": f"t{n}", "reason": f"{email} complains"}
    status, case = ask(server, "POST", "/v1/cases", opened)
    assert status == 200, case
    at = f"/v1/cases/{case['case']}"
    assert ask(server, "POST", f"{at}/notes", {"text": f"wrote to {email}"})[0] == 200
    link = {"address": f"https://wiki.example/{email}", "title": email}
    assert ask(server, "POST", f"{at}/links", link)[0] == 200
    assert EMAILS[n % 5] in said_of(server, case["case"])
    return case["case"]


def said_of(server, number):
    return json.dumps(ask(server, "GET", f"/v1/cases/{number}")[1])


def replay(home, name):
    command = [sys.executable, "-m", "sentinel", "replay", name, "--home", str(home), "--json"]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def test_the_keys_file_is_there_before_the_first_transaction(home, server):
    assert not (home / "subjects.db").exists()
    server.start()
    assert (home / "subjects.db").exists()


def test_what_is_personal_is_erased_and_nothing_else_changes(home, server, tmp_path):
    server.start()
    begun = int(time.time()) - 1000
    first = [ask(server, "POST", "/v1/score", payment(n, begun)) for n in range(30)]
    assert {status for status, _ in first} == {200}
    assert ask(server, "POST", "/v1/score", payment(30, begun) | {"channel_sealed": "x"})[0] == 422
    cases = {n: note_about(server, n) for n in (1, 2)}
    server.kill()
    server.start()
    assert [email_of(server, f"t{n}") for n in range(30)] == [EMAILS[n % 5] for n in range(30)]
    assert all(ask(server, "POST", "/v1/score", payment(n, begun))[1]["replayed"] for n in range(30))

    code, done, _ = erase(home, "card=card-1")
    assert (code, done["found"], done["value"][:3], done["cases"]) == (0, True, "s1_", 1)
    assert (EMAILS[1] in said_of(server, cases[1]), EMAILS[2] in said_of(server, cases[2])) == (False, True)
    assert {email_of(server, f"t{n}") for n in range(1, 30, 5)} == {"erased"}
    assert email_of(server, "t2") == EMAILS[2]
    code, done, _ = erase(home, "card=card-1")
    assert (code, done["found"]) == (0, False)

    again = [ask(server, "POST", "/v1/score", payment(n, begun)) for n in range(30)]
    assert [answer | {"replayed": False} for _, answer in again] == [answer for _, answer in first]
    assert ask(server, "POST", "/v1/score", payment(1, begun) | {"channel": "other"})[0] == 409
    assert ask(server, "POST", "/v1/score", payment(31, begun))[0] == 200
    assert email_of(server, "t31") == EMAILS[1]
    assert {email_of(server, f"t{n}") for n in range(1, 30, 5)} == {"erased"}

    command = [
        sys.executable,
        "-m",
        "sentinel",
        "history",
        "export",
        str(tmp_path / "h.parquet"),
        "--home",
        str(home),
        "--json",
    ]
    exported = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    history = pl.read_parquet(tmp_path / "h.parquet")
    assert (exported["erased"], exported["transactions"]) == (6, 25)
    assert set(history["transaction_id"]) == {f"t{n}" for n in range(30) if n % 5 != 1} | {"t31"}
    assert "channel_sealed" not in history.columns
    assert history["channel"].str.starts_with("s1_").all(), "the text of somebody is nowhere"
    secrets = Settings(home=home, hash_key=KEY["SENTINEL_HASH_KEY"]).secrets()
    schema = load_bundle(home / "models" / "v1").manifest.plan.schema
    read = read_history(tmp_path / "h.parquet", schema, secrets=secrets)
    assert read.frame["card"].to_list() == history["card"].to_list()

    noted = HomeDeployment(home).audit(1).changes[0]
    assert json.loads(noted.after) == {"erased": "card", "value": done["value"]}
    assert "card-1" not in str(noted)
    assert done["value"][:3] == "s1_"

    server.stop()
    code, done, _ = erase(home, "card=card-2")
    assert (code, done["found"], done["cases"]) == (0, True, 1)
    for subject, said in (("shop=s", "subjects are named by card"), ("nobody", "KEY=VALUE")):
        code, _, error = erase(home, subject)
        assert code == 1
        assert said in error
    noted = HomeDeployment(home).audit(1).changes[0]
    assert (noted.what, noted.where, noted.asked) == ("erase", "command line", '{"key":"card"}')
    assert json.loads(noted.after) == {"erased": "card", "value": done["value"], "erased_at": done["position"]}
    assert "card-2" not in str(noted)
    server.start()
    assert email_of(server, "t2") == "erased"
    assert EMAILS[2] not in said_of(server, cases[2])
    for name, erased in (("t2", ["channel"]), ("t3", [])):
        receipt = replay(home, name)
        assert (receipt["same"], receipt["erased"]) == (True, erased)
    server.stop()
    assert assert_features_can_be_computed_again(home) > 300
    stored = everything_in(home)
    assert not any(email.encode() in stored for email in EMAILS)
    log = FileLogReader(log_folder(home))
    kinds = [record.kind for page in Follower(log, 0).rest() for record in page]
    log.close()
    assert kinds.count(Kind.ERASED) == 3
    before_first = kinds[: kinds.index(Kind.ERASED)]
    assert before_first[-1] == Kind.AUDIT, "an entry too many after a crash, never one too few"


def test_what_is_refused_leaves_no_key(home, server):
    """Not in the file, and not once something else is stored either."""
    server.start()
    begun = int(time.time()) - 1000

    def subjects():
        with closing(sqlite3.connect(home / "subjects.db")) as file:
            return {name for (name,) in file.execute("SELECT subject FROM subjects")}

    assert ask(server, "POST", "/v1/score", payment(200, begun))[0] == 200
    before = subjects()
    for n in range(5):
        card = {"card": f"refused-{n}"}
        assert ask(server, "POST", "/v1/score", payment(200, begun) | card)[0] == 409
        assert ask(server, "POST", "/v1/score", payment(210 + n, begun + 90_000) | card)[0] == 422
        answers = ask(server, "POST", "/v1/score", [payment(200, begun) | card, payment(200, begun)])[1]
        assert [one.get("status", 200) for one in answers] == [409, 200]
    assert ask(server, "POST", "/v1/score", payment(220, begun) | {"card": "taken"})[0] == 200
    assert len(subjects() - before) == 1
    assert email_of(server, "t220") == EMAILS[0]
