"""Several detectors and tenants in one server: each finds its own, and what is another's is not there."""

import json
import shutil
import subprocess
import sys
import time
import urllib.request

import pytest

from sentinel.commands.server_process import ServerFailed, ServerProcess, free_port
from sentinel.config import Settings
from sentinel.errors import InvalidDefinition
from sentinel.homes import Place, homes_in
from sentinel.transport.access.keys import Grant
from sentinel.transport.access.scopes import Scope
from sentinel.transport.access.store import KeyStore

HOST = "127.0.0.1"
OWN, ACME = "sk_own", "sk_acme"
EVERY_SCOPE = (Scope.ADMIN,)
NOW_US = 1_760_000_000_000_000


def payment(n, **more):
    return {
        "transaction_id": f"t{n}", "event_time": "2025-02-01T10:00:00Z", "amount": 12.5, "card": "card-1",
        "shop": "shop-1", "channel": "web", "risk": 0.25,
    } | more  # fmt: skip


def asked_until_ready(ask, *asked, **headers):
    """The answer, once the detector has opened its state: the server is ready before all of its detectors are."""
    until = time.monotonic() + 120
    while (answer := ask(*asked, **headers)).status == 503 and time.monotonic() < until:
        time.sleep(0.05)
    return answer


def add_key(home, name, token):
    grant = Grant(name=name, scopes=EVERY_SCOPE)
    KeyStore(home).change(lambda ring: ring.with_new(grant, token, NOW_US))


@pytest.fixture(scope="module")
def many_home(tmp_path_factory, two_models_home):
    """The server's own detector and `wallet`; the tenant acme's own detector and `gold`."""
    home = tmp_path_factory.mktemp("many") / "home"
    shutil.copytree(two_models_home, home)
    for below in ("detectors/wallet", "tenants/acme", "tenants/acme/detectors/gold"):
        shutil.copytree(two_models_home, home / below)
    add_key(home, "shop", OWN)
    add_key(home / "tenants" / "acme", "shop", ACME)
    return home


@pytest.fixture(scope="module")
def server(start_server, many_home, ask):
    made = start_server(many_home)
    for path, key in (("/v1/wallet", OWN), ("/v1", ACME), ("/v1/gold", ACME)):
        answer = asked_until_ready(ask, made.port, "GET", f"{path}/decisions/none", authorization=f"Bearer {key}")
        assert answer.status == 404, path
    return made


@pytest.fixture(scope="module")
def call(server, ask):
    """A call with a key, or as the operator; its status and JSON."""

    def calling(method, path, body=b"", key=None, **headers):
        if key is not None:
            headers["authorization"] = f"Bearer {key}"
        answer = ask(server.port, method, path, body, **headers)
        return answer.status, answer.json

    return calling


def test_each_detector_decides_and_remembers_its_own(call):
    places = [("/v1/score", OWN), ("/v1/wallet/score", OWN), ("/v1/score", ACME), ("/v1/gold/score", ACME)]
    for amount, (path, key) in enumerate(places, 1):
        status, answer = call("POST", path, payment("same", amount=amount), key)
        assert (status, answer["replayed"]) == (200, False)
    for amount, (path, key) in enumerate(places, 1):
        status, found = call("GET", path.replace("score", "decisions/tsame"), key=key)
        assert (status, found["transaction"]["amount"]) == (200, amount)
        assert call("POST", path, payment("same", amount=amount), key)[1]["replayed"]
        assert call("POST", path, payment("same", amount=99), key)[0] == 409


def test_the_lane_of_the_framework_finds_the_same_detector(call):
    for path, key in (("/v1/wallet/score", OWN), ("/v1/gold/score", ACME)):
        _, answer = call("POST", path, payment("lanes"), key)
        slowly = call("POST", path + "?", payment("lanes"), key, expect="100-continue-not")
        assert slowly[1]["replayed"]
        assert slowly[1]["transaction_id"] == answer["transaction_id"]


@pytest.mark.parametrize("key", [OWN, ACME])
def test_what_is_anothers_is_what_is_not_there(call, key):
    others, nobodys = {OWN: "gold", ACME: "wallet"}[key], "nobody"
    calls = [
        ("POST", "score", payment(1)), ("POST", "predict", {"features": [1.0] * 9}), ("GET", "decisions", b""),
        ("POST", "outcomes", {"transaction_id": "tsame", "is_fraud": True}), ("GET", "decisions/tsame", b""),
        ("GET", "health", b""), ("GET", "health/ready", b""), ("GET", "metrics/prom", b""), ("GET", "openapi.json", b""),
        ("GET", "admin/audit", b""), ("POST", "admin/thresholds", {"review": 0.1}), ("GET", "", b""), ("POST", "x", {}),
    ]  # fmt: skip
    for method, below, body in calls:
        found, missing = (call(method, f"/v1/{name}/{below}", body, key) for name in (others, nobodys))
        assert found[0] == missing[0] == 404, below
        assert json.dumps(found[1]).replace(others, nobodys) == json.dumps(missing[1])


