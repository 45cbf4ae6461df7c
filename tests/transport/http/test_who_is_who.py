"""Who is who on a running server: keys on both lanes, revoked ones, pages of others, the audit, and what is counted."""

import json
import os
import subprocess
import sys
import threading
import time
import uuid

import pytest

from sentinel.commands.keys import create_key, revoke_key, rotate_key
from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.config import Settings
from sentinel.transport.client import request_bytes

VECTOR = {"features": [20.5, 0.1, 1, 1, 2, 20.5, None, None, 1, 3600, 4, 0.02]}
EVERYWHERE = "0.0.0.0"  # noqa: S104 - that is what is tried
ADMIN_KEY = "the-admin-key-of-many-characters"


def payment(**changes):
    fields = {"transaction_id": uuid.uuid4().hex, "event_time": "2025-02-01T10:00:00Z", "amount": 12.5,
              "card": uuid.uuid4().hex, "shop": "shop-1", "channel": "web", "risk": 0.1}  # fmt: skip
    return fields | changes


class Guarded:
    """A server that needs keys, and callers with some."""

    def __init__(self, server, ask):
        self.server, self.port, self._ask = server, server.port, ask
        self.settings = Settings(home=server.home)
        self.keys = {"admin-key": ADMIN_KEY}

    def make(self, name, scopes, rate=None):
        self.keys[name] = create_key(self.settings, name, scopes, "1d", rate, None).key

    def call(self, name, method, path, body=b"", **headers):
        if name is not None:
            headers["authorization"] = f"Bearer {self.keys.get(name, name)}"
        return self._ask(self.port, method, path, body, **headers)

    def until(self, status, *call, **headers):
        """The seconds until this call has this status."""
        begun = time.monotonic()
        wanted = status if isinstance(status, tuple) else (status,)
        while (answer := self.call(*call, **headers)).status not in wanted:
            assert time.monotonic() < begun + 60, answer
            time.sleep(0.05)
        return time.monotonic() - begun


@pytest.fixture(scope="module")
def guarded(start_server, two_models_home, ask):
    environment = {"SENTINEL_AUTH": "required", "SENTINEL_ADMIN_KEY": ADMIN_KEY}
    found = Guarded(start_server(two_models_home, environment), ask)
    for name, scopes in (("shop", "score"), ("bank", "outcomes"), ("grafana", "read"), ("deploy", "operate"),
                         ("boss", "admin"), ("all", "score,outcomes,read")):  # fmt: skip
        found.make(name, scopes)
    found.until(200, "all", "GET", "/health")
    return found


# keys


OPEN = [("GET", "/health/live"), ("GET", "/health/ready"), ("GET", "/health/startup")]
CALLS = {
    "score": [("POST", "/v1/score"), ("POST", "/predict")],
    "outcomes": [("POST", "/v1/outcomes")],
    "read": [("GET", "/v1/decisions"), ("GET", "/v1/decisions/x"), ("GET", "/metrics"), ("GET", "/metrics/prom"),
             ("GET", "/health"), ("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/"), ("GET", "/nothing/here")],
    "operate": [("GET", "/admin/version"), ("POST", "/admin/reload"), ("POST", "/admin/rollback"), ("GET", "/admin/drift"),
                ("POST", "/admin/drift/reset"), ("POST", "/admin/ab/setup"), ("GET", "/admin/ab/status"),
                ("POST", "/admin/shadow/stop"), ("POST", "/admin/log/prune")],
    "rules": [("POST", "/admin/thresholds"), ("POST", "/admin/fallback")],
    "admin": [("GET", "/admin/audit"), ("POST", "/nothing/here"), ("DELETE", "/v1/decisions/x")],
}  # fmt: skip
HOLDS = {"shop": {"score"}, "bank": {"outcomes"}, "grafana": {"read"}, "deploy": {"operate"},
         "all": {"score", "outcomes", "read"}}  # fmt: skip


def test_without_a_key_only_health_is_answered(guarded):
    for method, path in OPEN:
        assert guarded.call(None, method, path).status == 200
    for calls in CALLS.values():
        for method, path in calls:
            answer = guarded.call(None, method, path, {})
            assert (answer.status, answer.json["status"]) == (401, 401), (method, path)
            assert answer.headers["www-authenticate"] == "Bearer"


def test_every_key_may_what_its_scopes_say_and_nothing_else(guarded):
    for name, held in HOLDS.items():
        for scope, calls in CALLS.items():
            for method, path in calls if scope not in held else ():
                answer = guarded.call(name, method, path, {})
                assert answer.status == 403, (name, method, path, answer)
                assert f"'{scope}'" in answer.json["error"]


