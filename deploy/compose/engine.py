"""The program that runs the stack here: Docker with Compose, or podman with podman-compose."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.compose.passwords import StackFailed

ROOT = Path(__file__).parents[2]
_MISSING = (
    "there is neither Docker with Compose nor podman with podman-compose here. Install Docker with its Compose plugin; "
    "or podman, and then .venv/bin/python -m services install compose"
)
_SERVICE = "com.docker.compose.service"
"""The label that both kinds of Compose put on a container."""


@dataclass(frozen=True, slots=True)
class Container:
    """One container of the stack; `state` is the engine's word, such as `running` or `exited`.

    `checked` is what Docker's last health check said, empty where there was none.
    """

    service: str
    id: str
    state: str
    exit_code: int
    checked: str


@dataclass(frozen=True, slots=True)
class Engine:
    """Docker or podman (`program`, with `options`), and Compose beside it, for one project."""

    program: str
    compose: tuple[str, ...]
    options: tuple[str, ...]
    environment: Mapping[str, str]
    project: str

    def run_compose(self, *arguments: str) -> None:
        """Call Compose; what it says goes to standard error. Raises StackFailed."""
        command = [*self.compose, "--project-name", self.project, *arguments]
        done = subprocess.run(command, env=self.environment, check=False, cwd=ROOT, stdout=2)
        if done.returncode:
            raise StackFailed(f"{' '.join(command)}\nended with {done.returncode}; what it said is above")

    def asked(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Call docker or podman, and hear what it says."""
        command = [self.program, *self.options, *arguments]
        return subprocess.run(command, env=self.environment, check=False, capture_output=True, text=True)

    def containers(self) -> dict[str, Container]:
        """The containers of the project by service, those that have ended too. Raises StackFailed."""
        found = self._answer("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={self.project}")
        if not found.split():
            return {}
        rows = [_container(one) for one in json.loads(self._answer("inspect", *found.split()))]
        return {row.service: row for row in sorted(rows, key=lambda row: row.service)}

    def health(self, container: Container) -> str:
        """`healthy`, `starting` or `unhealthy`; the state of what does not run, `done` where it ended well.

        Docker calls health checks by itself. Podman needs systemd for that, so here they are called.
        """
        if container.state != "running":
            return "done" if container.state == "exited" and container.exit_code == 0 else container.state
        if self.program == "docker":
            return container.checked or container.state
        return "healthy" if self.asked("healthcheck", "run", container.id).returncode == 0 else "unhealthy"

    def said_by(self, container: Container, lines: int) -> str:
        """The last lines that a container has said."""
        done = self.asked("logs", "--tail", str(lines), container.id)
        return (done.stdout + done.stderr).strip()

    def has_image(self, name: str) -> bool:
        """Whether an image is here."""
        return self.asked("image", "inspect", name).returncode == 0

    def _answer(self, *arguments: str) -> str:
        done = self.asked(*arguments)
        if done.returncode:
            raise StackFailed(f"{self.program} does not answer: {done.stderr.strip()[-400:]}")
        return done.stdout


def _container(found: Mapping[str, Any]) -> Container:
    """A container of what `inspect` says of it."""
    state = found["State"]
    return Container(
        service=found["Config"]["Labels"].get(_SERVICE, found["Name"]),
        id=found["Id"],
        state=state["Status"].lower(),
        exit_code=state["ExitCode"],
        checked=(state.get("Health") or {}).get("Status", ""),
    )


def find_engine(environment: Mapping[str, str], project: str) -> Engine:
    """What there is here; with STACK_ENGINE=docker or podman that one. Raises StackFailed that says what to install."""
    wanted = environment.get("STACK_ENGINE", "")
    if wanted not in ("", "docker", "podman"):
        raise StackFailed(f"STACK_ENGINE is {wanted!r}: set docker or podman, or unset it")
    if wanted != "podman" and _answers("docker", "compose", "version") and _answers("docker", "info"):
        return Engine("docker", ("docker", "compose"), (), environment, project)
    program = _podman_compose()
    if wanted != "docker" and program is not None and shutil.which("podman"):
        options, more = _podman_of_images()
        given = tuple(f"--podman-args={option}" for option in options)
        return Engine("podman", (program, "--in-pod=false", *given), options, {**environment, **more}, project)
    raise StackFailed(_MISSING)


def _answers(*command: str) -> bool:
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _podman_compose() -> str | None:
    own = ROOT / ".services" / "venv-compose" / "bin" / "podman-compose"
    return str(own) if own.exists() else shutil.which("podman-compose")


def _podman_of_images() -> tuple[tuple[str, ...], dict[str, str]]:
    """How podman finds what `make image` has made: that has a store, and settings, of its own."""
    folder, settings = ROOT / ".services" / "image", ROOT / "deploy" / "image" / "containers.conf"
    if not (folder / "store").is_dir():
        return (), {}
    driver = os.environ.get("STORAGE_DRIVER", "overlay")
    options = ("--root", str(folder / "store"), "--runroot", str(folder / "run"), "--storage-driver", driver)
    return options, {"CONTAINERS_CONF": str(settings)} if settings.exists() else {}
