"""The commands as a user types them."""

import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from sentinel.bench.serving_benchmark import served
from sentinel.cli import app
from sentinel.commands import server_process
from sentinel.commands.server_process import free_port, port_is_free
from sentinel.detectors import load_detector
from sentinel.events.files import read_history
from sentinel.events.reading import Reading
from sentinel.model.registry import Registry
from sentinel.train.pipeline import train


def refused(*arguments):
    """What a command says on standard error when it cannot do as it is told."""
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    assert done.exit_code == 1, (done.exit_code, done.output)
    return done.stderr.replace("\n", " ")


@pytest.fixture(autouse=True)
def own_console_port(monkeypatch):
    """The usual one other demos take as well."""
    monkeypatch.setenv("SENTINEL_CONSOLE_PORT", str(free_port("127.0.0.1")))


def sentinel(*arguments, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "sentinel", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


def said(*arguments):
    """What a command prints that was tried as a process elsewhere."""
    done = CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)
    assert done.exit_code == 0, (done.exit_code, done.output)
    return done.stdout


def test_from_a_file_to_a_proven_model(tmp_path, shop_file, shop_detector):
    home = tmp_path / "home"
    given = ["--detector", shop_detector, "--data", shop_file]
    built = json.loads(sentinel("features", "build", *given, "--out", tmp_path / "f.parquet", "--json").stdout)
    assert (built["transactions"], built["features"], built["skipped"]) == (6000, 12, {})
    features = pl.read_parquet(tmp_path / "f.parquet")
    assert features.columns[:3] == ["transaction_id", "amount", "risk"]
    trained = json.loads(sentinel("train", *given, "--home", home, "--json").stdout)
    assert trained["version"] == trained["champion"] == "v1"
    assert trained["certificate"]["splits"] > 10
    measured = json.loads(sentinel("evaluate", *given, "--home", home, "--json").stdout)
    assert measured["metrics"] == {k: value for k, value in trained["metrics"].items() if k != "score_curve"}
    assert "test part" in measured["measured_on"]
    estimate = measured["metrics"]["average_precision"]
    assert estimate["low"] < estimate["value"] < estimate["high"]
    again = json.loads(said("train", *given, "--home", home, "--json"))
    assert (again["version"], again["champion"]) == ("v2", "v1")
    assert again["metrics"] == trained["metrics"]
    sentinel("models", "promote", "v2", "--home", home)
    listed = json.loads(sentinel("models", "list", "--home", home, "--json").stdout)
    assert [(one["version"], one["champion"]) for one in listed] == [("v1", False), ("v2", True)]
    manifest = json.loads(said("models", "show", "v2", "--home", home))
    assert manifest["history"]["transactions"] == 6000
    files = {name: (home / "models" / "v2" / name).read_bytes() for name in manifest["files"]}
    assert {name: hashlib.sha256(data).hexdigest() for name, data in files.items()} == manifest["files"]
    report = json.loads(sentinel("doctor", "--home", home, "--port", free_port("127.0.0.1"), "--json").stdout)
    assert report["healthy"], report


def test_a_home_whose_first_training_was_interrupted_takes_the_next_version(tmp_path, shop_file, shop_detector):
    history = read_history(shop_file, load_detector(shop_detector).schema, Reading())
    train(load_detector(shop_detector), history, Registry(tmp_path / "models"), lambda *_: None)
    given = ["--detector", shop_detector, "--data", shop_file, "--home", tmp_path]
    trained = sentinel("train", *given, "--json")
    assert [json.loads(trained.stdout)[name] for name in ("version", "champion")] == ["v2", "v2"]


def test_a_model_that_tells_nothing_is_warned_of_where_nobody_can_miss_it(tmp_path, shop_file, shop_detector):
    source = Path(shop_detector).read_text()
    begin, end = source.index("    features=("), source.index("    training=")
    detector, home = tmp_path / "blind.py", tmp_path / "home"
    detector.write_text(source[:begin] + "    features=(sentinel.hour_of_day(),),\n" + source[end:] + "\n")
    detector.write_text("import sentinel\n" + detector.read_text())
    given = ["--detector", detector, "--data", shop_file, "--home", home]
    trained = sentinel("train", *given, "--json")
    warnings = json.loads(trained.stdout)["metrics"]["warnings"]
    assert any("AUC ROC" in one for one in warnings), warnings
    assert "v1 can hardly work as it is" in trained.stderr
    assert json.loads(sentinel("models", "show", "v1", "--home", home).stdout)["metrics"]["warnings"] == warnings
    measured = sentinel("evaluate", *given)
    assert " ".join(warnings[-1].split()[:4]) in measured.stderr


def test_parity_through_a_server_and_a_kill(shop_file, shop_detector):
    given = ["--detector", shop_detector, "--data", shop_file, "--events", 2500, "--json"]
    report = json.loads(sentinel("parity", *given).stdout)
    assert report["differing"] == 0
    assert report["compared"] == 2500 * 12
    assert min(report["outcomes"], report["late"], report["repeated"]) > 0


