"""Every command that reads the log, on a home folder whose log is in Kafka; those that write without its server say no."""

import json
import secrets
import shutil

import pytest
from typer.testing import CliRunner

from sentinel.cli import app
from sentinel.commands.server_process import ServerProcess, free_port

HOST = "127.0.0.1"
BOOK = """
rules:
  - {name: large, when: "amount > 500", do: review, reason: a large amount}
"""


def payments():
    return [
        {"transaction_id": f"t{n}", "event_time": 1_738_400_000 + n, "amount": 10 + 7 * n % 900, "card": f"card-{n % 9}",
         "shop": f"shop-{n % 7}", "channel": "web"}
        for n in range(90)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def home(service, shop_home, post, tmp_path_factory):
    """A home with 90 decisions and the outcomes of 60 in Kafka; its server has ended."""
    home = tmp_path_factory.mktemp("kafka") / "home"
    shutil.copytree(shop_home, home)
    environment = {"SENTINEL_LOG": "kafka", "SENTINEL_KAFKA": service("kafka").environment["SENTINEL_KAFKA"],
                   "SENTINEL_KAFKA_PREFIX": f"test-{secrets.token_hex(4)}-"}  # fmt: skip
    server = ServerProcess(home, HOST, free_port(HOST), environment=environment)
    server.start()
    try:
        for n in range(0, 90, 30):
            post(server.port, "/v1/score", payments()[n : n + 30])
        told = [{"transaction_id": f"t{n}", "is_fraud": n % 2 == 0, "source": "bank"} for n in range(60)]
        post(server.port, "/v1/outcomes", told)
        back = run(home, "outcomes", "revoke", "--key", "nobody", "--reason", "none was his")
        assert back["outcomes"] == 0
    finally:
        server.stop()
    return home


def run(home, *given, code=0):
    as_json = ["--json"] if code == 0 else []
    done = CliRunner().invoke(app, [*map(str, given), "--home", str(home), *as_json])
    assert done.exit_code == code, (done.output, done.exception)
    return json.loads(done.stdout) if code == 0 else " ".join(done.stderr.split())


def test_the_whole_log_is_verified(home):
    found = run(home, "log", "verify")
    assert (found["findings"], found["first"], found["segments"], found["set_aside"]) == ([], 1, 0, [])
    assert found["end"] - 1 == found["entries"] > 150


def test_every_decision_is_replayed_and_one_of_them_explained(home):
    assert run(home, "replay", "--all") == {"decisions": 90, "differing": 0, "impossible": 0, "first": []}
    assert run(home, "replay", "t17")["same"]
    assert run(home, "explain", "t17")["transaction_id"] == "t17"
    assert "no decision of" in run(home, "explain", "nobody", code=1)


def test_the_history_is_exported_and_its_delay_measured(home, tmp_path):
    found = run(home, "history", "export", tmp_path / "history.parquet", "--label-delay", "1s")
    assert found["transactions"] == 90
    assert run(home, "history", "delay")["delay"] is not None


def test_a_training_collects_from_it(home):
    (collected,) = run(home, "retrain", "--until", "collect", "--run", "r1")["steps"]
    assert collected["name"] == "collect"


def test_rules_and_thresholds_are_tried_on_it(home, tmp_path):
    (tmp_path / "rules.yaml").write_text(BOOK)
    assert run(home, "rules", "backtest", tmp_path / "rules.yaml")["transactions"] == 90
    of_log = ("--from", "2000-01-01")
    assert run(home, "models", "what-if", "v1", "--review", "0.2", "--block", "0.9", *of_log)
    assert run(home, "models", "thresholds", "v1", *of_log)


def test_views_are_made_of_it_and_the_audit_and_tables_read(home):
    counts = run(home, "views", "rebuild")
    assert (counts["decisions"], counts["outcomes"]) == (90, 60)
    assert run(home, "views", "status")["lag"] == 0
    assert "changes" in run(home, "audit")
    assert run(home, "tables", "show") is not None


def test_the_doctor_looks_at_it(home):
    checks = {one["what"]: one for one in run(home, "doctor", "--port", free_port(HOST))["checks"]}
    assert all(one["ok"] for one in checks.values())
    assert "in Kafka" in checks["log"]["found"]
    assert checks["view"]["ok"]


def test_a_file_of_disputes_is_told_to_its_server_only(home, tmp_path):
    (tmp_path / "c.csv").write_text("transaction_id,stage\nt61,chargeback\n")
    said = run(home, "outcomes", "import", tmp_path / "c.csv", "--dry-run", code=1)
    assert "its server alone writes it" in said


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("outcomes", "revoke", "--key", "bank", "--reason", "wrong"), "its server alone writes it"),
        (("models", "promote", "v1"), "its server alone writes it"),
        (("erase", "card=card-1"), "its server alone writes it"),
        (("log", "prune", "--keep", "24h"), "Kafka removes its entries by their age"),
        (("log", "prune", "--keep", "24h", "--dry-run"), "Kafka removes its entries by their age"),
        (("log", "accept-loss", "1", "--yes"), "nothing can be given up"),
    ],
    ids=lambda one: " ".join(one[:2]) if isinstance(one, tuple) else "",
)
def test_what_changes_the_log_asks_for_its_server(home, command, said):
    assert said in run(home, *command, code=1)
