"""Who asks: without a key, with a wrong one, with too little scope, from a web page, behind a proxy, from elsewhere."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from attacks.arena import ADMIN_KEY, HOST, Arena, made_key, payment, read_all
from attacks.attack import Attack, Tried

_REQUIRED = {"SENTINEL_AUTH": "required", "SENTINEL_ADMIN_KEY": ADMIN_KEY}
_OPEN = {("GET", "/health/live"), ("GET", "/health/ready"), ("GET", "/health/startup")}
_CALLS: dict[tuple[str, str], tuple[str, object]] = {
    ("POST", "/v1/score"): ("score", payment("k1")),
    ("POST", "/predict"): ("score", {"features": {}}),
    ("POST", "/v1/outcomes"): ("outcomes", {"transaction_id": "k1", "is_fraud": True}),
    ("POST", "/v1/events"): (
        "events",
        {"event": "password_change", "event_id": "k1", "event_time": 1_738_400_000, "card_id": "c1"},
    ),
    ("POST", "/v1/tables/k1"): ("tables", {"card_id": "c1"}),
    ("GET", "/v1/tables"): ("read", None),
    ("GET", "/v1/tables/k1/c1"): ("read", None),
    ("GET", "/v1/events/k1"): ("read", None),
    ("GET", "/v1/decisions"): ("read", None),
    ("GET", "/v1/decisions/k1"): ("read", None),
    ("GET", "/health"): ("read", None),
    ("GET", "/metrics"): ("read", None),
    ("GET", "/metrics/prom"): ("read", None),
    ("GET", "/docs"): ("read", None),
    ("GET", "/openapi.json"): ("read", None),
    ("GET", "/admin/version"): ("admin", None),
    ("GET", "/admin/drift"): ("admin", None),
    ("POST", "/admin/reload"): ("admin", {}),
    ("POST", "/admin/fallback"): ("admin", {"only": False}),
    ("POST", "/admin/log/prune"): ("admin", {"dry_run": True}),
}


def scopes(arena: Arena) -> Tried:
    """Every call with no key, a wrong key, and each key that has another scope."""
    broken, tried = [], 0
    home = arena.folder / "scopes"
    shutil.copytree(arena.home, home)
    keys = {scope: made_key(home, scope) for scope in ("score", "outcomes", "events", "tables", "read", "admin")}
    with arena.server(_REQUIRED, home) as target:
        paths = set(target.ask("GET", "/openapi.json", headers=_bearer(keys["read"])).body["paths"])
        known = {path.split("/k1")[0] for _, path in _CALLS} | {path for _, path in _OPEN}
        if unknown := [path for path in paths if not any(path.startswith(one) for one in known if one != "/")]:
            broken += [
                f"{path} is open to anyone"
                for path in unknown
                if target.ask("GET", path.replace("{", "").replace("}", "")).status == 200 and path != "/"
            ]
        for (method, path), (needed, body) in _CALLS.items():
            for headers in ({}, _bearer("sk_" + "a" * 43), _bearer(""), {"authorization": "Basic YTpi"}):
                tried += 1
                if (status := target.ask(method, path, body, headers).status) not in (401, 429):
                    broken.append(f"{method} {path} with {headers} was answered {status}")
            for scope, key in keys.items():
                tried += 1
                status = target.ask(method, path, body, _bearer(key)).status
                if scope != needed and scope != "admin" and status != 403:
                    broken.append(f"{method} {path} with a key for {scope} was answered {status}")
                if scope == needed and status in (0, 401, 403, 500):
                    broken.append(f"{method} {path} with its own key was answered {status}")
        text = target.log_text() + json.dumps(target.ask("GET", "/metrics", headers=_bearer(keys["read"])).body)
        broken += [f"the key for {scope} stands in a log or a metric" for scope, key in keys.items() if key in text]
        stored = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
        broken += [f"the key for {scope} is stored" for scope, key in keys.items() if key.encode() in stored]
    return Tried(tried, broken[:10])


def _bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def proxies(arena: Arena) -> Tried:
    """The operator without a key is a loopback caller that says nothing else."""
    broken = []
    lies = [
        {"x-forwarded-for": "10.1.2.3"}, {"forwarded": "for=1.2.3.4"}, {"x-real-ip": "1.2.3.4"}, {"via": "1.1 proxy"},
        {"x-forwarded-for": "127.0.0.1"}, {"x-forwarded-host": "localhost"}, {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example"}, {"origin": "https://evil.example"}, {"origin": "null"},
        {"sec-fetch-site": "cross-site"}, {"host": "evil.example", "origin": "http://evil.example"},
    ]  # fmt: skip
    with arena.server() as target:
        for lie in lies:
            status = target.ask("POST", "/admin/fallback", {"only": False}, lie).status
            if status not in (400, 401, 403, 421):
                broken.append(f"an admin call with {lie} was answered {status}")
        for lie in lies[-6:]:
            status = target.ask("POST", "/v1/score", payment(f"lie-{lies.index(lie)}"), lie).status
            if status not in (400, 401, 403, 421):
                broken.append(f"a transaction with {lie} was answered {status}")
        without = json.dumps(payment("no-type")).encode()
        with contextlib.closing(target.connect()) as wire:
            wire.sendall(b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(without))
            wire.sendall(without)
            if b" 415 " not in read_all(wire, 0.3)[:20]:
                broken.append("a body without a Content-Type was taken")
    return Tried(len(lies) + 7, broken)


def settings(arena: Arena) -> Tried:
    """An admin key that is empty or short, and a server for others that asks for none."""
    broken = []
    address = _own_address()
    bad = [{"SENTINEL_ADMIN_KEY": ""}, {"SENTINEL_ADMIN_KEY": " "}, {"SENTINEL_ADMIN_KEY": "short"}]
    if address:
        bad.append({"SENTINEL_HOST": address, "SENTINEL_AUTH": "off"})
    for setting in bad:
        try:
            ended = subprocess.run(
                [sys.executable, "-m", "sentinel", "serve", "--home", str(arena.home)],
                env={**os.environ, "SENTINEL_PORT": "18999", **setting}, capture_output=True, text=True, timeout=20,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            broken.append(f"it serves with {setting}")
            continue
        if ended.returncode == 0 or "Traceback" in ended.stderr:
            broken.append(f"{setting}: it ended with {ended.returncode}, {ended.stderr[-200:]}")
    return Tried(len(bad), broken)


def _own_address() -> str | None:
    """An address of this machine that is not loopback."""
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # nothing is sent
        return str(probe.getsockname()[0])
    return None


_PAGE = """<script>
const send = (path, what, kind) => fetch("http://127.0.0.1:%(port)d" + path,
  {method: "POST", mode: "no-cors", headers: kind ? {"content-type": kind} : {},
   body: new Blob([JSON.stringify(what)])})
  .catch(() => 0);
