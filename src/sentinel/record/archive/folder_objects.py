"""Objects in a folder: another disk of this machine, or one of the network."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from sentinel.errors import NoObject, ObjectTaken, StorageProblem
from sentinel.objects.store import Found
from sentinel.record.disk import Disk, RealDisk

_DRAFT = ".draft"
_PIECE = 1 << 20


class FolderObjects:
    """The objects below a folder, written durably before they get their names. One process writes."""

    def __init__(self, folder: Path, disk: Disk | None = None) -> None:
        self._folder, self._disk = folder, disk or RealDisk()
        self.at = str(folder)

    def make(self) -> None:
        """Make the folder."""
        with self._naming("made", ""):
            self._disk.make_folder(self._folder)

    def put(self, name: str, data: bytes) -> None:
        """Write a draft and rename it."""
        self.upload(name, [data])

    def create(self, name: str, data: bytes) -> None:
        """The same where there is none."""
        if (self._folder / name).exists():
            raise ObjectTaken(f"{self.at} has {name} already")
        self.put(name, data)

    def upload(self, name: str, pieces: Iterable[bytes]) -> None:
        """Write a draft, synced piece by piece, and rename it."""
        path = self._folder / name
        draft = path.with_name(_DRAFT)
        with self._naming("written", name):
            self._disk.make_folder(path.parent)
            file = self._disk.create(draft)
        with closing(file):
            at = 0
            for piece in pieces:
                with self._naming("written", name):
                    file.write(at, piece)
                    file.sync()
                at += len(piece)
        with self._naming("written", name):
            self._disk.rename(draft, path)
            self._disk.sync_folder(path.parent)

    def get(self, name: str) -> bytes:
        """Read a file."""
        return b"".join(self.pieces(name))

    def beginning(self, name: str, length: int) -> bytes:
        """Read some of a file."""
        with self._naming("read", name), closing(self._disk.open(self._folder / name)) as file:
            return file.read(0, length)

    def pieces(self, name: str) -> Iterator[bytes]:
        """Read a file, a megabyte at once."""
        with self._naming("read", name), closing(self._disk.open(self._folder / name)) as file:
            for at in range(0, file.size(), _PIECE):
                yield file.read(at, _PIECE)

    def found(self, below: str = "") -> list[Found]:
        """Walk the folder."""
        with self._naming("listed", below):
            paths = [path for path in (self._folder / below).rglob("*") if path.name != _DRAFT and path.is_file()]
            stats = [(str(path.relative_to(self._folder)), path.stat()) for path in paths]
        return sorted(Found(name, one.st_size, datetime.fromtimestamp(one.st_mtime, UTC)) for name, one in stats)

    def parts(self) -> list[str]:
        """List the folder."""
        with self._naming("listed", ""):
            return sorted(path.name for path in self._folder.glob("*/"))

    def delete(self, names: Sequence[str]) -> None:
        """Unlink files."""
        for name in names:
            path = self._folder / name
            with self._naming("deleted", name), suppress(FileNotFoundError):
                self._disk.unlink(path)
                self._disk.sync_folder(path.parent)

    @contextmanager
    def _naming(self, what: str, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise NoObject(f"{self._folder / name} is not there") from error
        except OSError as error:
            raise StorageProblem(
                f"{self._folder / name} cannot be {what}: {error.strerror or error}; free or repair that disk"
            ) from error