@pytest.fixture
def of_another_server(tmp_path, monkeypatch):
    """The settings of an operator, none of which fits a server over a folder that a command has made for itself."""
    sentinel("models", "keygen", "--out", tmp_path / "team.key")
    settings = {"TRUSTED_KEYS_FILE": tmp_path / "team.key.pub", "AUTH": "required", "KEY": "sk_" + "k" * 43,
                "WORKERS": 2, "LOG_TO": tmp_path / "operators.log", "HOME": tmp_path / "home"}  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(f"SENTINEL_{name}", str(value))
    yield
    assert not (tmp_path / "operators.log").exists()


@pytest.mark.usefixtures("of_another_server")
def test_parity_heeds_no_setting_of_another_server(shop_file, shop_detector):
    given = ["--detector", shop_detector, "--data", shop_file, "--events", 600, "--json"]
    report = json.loads(sentinel("parity", *given).stdout)
    assert (report["transactions"], report["differing"]) == (600, 0)


@pytest.mark.usefixtures("of_another_server")
def test_a_server_that_is_measured_heeds_no_setting_of_another(shop_home, tmp_path):
    shutil.copytree(shop_home, tmp_path / "measured")
    with served(tmp_path / "measured", port := free_port("127.0.0.1")):
        asked = urllib.request.Request(
            f"http://127.0.0.1:{port}/predict", b'{"features": [1]}', {"content-type": "application/json"}
        )
        with pytest.raises(urllib.error.HTTPError, match="400"):  # it would be let in with as many as there are
            urllib.request.urlopen(asked, timeout=5)


def test_parity_of_what_is_shed_on_a_machine_that_is_too_slow(shop_file, shop_detector, monkeypatch):
    monkeypatch.setenv("SENTINEL_DEADLINE_MS", "2")
    given = ["--detector", shop_detector, "--data", shop_file, "--events", 2500, "--json"]
    report = json.loads(sentinel("parity", *given).stdout)
    assert report["differing"] == 0
    assert report["compared"] == 2500 * 12
    assert report["shed"] > 0


def test_simulate_writes_the_same_bytes_for_the_same_seed(tmp_path):
    hashes = set()
    for name in ("a.parquet", "b.parquet"):
        facts = json.loads(
            sentinel("simulate", "--transactions", 5000, "--seed", 7, "--out", tmp_path / name, "--json").stdout
        )
        assert facts["transactions"] == 5000
        hashes.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    said("simulate", "--transactions", 5000, "--seed", 8, "--out", tmp_path / "c.parquet")
    hashes.add(hashlib.sha256((tmp_path / "c.parquet").read_bytes()).hexdigest())
    assert len(hashes) == 2
    said("simulate", "--transactions", 50, "--out", tmp_path / "d.csv")
    said("simulate", "--transactions", 50, "--out", tmp_path / "d.jsonl")
    assert (tmp_path / "d.jsonl").read_text().count("\n") == 50


