"""`deploy/nginx.conf` does what it says, in front of a real server: only paths, names and ports are replaced."""

import http.client
import json
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trustme

from sentinel.commands.server_process import ServerProcess, free_port, port_is_free

HOST = "127.0.0.1"
DEPLOYED = Path(__file__).parents[2] / "deploy" / "nginx.conf"
ADMIN = "chosen-by-people-and-long-enough"
INGRESS = DEPLOYED.with_name("ingress.yaml")
PAYMENT = {"event_time": 1_767_225_600, "amount": 12.5, "card": "card-1", "shop": "shop-1", "risk": 0.5}


@pytest.fixture(scope="module")
def home(shop_home, tmp_path_factory):
    copy = tmp_path_factory.mktemp("behind") / "home"
    shutil.copytree(shop_home, copy)
    return copy


@pytest.fixture(scope="module")
def key(home):
    made = subprocess.run(
        [sys.executable, "-m", "sentinel", "keys", "create", "front", "--scopes", "score", "--home", home, "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(made.stdout)["key"]


@pytest.fixture(scope="module")
def front(home, key, program, tmp_path_factory):
    """A server that asks for keys, and nginx before it; the port of the latter, its authority, the server's port."""
    folder = tmp_path_factory.mktemp("nginx")
    authority = trustme.CA()
    certificate = authority.issue_cert("fraud.example")
    certificate.private_key_pem.write_to_path(folder / "key")
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(folder / "pem", append=True)
    settings = {"SENTINEL_AUTH": "required", "SENTINEL_HOSTS": "fraud.example", "SENTINEL_ADMIN_KEY": ADMIN}
    server = ServerProcess(home, HOST, free_port(HOST), environment=settings)
    server.start()
    port = free_port(HOST)
    conf = (
        DEPLOYED.read_text().replace("127.0.0.1:8000", f"{HOST}:{server.port}").replace("443 ssl", f"{HOST}:{port} ssl")
    )
    conf = conf.replace("/etc/nginx/fraud.example.pem", str(folder / "pem"))
    conf = conf.replace("/etc/nginx/fraud.example.key", str(folder / "key"))
    temporary = "".join(
        f"{one}_temp_path {folder / one};" for one in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder / 'pid'}; error_log {folder / 'error.log'} info; events {{}}"
        f"http {{ access_log off; {temporary} {conf} }}"
    )
    nginx = subprocess.Popen(
        [program("nginx", "nginx-light"), "-e", folder / "first.log", "-p", folder, "-c", folder / "nginx.conf"]
    )
    end = time.monotonic() + 60
    while time.monotonic() < end and port_is_free(HOST, port):
        time.sleep(0.05)
    yield port, authority, server.port
    nginx.terminate()
    nginx.wait()
    server.stop()


@pytest.fixture
def ask(front):
    """One request through nginx; status, body."""
    port, authority, _ = front
    context = ssl.create_default_context()
    authority.configure_trust(context)

    def ask(method, path, body=None, *lines):
        data = b"" if body is None else json.dumps(body).encode()
        head = [f"{method} {path} HTTP/1.1", "Host: fraud.example", "Connection: close", f"Content-Length: {len(data)}"]
        head += ["Content-Type: application/json", *lines]
        with context.wrap_socket(socket.create_connection((HOST, port), 10), server_hostname="fraud.example") as wire:
            wire.sendall("\r\n".join([*head, "", ""]).encode() + data)
            answered = b""
            while part := wire.recv(65_536):
                answered += part
        head, _, body = answered.partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]), body

    return ask


def test_a_key_gets_decisions_and_nobody_else(ask, key):
    status, body = ask("POST", "/v1/score", {"transaction_id": "n1", **PAYMENT}, f"Authorization: Bearer {key}")
    assert (status, json.loads(body)["transaction_id"]) == (200, "n1")
    assert ask("POST", "/v1/score", {"transaction_id": "n2", **PAYMENT})[0] == 401


def test_the_proxy_does_not_lend_its_loopback_address(ask):
    for lines in ([], ["X-Forwarded-For: 127.0.0.1"], ["Forwarded: for=127.0.0.1"]):
        assert ask("GET", "/admin/version", None, *lines)[0] == 401


def test_an_upgrade_is_not_passed_on(ask, key):
    lines = [f"Authorization: Bearer {key}", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"]
    status, body = ask("POST", "/v1/score", {"transaction_id": "n3", **PAYMENT}, *lines)
    assert (status, json.loads(body)["transaction_id"]) == (200, "n3")


def test_a_body_beyond_the_limit_is_refused_at_the_door(ask, key):
    status, body = ask("POST", "/v1/score", ["x" * 1_100_000], f"Authorization: Bearer {key}")
    assert (status, json.loads(body)["status"]) == (413, 413)


def test_no_caller_names_a_tenant(ask, key):
    lines = [f"Authorization: Bearer {key}", "X-Sentinel-Tenant: nobody"]
    assert ask("POST", "/v1/score", {"transaction_id": "n4", **PAYMENT}, *lines)[0] == 200


def test_guesses_through_the_proxy_do_not_lock_out_who_asks_at_the_machine(ask, front):
    for n in range(12):
        status, body = ask("GET", "/v1/decisions/n1", None, f"Authorization: Bearer guess-{n}")
    assert (status, json.loads(body)["status"]) == (429, 429)
    assert ask("GET", "/v1/decisions/n1", None, f"Authorization: Bearer {ADMIN}")[0] == 429
    connection = http.client.HTTPConnection(HOST, front[2], timeout=10)
    connection.request("GET", "/admin/version", headers={"Authorization": f"Bearer {ADMIN}"})
    assert connection.getresponse().status == 200
    connection.close()


@pytest.mark.parametrize(
    ("path", "passes"),
    [
        ("/v1/score", True), ("/predict", True), ("/v1/outcomes", True), ("/v1/decisions", True), ("/v1/decisions/a/b", True),
        ("/v1/wallet/score", True), ("/v1/wallet/predict", True), ("/v1/wallet/decisions/admin/x", True), ("/admin/log/prune", False),
        ("/v1/wallet/admin/log/prune", False), ("/v1/wallet/docs", False), ("/predict/x", False),
        ("/metrics", False),
    ],
)  # fmt: skip
def test_the_ingress_passes_decisions_and_no_admin_calls(path, passes):
    """As its nginx reads them: each is the beginning of a path, in any case of letters."""
    patterns = re.findall(r"- path: (\S+)", INGRESS.read_text())
    assert any(re.match(one, path, re.IGNORECASE) for one in patterns) == passes


def test_admin_calls_of_every_detector_come_from_the_machine_of_nginx_only():
    found = re.search(r"location ~ (\S+) \{[^}]*deny all;", DEPLOYED.read_text())
    for path, is_admin in (("/admin/ab/setup", True), ("/v1/wallet/admin/reload", True), ("/v1/wallet/score", False)):
        assert bool(re.match(found[1], path)) == is_admin