def test_with_its_scope_a_call_is_answered(guarded):
    decided = guarded.call("shop", "POST", "/v1/score", payment())
    assert decided.status == 200
    about = decided.json["transaction_id"]
    assert guarded.call("bank", "POST", "/v1/outcomes", {"transaction_id": about, "is_fraud": True}).status == 200
    for path in (f"/v1/decisions/{about}", "/v1/decisions", "/metrics", "/metrics/prom", "/docs", "/openapi.json", "/"):
        assert guarded.call("grafana", "GET", path).status == 200
    assert guarded.call("deploy", "GET", "/admin/version").status == 200
    for name in ("boss", "admin-key"):
        assert guarded.call(name, "GET", "/admin/audit").status == 200
        assert guarded.call(name, "POST", "/predict", VECTOR).status == 200


def test_one_connection_may_speak_for_several_keys_and_each_request_counts_for_itself(guarded, wire):
    body = json.dumps(VECTOR).encode()
    requests = [request_bytes("/predict", body, key=guarded.keys[name]) for name in ("shop", "grafana", "shop")]
    requests.append(request_bytes("/predict", body))
    for _ in range(3):  # the same vector: its score is remembered, who may have it is asked each time
        with wire(guarded.port) as connection:
            connection.send(b"".join(requests))
            assert [connection.answer().status for _ in requests] == [200, 403, 200, 401]
            assert connection.is_closed(within_s=2)
        with wire(guarded.port) as connection:
            for one, status in zip(requests, [200, 403, 200, 401], strict=True):
                connection.send(one)
                assert connection.answer().status == status


def test_a_revoked_key_is_refused_within_a_second_wherever_its_answer_is_remembered(guarded, wire):
    guarded.make("brief", "score")
    guarded.until(200, "brief", "POST", "/predict", VECTOR)
    request = request_bytes("/predict", json.dumps(VECTOR).encode(), key=guarded.keys["brief"])
    with wire(guarded.port) as connection:
        for _ in range(20):
            connection.send(request)
            assert connection.answer().status == 200
        revoke_key(guarded.settings, "brief")
        begun = time.monotonic()
        while True:
            connection.send(request)
            if connection.answer().status in (401, 429):
                break
            assert time.monotonic() < begun + 5
        assert time.monotonic() < begun + 2.5  # a second, on a machine that has other things to do
    assert guarded.call("brief", "POST", "/v1/score", payment()).status in (401, 429)


def test_a_rotated_key_and_its_follower_are_both_good_for_the_overlap(guarded):
    guarded.make("turning", "score")
    old = guarded.keys["turning"]
    guarded.keys["turning"] = rotate_key(guarded.settings, "turning", "1h").key
    guarded.until(200, "turning", "POST", "/predict", VECTOR)
    assert guarded.call(old, "POST", "/predict", VECTOR).status == 200
    new = rotate_key(guarded.settings, "turning", "0d").key
    assert guarded.until((401, 429), old, "POST", "/predict", VECTOR) < 3
    assert guarded.call(new, "POST", "/predict", VECTOR).status == 200


@pytest.mark.parametrize("lane", [{}, {"transfer_encoding": "identity"}])
def test_over_its_rate_a_key_is_429_with_when_to_come_again(guarded, lane):
    name = f"slow-{len(lane)}"
    guarded.make(name, "score", rate=3.0)
    guarded.until(200, name, "POST", "/predict", VECTOR)
    time.sleep(1.1)
    answer = guarded.call(name, "POST", "/v1/score", [payment() for _ in range(30)])
    assert answer.status == 200
    answer = guarded.call(name, "POST", "/v1/score", payment())
    assert (answer.status, answer.json["status"]) == (429, 429)
    assert 5 <= int(answer.headers["retry-after"]) <= 11
    assert guarded.call("shop", "POST", "/v1/score", payment()).status == 200


def test_wrong_keys_are_counted_and_logged_and_never_shown(guarded):
    wrong = "sk_a-wrong-key-that-is-shown-nowhere"
    for _ in range(12):
        answer = guarded.call(wrong, "GET", "/metrics")
    assert answer.status == 429
    assert int(answer.headers["retry-after"]) >= 1
    assert wrong not in answer.json["error"]
    log = (guarded.server.home / "server.log").read_text()
    assert "a wrong key from 127.0.0.1" in log
    assert wrong not in log
    text = guarded.call("grafana", "GET", "/metrics/prom").body.decode()
    assert 'sentinel_requests_refused_total{reason="wrong_key"}' in text
    assert guarded.call("shop", "POST", "/predict", VECTOR).status == 200


def test_no_answer_or_file_but_the_keys_own_store_holds_a_key(guarded):
    guarded.call("boss", "GET", "/admin/audit")
    for path in guarded.server.home.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not any(key.encode() in content for name, key in guarded.keys.items() if name != "admin-key"), path


# pages of others, on a server without keys


