"""A container of an image, restricted as an operator would restrict it."""

import contextlib
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deploy.image.engine import logs_of, podman
from sentinel.commands.server_process import free_port

HOST = "127.0.0.1"
USER = 10001
PATIENCE_S = 120.0
RESTRICTED = (
    "--read-only", "--read-only-tmpfs=false", "--tmpfs=/tmp:rw,noexec,nosuid,nodev,size=64m,mode=1777", "--cap-drop=all", "--security-opt=no-new-privileges", "--network=host",
    "--memory=1500m", "--memory-swap=1500m", "--pull=never",
)  # fmt: skip
"""Nothing but the volume and 64 MB of memory in /tmp can be written, no capability is left, and none can be had."""


class Container:
    """A server in a container, over a home folder that it may write. Its name is the home's."""

    def __init__(self, image: str, home: Path, options: Sequence[str] = (), **environment: str) -> None:
        self.image, self.home, self.port = image, home, free_port(HOST)
        self.name = f"sentinel-test-{os.getpid()}-{home.name}"
        self._options = options
        self._environment = {
            "SENTINEL_PORT": str(self.port), "SENTINEL_HOST": HOST, "SENTINEL_DEADLINE_MS": "5000",
            "SENTINEL_CIRCUIT_THRESHOLD_MS": "5000", **environment,
        }  # fmt: skip

    def start(self) -> None:
        """Start it; it need not be ready."""
        told = [word for name, value in self._environment.items() for word in ("--env", f"{name}={value}")]
        podman("run", "--detach", "--name", self.name, *RESTRICTED, "--volume", f"{self.home}:/data",
               *self._options, *told, self.image)  # fmt: skip

    def wait_until_ready(self) -> None:
        """Wait for /health/ready. Raises RuntimeError when it has ended, TimeoutError when it takes too long."""
        end_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < end_s:
            try:
                self.ask("/health/ready")
            except OSError:
                if not self.state()["Running"]:
                    raise RuntimeError(f"it ended: {self.log()}") from None
                time.sleep(0.2)
            else:
                return
        raise TimeoutError(f"not ready within {PATIENCE_S:g} s: {self.log()}")

    def ask(self, path: str, body: object = None) -> Any:
        """What it answers to a GET, or to a POST of a body."""
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(
            f"http://{HOST}:{self.port}{path}", data, {"content-type": "application/json"}
        )  # fmt: skip
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return json.load(answer)

    def run(self, *command: str) -> str:
        """What a command in the container says."""
        return podman("exec", self.name, *command)

    def state(self) -> dict[str, Any]:
        """As podman says it: Running, ExitCode, OOMKilled."""
        found: dict[str, Any] = json.loads(podman("inspect", "--type", "container", self.name))[0]["State"]
        return found

    def stop(self) -> int:
        """SIGTERM, and SIGKILL only a minute later; its exit code."""
        podman("stop", "--time", "60", self.name)
        return int(self.state()["ExitCode"])

    def log(self) -> str:
        """What it has said."""
        return logs_of(self.name)

    def remove(self) -> None:
        """End it, however it is."""
        podman("rm", "--force", "--time", "5", "--ignore", self.name)


def given_to_the_user(folder: Path) -> Path:
    """A folder as a volume of the containers' user; what is above it lets that user through."""
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, USER, USER)
    for above in folder.parents:
        with contextlib.suppress(PermissionError):
            above.chmod(above.stat().st_mode | 0o011)
    return folder