const one = n => ({transaction_id: "page-" + n, event_time: Date.now() / 1000 | 0, amount: 9.5, card_id: "c1",
  merchant_id: "m1", merchant_category: "grocery", channel: "online", country: "DE"});
send("/v1/score", one(1)).then(() => send("/v1/score", one(2), "text/plain"))
  .then(() => send("/v1/score", one(3), "application/json")).then(() => send("/admin/fallback", {only: true}))
  .then(() => send("/v1/outcomes", {transaction_id: "mine", is_fraud: true})).then(() => document.title = "sent");
</script>"""


def page(arena: Arena) -> Tried:
    """A web page of somebody else, opened in a browser on the machine of the operator."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        return Tried(0, [], "no Chromium here; apt-get install chromium")
    with arena.server() as target:
        target.ask("POST", "/v1/score", payment("mine"))
        asked: list[str] = []

        class Evil(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                body = (_PAGE % {"port": target.port}).encode()
                self.send_response(200)
                self.send_header("content-type", "text/html")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        with HTTPServer((HOST, 0), Evil) as site:
            threading.Thread(target=site.serve_forever, daemon=True).start()
            dumped = subprocess.run(
                [browser, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=4000", "--dump-dom",
                 f"--user-data-dir={arena.folder / 'browser'}", f"http://localhost:{site.server_port}/"],
                capture_output=True, text=True, timeout=90,
            )  # fmt: skip
            site.shutdown()
        if "<title>sent" not in dumped.stdout:
            return Tried(5, [f"the browser did not run the page: {dumped.stdout[-200:]} {dumped.stderr[-300:]}"])
        broken = [
            f"the page's transaction page-{n} was decided"
            for n in (1, 2, 3)
            if target.ask("GET", f"/v1/decisions/page-{n}").status == 200
        ]
        if target.ask("GET", "/v1/decisions/mine").body["outcomes"]:
            broken.append("the page's outcome was recorded")
        if target.ask("POST", "/v1/score", payment("after-the-page")).body.get("degraded"):
            broken.append("the page has switched the model off")
    return Tried(5, broken)


def neighbour(arena: Arena) -> Tried:
    """Another host, in a network namespace of its own: without a key it gets nothing."""
    if os.geteuid() or shutil.which("ip") is None:
        return Tried(0, [], "a network namespace needs root and `ip`")
    space, ours, theirs = f"sentinel{os.getpid()}", "10.213.7.1", "10.213.7.2"
    here, there = f"sa{os.getpid() % 10_000}", f"sb{os.getpid() % 10_000}"
    steps = [
        f"ip netns add {space}", f"ip link add {here} type veth peer name {there}",
        f"ip link set {there} netns {space}",
        f"ip addr add {ours}/30 dev {here}", f"ip link set {here} up",
        f"ip netns exec {space} ip addr add {theirs}/30 dev {there}", f"ip netns exec {space} ip link set {there} up",
    ]  # fmt: skip
    try:
        for step in steps:
            done = subprocess.run(step.split(), capture_output=True, text=True)
            if done.returncode:
                return Tried(0, [], f"no network namespace to be had: {done.stderr.strip()}")
        return _from_namespace(arena, space, ours)
    finally:
        for step in (f"ip link del {here}", f"ip netns del {space}"):
            subprocess.run(step.split(), capture_output=True)


def _from_namespace(arena: Arena, space: str, ours: str) -> Tried:
    broken, tried = [], 0
    with arena.server({"SENTINEL_HOST": ours, "SENTINEL_ADMIN_KEY": ADMIN_KEY}) as target:  # auth is required by itself
        for (method, path), (_, body) in _CALLS.items():
            for header in ("X-Nothing: 1", "X-Forwarded-For: 127.0.0.1", "Host: localhost", "Origin: http://localhost"):
                tried += 1
                asked = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-m", "10", "-X", method, "-H", header]
                asked += ["-H", "content-type: application/json", "-d", json.dumps(body)] if body is not None else []
                inside = ["ip", "netns", "exec", space, *asked, f"http://{ours}:{target.port}{path}"]
                done = subprocess.run(inside, capture_output=True, text=True)
                if done.stdout not in ("401", "403", "421", "400", "429"):
                    broken.append(f"{method} {path} {header} from another host was answered {done.stdout}")
    return Tried(tried, broken[:10])


ATTACKS = [
    Attack("scopes", "a call that one has no key for", scopes),
    Attack("proxies", "the rights of the operator by a lie", proxies),
    Attack("settings", "a door that is left open by a setting", settings),
    Attack("page", "writes by a web page that somebody opens", page),
    Attack("neighbour", "anything at all from another host", neighbour),
]