def test_a_key_names_no_tenant_but_its_own(call):
    assert call("POST", "/v1/score", payment(2), ACME, x_sentinel_tenant="acme")[0] == 200
    for key, named in ((OWN, "acme"), (ACME, ""), (ACME, "other"), (OWN, "other")):
        status, answer = call("POST", "/v1/score", payment(2), key, x_sentinel_tenant=named)
        assert (status, answer["error"]) == (404, f"There is no tenant {named!r} here")
        assert call("GET", "/v1/decisions", key=key, x_sentinel_tenant=named)[0] == 404


def test_the_operator_of_the_server_may_name_any_tenant(call):
    assert call("POST", "/v1/gold/score", payment(3), x_sentinel_tenant="acme")[0] == 200
    assert call("GET", "/v1/gold/decisions/t3", key=ACME)[0] == 200
    assert call("POST", "/v1/gold/score", payment(3))[0] == 404
    assert call("GET", "/", x_sentinel_tenant="acme")[1]["detectors"] == ["gold"]
    assert call("GET", "/", key=ACME)[1]["detectors"] == ["gold"]
    assert call("GET", "/")[1]["detectors"] == ["wallet"]
    assert call("GET", "/", x_sentinel_tenant="other")[0] == 404


def test_outcomes_and_lists_are_of_one_detector(call):
    for path, key in (("/v1/wallet/score", OWN), ("/v1/gold/score", ACME)):
        call("POST", path, payment("mine", card=f"card-of-{key}"), key)
    told = {"transaction_id": "tmine", "is_fraud": True}
    assert call("POST", "/v1/wallet/outcomes", told, OWN)[0] == 200
    status, answer = call("POST", "/v1/outcomes", told, OWN)
    assert (status, answer["known"]) == (202, False)
    assert len(call("GET", "/v1/wallet/decisions/tmine", key=OWN)[1]["outcomes"]) == 1
    assert call("GET", "/v1/gold/decisions/tmine", key=ACME)[1]["outcomes"] == []
    assert call("GET", f"/v1/wallet/decisions?card=card-of-{ACME}", key=OWN)[1]["decisions"] == []


def test_a_change_is_one_detectors_and_in_its_audit_alone(call):
    before = {
        place: call("GET", f"{place}/admin/version", key=key)[1] for place, key in (("", OWN), ("/v1/wallet", OWN))
    }
    status, _ = call("POST", "/v1/gold/admin/thresholds", {"review": 0.123, "block": 0.9}, ACME)
    assert status == 200
    changes = call("GET", "/v1/gold/admin/audit", key=ACME)[1]["changes"]
    assert changes[0]["who"] == "shop"
    assert changes[0]["what"] == "POST /v1/gold/admin/thresholds"
    for place, key in (("", OWN), ("/v1/wallet", OWN), ("", ACME)):
        audit = json.dumps(call("GET", f"{place}/admin/audit", key=key)[1])
        assert "0.123" not in audit
    for place, version in before.items():
        assert call("GET", f"{place}/admin/version", key=OWN)[1] == version


def test_its_description_has_its_own_addresses(call, server):
    _, described = call("GET", "/v1/wallet/openapi.json", key=OWN)
    assert {"/v1/wallet/score", "/v1/wallet/decisions", "/v1/wallet/admin/thresholds", "/v1/wallet/health"} <= set(
        described["paths"]
    )
    assert all(path.startswith("/v1/wallet") for path in described["paths"])
    with urllib.request.urlopen(f"http://{HOST}:{server.port}/v1/wallet/docs") as page:
        assert b'src="docs/start.js"' in page.read()  # beside it: of this detector
    with urllib.request.urlopen(f"http://{HOST}:{server.port}/v1/wallet/docs/start.js") as script:
        assert b"openapi.json" in script.read()
    assert "/v1/wallet/score" in call("GET", "/v1/wallet/", key=OWN)[1]["endpoints"]