@pytest.fixture(scope="module")
def plain(start_server, shop_home):
    return start_server(shop_home)


ATTACKS = {
    "a blob without a type": {"content_type": None},
    "a form": {"content_type": "application/x-www-form-urlencoded"},
    "plain text": {"content_type": "text/plain"},
    "another origin": {"origin": "https://evil.example"},
    "no origin of its own": {"origin": "null"},
    "another site": {"sec_fetch_site": "cross-site"},
    "a name of its own": {"host": "evil.example", "origin": "http://evil.example"},
    "a name of its own, unsaid": {"host": "evil.example"},
    "a proxy": {"x_forwarded_for": "127.0.0.1"},
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_page_of_others_stores_nothing_and_changes_nothing(plain, ask, name):
    asked = payment()
    bodies = {
        "/v1/score": asked,
        "/predict": VECTOR,
        "/v1/outcomes": {"transaction_id": "x", "is_fraud": True},
        "/admin/fallback": {"only": True},
        "/admin/rollback": {},
    }
    for path, body in bodies.items():
        answer = ask(plain.port, "POST", path, body, **ATTACKS[name])
        assert answer.status in (401, 403, 415), (path, answer)
        assert answer.json["status"] == answer.status
    assert ask(plain.port, "GET", f"/v1/decisions/{asked['transaction_id']}").status == 404
    assert ask(plain.port, "POST", "/predict", VECTOR).json["degraded"] is None


def test_what_a_browser_sends_with_a_blob_is_refused(plain, wire):
    """`fetch(url, {method: "POST", mode: "no-cors", body: new Blob([..])})`: no type, no preflight."""
    body = json.dumps(payment()).encode()
    head = f"POST /v1/score HTTP/1.1\r\nHost: 127.0.0.1:{plain.port}\r\nContent-Length: {len(body)}\r\n"
    for more, status in (("", 415), ("Origin: null\r\n", 403), ("Origin: https://evil.example\r\n", 403)):
        with wire(plain.port) as connection:
            connection.send(f"{head}{more}\r\n".encode() + body)
            assert connection.answer().status == status


def test_a_page_whose_name_points_here_reads_nothing(plain, ask):
    for path in (
        "/v1/decisions",
        "/metrics",
        "/health",
        "/health/live",
        "/admin/version",
        "/openapi.json",
        "/docs",
        "/",
    ):
        answer = ask(plain.port, "GET", path, host="rebound.example")
        assert (answer.status, answer.json["status"]) == (403, 403), path


def test_a_header_that_counts_comes_once(plain, wire):
    for twice in ("Host: evil.example", "Authorization: Bearer a\r\nAuthorization: Bearer b",
                  "Origin: http://localhost\r\nOrigin: https://evil.example"):  # fmt: skip
        with wire(plain.port) as connection:
            connection.send(f"GET /metrics HTTP/1.1\r\nHost: localhost\r\n{twice}\r\n\r\n".encode())
            answer = connection.answer()
            assert answer.status == 400, twice
            assert "is there 2 times; send it once" in answer.json["error"]


def test_what_is_not_there_has_the_shape_of_all_errors(plain, ask):
    for method, path, status in (("GET", "/nothing", 404), ("POST", "/nothing", 404), ("GET", "/v1/score", 405),
                                 ("DELETE", "/admin/version", 405), ("PUT", "/metrics", 405)):  # fmt: skip
        answer = ask(plain.port, method, path)
        assert (answer.status, answer.json["status"]) == (status, status)
        assert path in answer.json["error"]
        assert ("allow" in answer.headers) == (status == 405)


def test_an_admin_call_takes_no_more_than_it_needs(plain, ask):
    answer = ask(plain.port, "POST", "/admin/ab/abort", {"reason": "x" * 100_000})
    assert answer.status == 413
    answer = ask(plain.port, "POST", "/admin/fallback", {"only": True}, content_encoding="gzip")
    assert answer.status == 415


# the audit


def test_every_change_is_in_the_audit_with_who_and_from_where(guarded):
    guarded.make("auditor", "operate,rules")
    guarded.until(200, "auditor", "GET", "/admin/version")
    before = guarded.call("boss", "GET", "/admin/audit?limit=1").json["changes"]
    assert guarded.call("auditor", "POST", "/admin/reload", {"version": "v2"}).status == 200
    assert guarded.call("auditor", "POST", "/admin/thresholds", {"review": 0.25}).status == 200
    assert guarded.call("auditor", "POST", "/admin/rollback").status == 200
    assert guarded.call("auditor", "POST", "/admin/drift/reset").status == 200
    assert guarded.call("auditor", "POST", "/admin/ab/promote").status == 400  # changes nothing
    found = guarded.call("boss", "GET", "/admin/audit?limit=4").json
    assert [one["what"] for one in found["changes"]] == [
        "POST /admin/drift/reset", "POST /admin/rollback", "POST /admin/thresholds", "POST /admin/reload",
    ]  # fmt: skip
    assert {(one["who"], one["where"]) for one in found["changes"]} == {("auditor", "127.0.0.1")}
    reload = found["changes"][3]
    assert json.loads(reload["asked"]) == {"version": "v2"}
    assert (json.loads(reload["before"])["champion"], json.loads(reload["after"])["champion"]) == ("v1", "v2")
    following = guarded.call("boss", "GET", f"/admin/audit?limit=1&cursor={found['next']}").json
    assert following["changes"] == before
    for wrong, status in (("limit=0", 422), ("limit=501", 422), ("cursor=x", 422), ("cursor=999999999", 404)):
        assert guarded.call("boss", "GET", f"/admin/audit?{wrong}").status == status


def test_keys_that_are_made_on_the_command_line_are_in_the_audit_of_the_server_and_survive_a_kill(
    start_server, shop_home, ask
):
    server = start_server(shop_home, {"SENTINEL_ADMIN_KEY": ADMIN_KEY})
    found = Guarded(server, ask)
    found.make("first", "score")

    def whats():
        changes = found.call("admin-key", "GET", "/admin/audit").json["changes"]
        return [(one["what"], one["asked"]) for one in changes]

    begun = time.monotonic()
    while ("keys create", "first") not in whats():
        assert time.monotonic() < begun + 60
        time.sleep(0.05)
    server.kill()
    found.make("second", "score")  # no server: the command writes to the log itself
    server.start()
    assert whats()[:2] == [("keys create", "second"), ("keys create", "first")]
    command = [sys.executable, "-m", "sentinel", "audit", "--json", "--home", str(server.home)]
    told = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert [(one["what"], one["asked"]) for one in told["changes"]][:2] == whats()[:2]
    assert told["waiting"] == []


# starts


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({"SENTINEL_ADMIN_KEY": ""}, "SENTINEL_ADMIN_KEY must be 16 characters"),
        ({"SENTINEL_ADMIN_KEY": "short"}, "SENTINEL_ADMIN_KEY must be 16 characters"),
        ({"SENTINEL_AUTH": "off", "SENTINEL_HOST": EVERYWHERE}, "answers this machine only"),
    ],
)
def test_a_start_that_would_leave_the_door_open_is_refused(tmp_path, environment, text):
    command = [
        sys.executable,
        "-m",
        "sentinel",
        "serve",
        "--home",
        str(tmp_path),
        "--port",
        str(free_port("127.0.0.1")),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, timeout=60)
    assert done.returncode == 1
    assert text in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_on_every_address_keys_are_needed_without_a_setting(start_server, shop_home, ask, tmp_path_factory):
    class Everywhere(ServerProcess):
        def __init__(self, home, _host, port, **more):
            super().__init__(home, EVERYWHERE, port, **more)

    server = start_server(shop_home, {"SENTINEL_ADMIN_KEY": ADMIN_KEY}, Everywhere)
    assert ask(server.port, "POST", "/v1/score", payment()).status == 401
    assert ask(server.port, "GET", "/health/ready").status == 200
    assert ask(server.port, "POST", "/v1/score", payment(), authorization=f"Bearer {ADMIN_KEY}").status == 200


