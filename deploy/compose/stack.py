"""Starting the services of compose.yaml in their order, looking at them, ending them."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from deploy.compose.engine import ROOT, Engine
from deploy.compose.passwords import StackFailed

FILE = ROOT / "deploy" / "compose.yaml"
SERVICES_FILE = ROOT / "deploy" / "compose.services.yaml"
PROFILES = ("tracing", "topics")
OURS = {
    "STACK_SERVING_IMAGE": "localhost/sentinel:serving",
    "STACK_TRAINING_IMAGE": "localhost/sentinel:training",
}  # fmt: skip
"""The settings that name our own images, and what they are without them."""

_PATIENCE_S, _PAUSE_S = 900.0, 1.0
_ELSEWHERE = "elsewhere"
_SAID_LINES = 30
Tell = Callable[[str], None]


class Stack:
    """The services that are wanted, in one project. `on_host` leaves those out that run on the host."""

    def __init__(self, engine: Engine, profiles: Sequence[str] = (), *, on_host: bool = False) -> None:
        unknown = sorted(set(profiles) - set(PROFILES))
        if unknown:
            raise StackFailed(f"there is no profile {unknown[0]!r}; there are {', '.join(PROFILES)}")
        self.engine = engine
        self._files = (FILE, SERVICES_FILE) if on_host else (FILE,)
        self._profiles = profiles
        self.services = wanted_services(self._files, profiles)

    def up(self, tell: Tell) -> None:
        """Start what does not run, each once all that it needs is well. Raises StackFailed."""
        for level in levels(self.services):
            self._compose("up", "--detach", "--no-deps", *level)
            for name in level:
                begun = time.monotonic()
                tell(f"{name}: {self._wait(name)} after {time.monotonic() - begun:.0f} s")

    def down(self, *, volumes: bool) -> None:
        """End all of it, whatever profile it is of; with `volumes` its data go, too."""
        every = [word for name in PROFILES for word in ("--profile", name)]
        self.engine.run_compose("-f", str(FILE), *every, "down", *(["--volumes"] if volumes else []))

    def logs(self, names: Sequence[str], *, follow: bool) -> None:
        """Show what services say."""
        self._compose("logs", *(["--follow"] if follow else []), *names)

    def status(self) -> list[dict[str, str]]:
        """Every service that is wanted or there, with its state and health."""
        there = self.engine.containers()
        return [
            {
                "service": name,
                "state": there[name].state if name in there else "absent",
                "health": self.engine.health(there[name]) if name in there else "absent",
            }
            for name in [*self.services, *(one for one in there if one not in self.services)]
        ]

    def _compose(self, *arguments: str) -> None:
        files = [word for path in self._files for word in ("-f", str(path))]
        profiles = [word for name in self._profiles for word in ("--profile", name)]
        self.engine.run_compose(*files, *profiles, *arguments)

    def _wait(self, name: str) -> str:
        """Until a service is well, or has ended well where it is there to end. Raises StackFailed."""
        ends = self.services[name].get("restart") == "no"
        until = time.monotonic() + _PATIENCE_S
        while True:
            container = self.engine.containers().get(name)
            health = "absent" if container is None else self.engine.health(container)
            if health == ("done" if ends else "healthy"):
                return health
            if container is not None and (_has_failed(health, ends=ends) or time.monotonic() > until):
                said = self.engine.said_by(container, _SAID_LINES)
                raise StackFailed(f"{name} is {health}; the last that it said:\n{said}")
            if time.monotonic() > until:
                raise StackFailed(f"{name} was not started by {' '.join(self.engine.compose)}")
            time.sleep(_PAUSE_S)


def _has_failed(health: str, *, ends: bool) -> bool:
    return ends and health == "exited"


def wanted_services(files: Sequence[Path], profiles: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The services of compose files that these profiles have, as the first file declares them."""
    declared = [_read(path)["services"] for path in files]
    found = {}
    for name, service in declared[0].items():
        of = [one for more in declared for one in (more.get(name) or {}).get("profiles", [])]
        if not of or set(of) <= set(profiles):
            found[name] = service
    return found


def levels(services: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """The services in groups: each needs only what is in groups before. Raises StackFailed for a circle."""
    left = {name: set(one.get("depends_on", {})) & set(services) for name, one in services.items()}
    found: list[list[str]] = []
    while left:
        level = [name for name, needs in left.items() if not needs & set(left)]
        if not level:
            raise StackFailed(f"these services need each other: {', '.join(left)}")
        found.append(level)
        left = {name: needs for name, needs in left.items() if name not in level}
    return found


def first_log_in(said: str) -> str | None:
    """The line in which the console told its first password, as long as its log has it."""
    return next((line.strip() for line in said.splitlines() if "first log-in:" in line), None)


def missing_images(engine: Engine, settings: Mapping[str, str]) -> list[str]:
    """Which of our own images are not here."""
    names = [settings.get(name) or default for name, default in OURS.items()]
    return [name for name in dict.fromkeys(names) if not engine.has_image(name)]


def _read(path: Path) -> Any:
    return yaml.load(path.read_text(), _Loader)  # noqa: S506 - a SafeLoader


class _Loader(yaml.SafeLoader):
    """Knows the tag `!reset` of Compose, which takes back what another file says."""


_Loader.add_constructor("!reset", lambda _loader, _node: {})
