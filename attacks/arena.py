"""Where attacks happen: servers of our own on this machine, each over a fresh copy of one trained home folder."""

import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

from sentinel.commands.server_process import ServerProcess, free_port

HOST = "127.0.0.1"
ADMIN_KEY = "an-admin-key-of-the-attacked-server"


class Arena:
    """A trained home folder that servers are started over, and how much is tried: `scale` 1 in CI, more by hand."""

    def __init__(self, folder: Path, scale: int) -> None:
        self.folder = folder
        self.scale = scale
        self.home = folder / "home"
        self._served = 0

    def prepare(self) -> None:
        """Train the model that all servers decide with."""
        data = self.folder / "history.csv"
        run("simulate", "--out", data, "-n", 20_000, "--seed", 7)
        run("train", "--detector", "payments", "--data", data, "--home", self.home)

    @contextlib.contextmanager
    def server(
        self,
        settings: Mapping[str, str] | None = None,
        home: Path | None = None,
        trusting: ssl.SSLContext | None = None,
    ) -> "Iterator[Target]":
        """A running server with these settings, over a copy of the trained home folder or over one that is given.

        One that speaks TLS is asked as a client does that is `trusting` its certificate.
        """
        if home is None:
            self._served += 1
            home = self.folder / f"served-{self._served}"
            shutil.copytree(self.home, home)
        host = (settings or {}).get("SENTINEL_HOST", HOST)
        process = _Process(home, host, free_port(host), environment=settings)
        process.trusting = trusting
        process.start()
        try:
            yield Target(process)
        finally:
            process.stop()


class _Process(ServerProcess):
    """A server that may speak TLS."""

    trusting: ssl.SSLContext | None = None

    def _is_ready(self) -> bool:
        if self.trusting is None:
            return super()._is_ready()
        with contextlib.suppress(OSError):
            address = f"https://{self.host}:{self.port}/health/ready"
            with urllib.request.urlopen(address, timeout=1, context=self.trusting) as reply:
                return bool(reply.status == 200)
        return False


def run(*arguments: object, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A command of Sentinel. Raises CalledProcessError with what it printed."""
    return subprocess.run(
        [sys.executable, "-m", "sentinel", *map(str, arguments)],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )


def made_key(home: Path, scope: str) -> str:
    """A key of its own for a scope."""
    made = run("keys", "create", f"only-{scope}", "--scopes", scope, "--home", home, "--json")
    return str(json.loads(made.stdout)["key"])


class Answer(NamedTuple):
    """Status and JSON, or text, of an answer; status 0 when the connection ended without one."""

    status: int
    body: Any


class Target:
    """One server under attack, as a client sees it."""

    def __init__(self, process: ServerProcess) -> None:
        self.process = process
        self.port = process.port
        self.home = process.home

    def ask(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None, timeout: float = 20
    ) -> Answer:
        """One request of an ordinary client on a connection of its own."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        given = {"content-type": "application/json"} if data is not None else {}
        asked = urllib.request.Request(
            f"http://{self.process.host}:{self.port}{path}", data, {**given, **(headers or {})}, method=method
        )
        try:
            with urllib.request.urlopen(asked, timeout=timeout) as reply:
                return Answer(reply.status, _parsed(reply.read()))
        except urllib.error.HTTPError as error:
            return Answer(error.code, _parsed(error.read()))
        except (OSError, ValueError, HTTPException):
            return Answer(0, None)

    def connect(self, timeout: float = 10) -> socket.socket:
        """A bare connection."""
        wire = socket.create_connection((self.process.host, self.port), timeout=timeout)
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return wire

    def is_well(self) -> bool:
        """Whether it decides."""
        return self.ask("POST", "/v1/score", payment(f"well-{time.time_ns()}")).status == 200

    def log_text(self) -> str:
        """What it has logged so far."""
        return (self.home / "server.log").read_text(errors="replace")

    def descriptors(self) -> int:
        """Open files and connections of the process."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def memory_mb(self) -> int:
        """Resident memory of the process."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) // 1024


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return raw.decode(errors="replace")


def payment(name: object, **changes: object) -> dict[str, object]:
    """A payment of the attacked detector."""
    return {
        "transaction_id": name,
        "event_time": int(time.time()),
        "amount": 12.5,
        "card_id": "c1",
        "merchant_id": "m1",
        "merchant_category": "grocery",
        "channel": "online",
        "country": "DE",
        **changes,
    }


def request(method: bytes, path: bytes, body: bytes = b"", *lines: bytes) -> bytes:
    """The bytes of a request."""
    head = [b"%s %s HTTP/1.1" % (method, path), b"Host: localhost", *lines]
    if body or method == b"POST":
        head += [b"Content-Type: application/json", b"Content-Length: %d" % len(body)]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def read_all(wire: socket.socket, seconds: float = 2.0) -> bytes:
    """Whatever comes until the connection ends or nothing has come for a while."""
    wire.settimeout(seconds)
    found = b""
    with contextlib.suppress(OSError):
        while part := wire.recv(65_536):
            found += part
    return found