def test_commands_reach_the_tenant_that_a_running_server_serves(server, call):
    home = server.home / "tenants" / "acme" / "detectors" / "gold"
    command = [sys.executable, "-m", "sentinel", "models", "promote", "v2", "--home", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert call("GET", "/v1/gold/", key=ACME)[1]["model_version"] == "v2"
    assert call("GET", "/", key=ACME)[1]["model_version"] == "v1"
    assert call("GET", "/v1/wallet/", key=OWN)[1]["model_version"] == "v1"


def test_a_key_made_for_a_detector_is_its_tenants(server, call):
    home = server.home / "tenants" / "acme" / "detectors" / "gold"
    command = [sys.executable, "-m", "sentinel", "keys", "create", "new", "--scopes", "read", "--home", str(home)]
    token = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    for _ in range(10):  # the server reads the file again once a second; a wrong key, as it is till then, is slowed
        time.sleep(1)
        if call("GET", "/v1/gold/health", key=token)[0] == 200:
            break
    assert call("GET", "/health", key=token)[0] == 200
    assert call("GET", "/v1/wallet/health", key=token)[0] == 404


def test_with_keys_required_nobody_learns_which_detectors_there_are(many_home, start_server, ask):
    server = start_server(many_home, {"SENTINEL_AUTH": "required"})
    for name in ("wallet", "gold", "nobody"):
        for method, below in (("GET", "health/ready"), ("GET", "health/live"), ("POST", "score"), ("GET", "docs")):
            answer = ask(server.port, method, f"/v1/{name}/{below}")
            assert answer.status == 401
    assert ask(server.port, "GET", "/health/ready").status == 200


def test_after_a_kill_each_has_what_was_its_own(many_home, start_server, ask):
    server = start_server(many_home)
    for n in range(20):
        for path, key in (("/v1/wallet/score", OWN), ("/v1/gold/score", ACME)):
            assert ask(server.port, "POST", path, payment(n), authorization=f"Bearer {key}").status == 200
    server.kill()
    server.start()
    for n in range(20):
        for name, key in (("wallet", OWN), ("gold", ACME)):
            path = f"/v1/{name}/decisions/t{n}"
            assert asked_until_ready(ask, server.port, "GET", path, authorization=f"Bearer {key}").status == 200
        assert ask(server.port, "GET", f"/v1/decisions/t{n}", authorization=f"Bearer {OWN}").status == 404


def test_one_that_cannot_be_opened_stops_no_other(many_home, tmp_path, ask):
    home = tmp_path / "home"
    shutil.copytree(many_home, home)
    (home / "tenants" / "acme" / "journal.db").write_bytes(b"of an older version")
    server = ServerProcess(home, HOST, free_port(HOST))
    server.start()
    try:
        answer = ask(server.port, "POST", "/v1/score", payment(1), authorization=f"Bearer {ACME}")
        assert answer.status == 503
        assert "the server's log says why" in answer.json["error"]
        assert ask(server.port, "GET", "/health", authorization=f"Bearer {ACME}").status == 503
        for path, key in (("/v1/score", OWN), ("/v1/gold/score", ACME)):
            answer = asked_until_ready(ask, server.port, "POST", path, payment(1), authorization=f"Bearer {key}")
            assert answer.status == 200
        assert "the detector without a name of the tenant 'acme' is not served" in (home / "server.log").read_text()
    finally:
        server.stop()


@pytest.mark.parametrize(
    "below", ["detectors/Wallet", "tenants/a b", "detectors/score", "tenants/acme/detectors/rules"]
)
def test_a_name_that_is_none_is_refused_at_the_start(tmp_path, below):
    (tmp_path / below).mkdir(parents=True)
    with pytest.raises(InvalidDefinition, match=below.rpartition("/")[2]):
        homes_in(tmp_path)


def test_a_home_alone_has_one_detector(tmp_path):
    (tmp_path / "detectors" / ".hidden").mkdir(parents=True)
    (tmp_path / "tenants").mkdir()
    (tmp_path / "tenants" / "README").write_text("no folder")
    assert homes_in(tmp_path) == {Place(): tmp_path}
    assert homes_in(Settings(home=tmp_path / "none").home) == {Place(): tmp_path / "none"}


def test_a_server_of_many_processes_scores_vectors_of_each(many_home, tmp_path, ask):
    home = tmp_path / "home"
    shutil.copytree(many_home, home)
    server = ServerProcess(home, HOST, free_port(HOST), environment={"SENTINEL_WORKERS": "2"})
    try:
        server.start()
    except ServerFailed as error:
        pytest.fail(str(error))
    try:
        names = json.loads((home / "models" / "v1" / "manifest.json").read_text())["plan"]["features"]
        body = {"features": [1.0] * len(names)}
        for path, key in (("/predict", OWN), ("/v1/wallet/predict", OWN), ("/v1/gold/predict", ACME)):
            for _ in range(4):
                answer = asked_until_ready(ask, server.port, "POST", path, body, authorization=f"Bearer {key}")
                assert answer.status == 200
        assert ask(server.port, "POST", "/v1/gold/predict", body, authorization=f"Bearer {OWN}").status == 404
    finally:
        server.stop()
