"""Starting services, finding those that run, stopping them; all they have is below one folder."""

import contextlib
import fcntl
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from services import jars, processes
from services.answering import HOST, free_port, port_opens
from services.jars import Jar
from services.service import EndedAtOnce, Place, Running, Service, ServiceFailed, Started, write_private

ROOT = Path(__file__).resolve().parent.parent
Tell = Callable[[str], None]
_LEAVES_S = 3.0
_LOG_END = 800


class Keeper:
    """Keeps the services of one folder, `.services` of this checkout unless another is given."""

    def __init__(self, catalog: Mapping[str, Service], folder: Path = ROOT / ".services") -> None:
        self.catalog = catalog
        self.folder = folder.absolute()

    def up(self, name: str, tell: Tell) -> Running:
        """Start a service, and before it what it needs, unless it runs. Raises ServiceFailed."""
        service = self._named(name)
        needed = {one: self.up(one, tell) for one in service.needs}
        with self._locked(name):
            found = self.running(name)
            if found is not None:
                return found
            environment = self._environment(name, service.packages, tell)
            folder = self.folder / name
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            place = Place(folder, environment, self._port(name, tell), needed)
            tell(f"{name}: starts on port {place.port}")
            for _ in range(service.tries - 1):
                with contextlib.suppress(EndedAtOnce):
                    return self._start(service, place)
                time.sleep(0.5)
            return self._start(service, place)

    def install(self, name: str, packages: tuple[str, ...], tell: Tell, libraries: Sequence[Jar] = ()) -> Path:
        """The environment of Python with these packages, made where it is not there, and Java's libraries in `jars`.

        Raises ServiceFailed.
        """
        with self._locked(name):
            folder = self._environment(name, packages, tell)
            jars.fetch(list(libraries), folder / "jars")
            return folder

    def running(self, name: str) -> Running | None:
        """What is known of a service whose process runs; None where it does not."""
        path = self.folder / name / "running.json"
        try:
            found = msgspec.json.decode(path.read_bytes(), type=Running)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return found if processes.is_running(found.pid, found.began) else None

    def all_running(self) -> list[Running]:
        """Every service of the catalog that runs."""
        return [found for name in self.catalog if (found := self.running(name)) is not None]

    def stop(self, name: str) -> bool:
        """End a service and keep what it has; False where it did not run."""
        service = self._named(name)
        with self._locked(name):
            found = self.running(name)
            if found is not None:
                processes.end(found.pid, found.began, service.stop_signal)
            (self.folder / name / "running.json").unlink(missing_ok=True)
            return found is not None

    def parts(self) -> list[Path]:
        """All that lies below the folder: data, environments, passwords."""
        return sorted(self.folder.iterdir()) if self.folder.is_dir() else []

    def clean(self) -> None:
        """Stop everything and delete the folder."""
        for name in reversed(list(self.catalog)):
            self.stop(name)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _named(self, name: str) -> Service:
        if name not in self.catalog:
            raise ServiceFailed(f"there is no service {name!r}; there are {', '.join(self.catalog)}")
        return self.catalog[name]

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """One process at a time starts or stops a service."""
        self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        with (self.folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _environment(self, name: str, packages: tuple[str, ...], tell: Tell) -> Path:
        """Its environment of Python, made at the first start and whenever its packages are others."""
        folder = self.folder / f"venv-{name}"
        made = folder / "packages.txt"
        wanted = "\n".join(packages)
        if made.exists() and made.read_text() == wanted:
            return folder
        uv = ROOT / ".venv" / "bin" / "uv"
        tell(f"{name}: installing {', '.join(packages)} into {folder}")
        for command in (
            [uv, "venv", "--quiet", "--clear", "--python", ROOT / ".venv" / "bin" / "python", folder],
            [uv, "pip", "install", "--quiet", "--python", folder / "bin" / "python", *packages],
        ):
            done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
            if done.returncode:
                raise ServiceFailed(f"{name} cannot be installed: {done.stderr.strip()[-_LOG_END:]}")
        made.write_text(wanted)
        return folder

    def _port(self, name: str, tell: Tell) -> int:
        """The port it had before, or a free one."""
        kept = self.folder / name / "port"
        before = int(kept.read_text()) if kept.exists() else 0
        port = before if before and _is_free_soon(before) else free_port()
        if before and port != before:
            tell(f"{name}: its port {before} is taken by another process; it gets {port}")
        kept.write_text(str(port))
        return port

    def _start(self, service: Service, place: Place) -> Running:
        started = service.start(place)
        log = place.folder / "server.log"
        with log.open("ab") as output:
            begin = output.tell()
            process = subprocess.Popen(
                [str(part) for part in started.command],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                cwd="/" if started.drop_to else place.folder, env={**_own_environment(), **started.environment},
                **_account(started.drop_to),
            )  # fmt: skip
        since = processes.began(process.pid) or 0
        try:
            self._wait(service, started, process, log, begin)
        except BaseException:
            processes.end(process.pid, since, service.stop_signal)
            raise
        finally:
            process.returncode = 0  # it outlives this process: Popen is not to look after it
        running = Running(
            name=service.name, pid=process.pid, began=since, port=place.port, url=started.url, user=started.user,
            password_file=str(place.password_file) if started.has_password else None,
            environment=dict(started.client_environment),
        )  # fmt: skip
        write_private(place.folder / "running.json", msgspec.json.encode(running).decode())
        return running

    def _wait(
        self, service: Service, started: Started, process: subprocess.Popen[bytes], log: Path, begin: int
    ) -> None:
        until = time.monotonic() + service.patience_s
        while not started.ready():
            if process.poll() is not None:
                raise EndedAtOnce(f"{service.name} ended with {process.returncode}: {_end_of(log, begin)}")
            if time.monotonic() > until:
                raise ServiceFailed(
                    f"{service.name} does not answer after {service.patience_s:.0f} s: {_end_of(log, begin)}"
                )
            time.sleep(0.05)


def _end_of(log: Path, begin: int) -> str:
    said = log.read_bytes()[begin:].decode(errors="replace").strip()
    return f"{said[-_LOG_END:] or 'it said nothing'} (all of it is in {log})"


def _own_environment() -> dict[str, str]:
    """This process's environment without what is meant for other services or other code."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "MLFLOW_", "PG", "SENTINEL_", "VIRTUAL_ENV", "PYTHONPATH"))
    }


def _account(name: str | None) -> dict[str, Any]:
    return {} if name is None else {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []}


def _is_free_soon(port: int) -> bool:
    """A process that was killed may listen for a moment more, until the last of its threads is gone."""
    give_up = time.monotonic() + _LEAVES_S
    while not (found := _is_free(port)) and time.monotonic() < give_up:
        time.sleep(0.05)
    return found


def _is_free(port: int) -> bool:
    if port_opens(port):
        return False
    with contextlib.closing(socket.socket()) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((HOST, port))
        except OSError:
            return False
        return True
