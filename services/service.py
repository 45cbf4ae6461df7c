"""What a service is: a file of this folder declares one, and `services/catalog.py` lists it."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec


class ServiceFailed(Exception):
    """A service that cannot be started, stopped or asked; the text says what to do."""


class EndedAtOnce(ServiceFailed):
    """A server that ended before it answered."""


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """`running.json` of a service: where it answers, and its process.

    `began` is the start of the process in ticks since the machine's, so that another process with its number is not
    taken for it. `environment` is what a client of the service sets; secrets are in it, so the file is its owner's.
    """

    name: str
    pid: int
    began: int
    port: int
    url: str
    user: str | None = None
    password_file: str | None = None
    environment: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a service lives: its folder, its environment of Python, its port, and what runs that it needs."""

    folder: Path
    environment: Path
    port: int
    needed: Mapping[str, Running] = field(default_factory=dict)

    @property
    def python(self) -> Path:
        """The interpreter that has the packages of the service."""
        return self.environment / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        """Where its packages are."""
        (found,) = self.environment.glob("lib/python3*/site-packages")
        return found

    @property
    def password_file(self) -> Path:
        """The file of its password."""
        return self.folder / "password"

    def password(self) -> str:
        """The password, made at the first call and readable by its owner only."""
        if not self.password_file.exists():
            write_private(self.password_file, f"{secrets.token_urlsafe(24)}\n")
        return self.password_file.read_text().strip()


@dataclass(frozen=True, slots=True)
class Started:
    """What a service wants to be run as, and what it tells about itself.

    `drop_to` is the name of a user that the process runs as where we are root. `ready` raises, or returns False, until
    the service answers.
    """

    command: tuple[str | Path, ...]
    ready: Callable[[], bool]
    url: str
    user: str | None = None
    has_password: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    client_environment: Mapping[str, str] = field(default_factory=dict)
    drop_to: str | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """A server that comes as wheels, or as jars that run on one.

    `start` prepares the folder of a place, which it may find as it left it, and says what to run. `needs` are services
    that have to run first. `keeps` is what of its data outlives a stop, in words for people.
    `tries` is how often a start is tried, half a second apart, when the process ends at once.
    """

    name: str
    about: str
    packages: tuple[str, ...]
    start: Callable[[Place], Started]
    needs: tuple[str, ...] = ()
    keeps: str = "its data"
    patience_s: float = 60.0
    stop_signal: int = 15
    tries: int = 1


def write_private(path: Path, text: str) -> None:
    """A file that its owner alone can read."""
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text)