def test_several_processes_ask_for_keys_too(start_server, shop_home, ask):
    server = start_server(
        shop_home, {"SENTINEL_AUTH": "required", "SENTINEL_ADMIN_KEY": ADMIN_KEY, "SENTINEL_WORKERS": "2"}
    )
    found = Guarded(server, ask)
    found.make("shop", "score")
    found.until(200, "shop", "POST", "/predict", VECTOR)
    assert found.call(None, "POST", "/predict", VECTOR).status == 401
    begun = time.monotonic()
    while not found.call("admin-key", "GET", "/admin/audit").json["changes"]:
        assert time.monotonic() < begun + 60
        time.sleep(0.1)
    revoke_key(found.settings, "shop")
    time.sleep(2.5)
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(found.call("shop", "POST", "/predict", VECTOR).status))
        for _ in range(20)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert set(answers) <= {401, 429}


def test_allow_names_all_that_a_path_takes(plain, ask):
    assert ask(plain.port, "DELETE", "/admin/thresholds").headers["allow"] == "GET, HEAD, POST"
    assert ask(plain.port, "DELETE", "/v1/decisions/a/b").headers["allow"] == "GET, HEAD"


def test_a_report_of_no_shadow_is_404(plain, ask):
    answer = ask(plain.port, "GET", "/admin/shadow/report")
    assert answer.status == 404
    assert "POST /admin/shadow/start" in answer.json["error"]