@pytest.mark.usefixtures("of_another_server")
def test_the_demo_ends_with_its_figures(tmp_path):
    port = free_port("127.0.0.1")
    arguments = ["--transactions", 20_000, "--seconds", 3, "--rate", 300, "--home", tmp_path / "demo", "--port", port]
    done = sentinel("demo", *arguments)
    summary = json.loads(done.stdout.splitlines()[-1])
    policy = json.loads((tmp_path / "demo" / "models" / "v1" / "manifest.json").read_text())["policy"]
    assert policy["review_at_fpr"] == 0.002  # of its cases two in five are fraud
    assert re.search(r"^console http://127.0.0.1:\d+  log in as admin, password \S+$", done.stderr, re.MULTILINE)
    assert summary["errors"] == 0
    assert summary["decisions"] == pytest.approx(900, abs=120)
    assert summary["p50_ms"] <= summary["p99_ms"]
    assert summary.keys() == {
        "decisions", "errors", "decisions_per_s", "p50_ms", "p99_ms", "average_precision", "recall_at_1pct_fpr",
    }  # fmt: skip
    assert json.loads(sentinel("demo", *arguments).stdout.splitlines()[-1])["errors"] == 0  # its own folder, anew


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_end_the_demo_with_its_figures_and_all_that_it_started(tmp_path, how):
    port = free_port("127.0.0.1")
    arguments = ["--transactions", "6000", "--home", str(tmp_path / "demo"), "--port", str(port), "--rate", "200"]
    process = subprocess.Popen(
        [sys.executable, "-m", "sentinel", "demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 180
    while decided(port) < 200 and time.monotonic() < until:
        time.sleep(0.1)
    process.send_signal(how)
    out, errors = process.communicate(timeout=100)
    assert (process.returncode, "Traceback" in errors) == (0, False)
    assert port_is_free("127.0.0.1", port)
    console = int(re.search(r"^console http://127.0.0.1:(\d+) ", errors, re.MULTILINE)[1])
    assert port_is_free("127.0.0.1", console)
    told = json.loads(out.splitlines()[-1])
    assert (told["errors"], told["decisions"] >= 100) == (0, True)


def decided(port):
    """Transactions that a server has decided; 0 before it answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as reply:
            return json.loads(reply.read())["total_requests"]
    except OSError:
        return 0


def test_the_demo_leaves_other_folders_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    assert "empty folder" in refused("demo", "--home", tmp_path, "--seconds", 1, "--port", free_port("127.0.0.1"))
    assert (tmp_path / "mine.txt").exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["train", "--data", "none.csv"], "no file none.csv"),
        (["train", "--data", "FILE", "--detector", "nobody"], "no detector 'nobody'; take one of"),
        (["train", "--data", "FILE"], "lacks card_id"),
        (["train", "--data", "FILE", "--map", "nonsense"], "no pair"),
        (["evaluate", "--data", "FILE", "--detector", "DETECTOR"], "no champion"),
        (["models", "show", "../v1"], "no model '../v1'"),
        (["models", "promote", "v9"], "no model 'v9'"),
        (["simulate", "--out", "x.txt"], "end the name in"),
        (["simulate", "--out", "x.csv", "--transactions", "0"], "ask for 1 or more"),
        (["benchmark", "handbook", "--data", "FILE", "--train-days", "x"], "a number of days"),
        (["serve", "--port", "99999999"], "port"),
    ],
)
def test_every_error_says_what_to_do(tmp_path, shop_file, shop_detector, arguments, text):
    names = {"FILE": shop_file, "DETECTOR": shop_detector}
    home = [] if arguments[0] in ("simulate", "benchmark") else ["--home", tmp_path]
    assert text in refused(*(names.get(one, one) for one in arguments), *home)


def test_a_detector_that_fails_names_its_file(tmp_path, shop_file):
    for code, text in (
        ("1 / 0", "ZeroDivisionError"),
        ("x = 1", "has no `detector"),
        ("import nothing_there", "nothing_there"),
    ):
        path = tmp_path / "mine.py"
        path.write_text(code)
        assert text in refused("train", "--data", shop_file, "--detector", path, "--home", tmp_path)


def test_help_and_version():
    assert "serve" in sentinel("--help").stdout
    assert sentinel("--version").stdout.startswith("sentinel 0")


def test_a_model_of_another_detector_asks_for_its_file(shop_home, shop_file):
    said = refused("evaluate", "--data", shop_file, "--home", shop_home, "--detector", "payments")
    assert "trained by detector 'shop', not 'payments'; give --detector FILE, where shop is declared" in said


def test_a_model_is_measured_by_its_name_alone_on_parts_and_without_what_is_too_young(shop_home, shop_file):
    given = ["evaluate", "v1", "--data", shop_file, "--home", shop_home, "--by", "channel", "--label-delay", "1d"]
    found = json.loads(sentinel(*given, "--json").stdout)
    (passed, alarms), (missed, caught) = found["metrics"]["review"]["confusion"]
    shown = " ".join(sentinel(*given).stderr.split())
    assert f"review [tn fp; fn tp] = [{passed:,} {alarms:,}; {missed:,} {caught:,}]" in shown
    assert f"{found['immature']:,} rows are younger than labels take" in shown
    assert passed + alarms + missed + caught == found["metrics"]["transactions"]
    assert sum(one["transactions"] for one in found["segments"]["channel"]) == found["metrics"]["transactions"]
    assert "v1 and --model v2 are two versions" in refused(*given, "--model", "v2")


def test_the_audit_shows_what_was_asked(shop_home):
    shown = CliRunner().invoke(app, ["audit", "--home", str(shop_home)]).stderr
    assert "promote v1  " in shown


def test_the_list_of_keys_shows_the_hour_at_which_one_ends(tmp_path):
    sentinel("keys", "create", "shop", "--scopes", "score", "--expires", "1h", "--home", tmp_path)
    (line,) = CliRunner().invoke(app, ["keys", "list", "--home", str(tmp_path)]).stderr.splitlines()
    assert re.search(r" until \d{4}-\d\d-\d\d \d\d:\d\dZ$", line)


def test_a_server_that_is_not_ready_in_time_says_what_to_try(shop_home, tmp_path, monkeypatch):
    shutil.copytree(shop_home, tmp_path / "home")
    monkeypatch.setattr(server_process, "_PATIENCE_S", 0.01)
    server = server_process.ServerProcess(tmp_path / "home", "127.0.0.1", free_port("127.0.0.1"))
    with pytest.raises(server_process.ServerFailed, match=r"takes minutes on a busy .* try again\. It said"):
        server.start()
