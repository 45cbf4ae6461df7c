"""Buildah and podman as they are called here: a store of their own under `.services/image`, nothing from outside."""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".services" / "image"
PROGRAMS = ("buildah", "podman", "runc", "debootstrap")
PACKAGES = "buildah podman runc catatonit netavark aardvark-dns debootstrap debian-archive-keyring gpgv"
_ENVIRONMENT = {"CONTAINERS_CONF": str(Path(__file__).with_name("containers.conf"))}


class EngineFailed(Exception):
    """A program for containers is missing, or did not do what it was told to."""


def missing() -> str | None:
    """What is missing here to build and run containers, and what brings it; None for nothing."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    if absent:
        return f"there is no {', '.join(absent)} here; apt-get install --no-install-recommends {PACKAGES}"
    return None if os.geteuid() == 0 else "images are built by root: debootstrap makes a system"


def environment() -> dict[str, str]:
    """What both programs find in their environment."""
    return {**os.environ, **_ENVIRONMENT, "PATH": _path()}


def buildah(*arguments: object, patience_s: float = 3600) -> str:
    """Call buildah; what it says on standard output. Raises EngineFailed."""
    return called("buildah", *_STORE, *arguments, patience_s=patience_s)


def podman(*arguments: object, patience_s: float = 300) -> str:
    """Call podman; what it says on standard output. Raises EngineFailed."""
    return called("podman", *_STORE, *arguments, patience_s=patience_s)


def logs_of(container: str) -> str:
    """All that a container has said, on standard output and standard error. Raises EngineFailed."""
    return _run(["podman", *_STORE, "logs", container], 60, errors=subprocess.STDOUT).stdout.strip()


def called(*command: object, patience_s: float = 600) -> str:
    """Run a program; what it says on standard output. Raises EngineFailed with the end of what it said."""
    return _run([str(one) for one in command], patience_s, errors=subprocess.PIPE).stdout.strip()


def _run(words: list[str], patience_s: float, errors: int) -> subprocess.CompletedProcess[str]:
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(
            words, stdout=subprocess.PIPE, stderr=errors, text=True, timeout=patience_s, env=environment(), check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise EngineFailed(f"{words[0]} took more than {patience_s:g} s: {' '.join(words)}") from None
    if done.returncode:
        said = "\n".join((done.stdout + (done.stderr or "")).strip().splitlines()[-30:])
        raise EngineFailed(f"{' '.join(words)}\nended with {done.returncode}: {said}")
    return done


def _path() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


_STORE = (
    "--root", str(FOLDER / "store"), "--runroot", str(FOLDER / "run"), "--storage-driver",
    os.environ.get("STORAGE_DRIVER", "overlay"),
)  # fmt: skip
