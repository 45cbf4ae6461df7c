"""A Sentinel server of our own, as a process: what the demo and the parity proof talk to."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from sentinel.errors import SentinelError

_PATIENCE_S = 240.0  # the first start of an installation compiles the kernel
_OF_ANOTHER = (
    "MODELS", "TRUSTED_KEYS_FILE", "TLS_CERTIFICATE", "TLS_KEY", "WORKERS", "ARCHIVE", "LOG", "LOG_TO", "OTLP_ENDPOINT",
    "TRANSACTIONS_TO", "PROFILES", "RULES_NEED_TWO",
)  # fmt: skip
OtherSettings = Mapping[str, str | None]
"""What a process is told otherwise than this one: its variables; None where one is not set there."""

_straight = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy does not know our own server


class ServerFailed(SentinelError):
    """The server did not come up."""


class ServerProcess:
    """`sentinel serve` over a home folder, or another `command`; its log is `server.log` there."""

    command, log_name, ready_path = "serve", "server.log", "/health/ready"

    def __init__(
        self, home: Path, host: str, port: int, *, core: int | None = None, environment: OtherSettings | None = None
    ) -> None:
        """With a `core` it runs on that processor core only; `environment` says what is other than in ours."""
        self.home = home
        self.host = host
        self.port = port
        self._prefix = ["taskset", "--cpu-list", str(core)] if core is not None else []
        told = {**os.environ, **(environment or {})}
        self._environment = {name: value for name, value in told.items() if value is not None}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start it and wait until it is ready; the seconds that took. Raises ServerFailed."""
        if not port_is_free(self.host, self.port):
            raise ServerFailed(f"port {self.port} is taken; stop what uses it, or choose another with --port")
        log = self.home / self.log_name
        command = [*self._prefix, sys.executable, "-m", "sentinel", self.command]
        command += ["--home", str(self.home), "--host", self.host, "--port", str(self.port)]
        begun = time.monotonic()
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603
                command, stdout=output, stderr=output, start_new_session=True, env=self._environment
            )
        while time.monotonic() - begun < _PATIENCE_S:
            if self._process.poll() is not None:
                raise ServerFailed(f"the server ended at once:\n{log.read_text()[-2000:]}")
            if self._is_ready():
                return time.monotonic() - begun
            time.sleep(0.05)
        self.stop()
        said = log.read_text(errors="replace")[-2000:].strip() or "nothing"
        raise ServerFailed(
            f"the server is not ready after {_PATIENCE_S:.0f} s. A first start compiles the features, which takes "
            f"minutes on a busy or slow machine; what is compiled is kept, so try again. It said ({log}):\n{said}"
        )

    @property
    def pid(self) -> int:
        """Of the process; 0 when it does not run."""
        return self._process.pid if self._process else 0

    def stop(self) -> None:
        """End it in good order: what has arrived is answered and saved."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, how)
        self._process.wait()
        self._process = None

    def _is_ready(self) -> bool:
        try:
            with _straight.open(f"http://{self.host}:{self.port}{self.ready_path}", timeout=1) as reply:
                return bool(reply.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False


def apart(environment: Mapping[str, str] = os.environ) -> dict[str, str | None]:
    """What `environment` is to say differently to a server whose home we have made ourselves, and soon throw away.

    The settings of an operator are for another server: nobody has signed the models of this one, and no key but
    `SENTINEL_ADMIN_KEY` is known there, so that without it no key can be required. How fast decisions are due, and
    what secrets are hashed with, stays. It takes what is sent on from a file, which was hidden as it was read.
    """
    names = _OF_ANOTHER if "SENTINEL_ADMIN_KEY" in environment else (*_OF_ANOTHER, "AUTH")
    unset: dict[str, str | None] = {f"SENTINEL_{name}": None for name in names}
    return unset | {"SENTINEL_PARTS_OF_HASHES": "true"}


def port_is_free(host: str, port: int) -> bool:
    """Whether a server could listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(host: str) -> int:
    """A port that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
