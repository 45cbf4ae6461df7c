"""A disk whose power can be cut, and which can refuse: it keeps what was synced, and any part of the rest."""

import errno
import random
import zlib
from pathlib import Path

SECTOR = 512


class PowerCut(BaseException):
    """The machine, or the process, has stopped in the middle of an operation."""


class Inode:
    """A file's content: as the processes see it, and as the platters have it."""

    def __init__(self) -> None:
        self.seen = bytearray()
        self.kept = bytearray()
        self.dirty: set[int] = set()

    def keep(self, sectors) -> None:
        """Write these sectors to the platters."""
        for sector in sectors:
            begin, end = sector * SECTOR, min((sector + 1) * SECTOR, len(self.seen))
            self.kept.extend(bytes(max(end - len(self.kept), 0)))
            self.kept[begin:end] = self.seen[begin:end]


class SimulatedDisk:
    """All by a seed: with the chance `faults` an operation that writes fails; after `stop_after` operations all stops.

    A failed sync leaves what was to be written marked as clean, as Linux does: the file shows it, and the platters may
    not have it. `kill` ends the processes; `cut_power` loses what was not synced as well.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._names: dict[Path, Inode] = {}
        self._kept_names: dict[Path, Inode] = {}
        self._changes: list[tuple[Path, Path | None, Inode]] = []
        self.faults = 0.0
        self.room = 1 << 40
        self.stop_after: int | None = None
        self.generation = 0
        self.failed = 0

    def open(self, path: Path) -> "SimulatedFile":
        if path not in self._names:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
        return SimulatedFile(self, self._names[path])

    def open_to_write(self, path: Path) -> "SimulatedFile":
        return self.open(path)

    def create(self, path: Path) -> "SimulatedFile":
        self.step()
        inode = self._names[path] = Inode()
        self._changes.append((path, None, inode))
        return SimulatedFile(self, inode)

    def names(self, folder: Path) -> list[str]:
        return sorted(path.name for path in self._names if path.parent == folder)

    def make_folder(self, folder: Path) -> None:
        pass

    def sync_folder(self, folder: Path) -> None:  # noqa: ARG002 - there is one
        self.step()
        self._kept_names = dict(self._names)
        self._changes.clear()

    def rename(self, old: Path, new: Path) -> None:
        self.step()
        if old not in self._names:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(old))
        self._names[new] = self._names.pop(old)
        self._changes.append((new, old, self._names[new]))

    def unlink(self, path: Path) -> None:
        self.step()
        del self._names[path]
        self._changes.append((path, path, Inode()))

    def stamp(self, path: Path) -> str:
        inode = self._names[path]
        return f"{id(inode)} {zlib.crc32(inode.seen)}"

    def free(self, folder: Path) -> int:  # noqa: ARG002 - there is one
        return self.room

    def step(self, inode: Inode | None = None, offset: int = 0, data: bytes = b"") -> None:
        """One operation: it stops in the middle, or fails, or does all of its writing."""
        if self.stop_after is not None:
            self.stop_after -= 1
            if self.stop_after <= 0:
                self._write(inode, offset, data[: self._random.randint(0, len(data))])
                raise PowerCut
        if self._random.random() < self.faults:
            self.failed += 1
            self._write(inode, offset, data[: self._random.choice((0, self._random.randint(0, len(data)), len(data)))])
            raise OSError(self._random.choice((errno.EIO, errno.ENOSPC)), "the simulation says so")
        self._write(inode, offset, data)

    def _write(self, inode: Inode | None, offset: int, data: bytes) -> None:
        if inode is not None and data:
            inode.seen.extend(bytes(max(offset + len(data) - len(inode.seen), 0)))
            inode.seen[offset : offset + len(data)] = data
            inode.dirty.update(range(offset // SECTOR, (offset + len(data) - 1) // SECTOR + 1))

    def sync(self, inode: Inode) -> None:
        """Write what is dirty to the platters, or fail and lose any part of it."""
        try:
            self.step()
        except OSError:
            inode.keep(self._some(inode.dirty))
            inode.dirty.clear()
            raise
        inode.keep(sorted(inode.dirty))
        inode.dirty.clear()

    def kill(self) -> None:
        """End the processes. What was written stays visible; a page that is clean may be read from the platters again."""
        self.generation += 1
        read_again = self._random.choice((0.0, 0.5))
        for inode in self._names.values():
            for sector in range(-(-len(inode.seen) // SECTOR)):
                if sector not in inode.dirty and self._random.random() < read_again:
                    begin, end = sector * SECTOR, min((sector + 1) * SECTOR, len(inode.seen))
                    inode.seen[begin:end] = inode.kept[begin:end].ljust(end - begin, b"\0")

    def cut_power(self) -> None:
        """End all: of what was not synced any part is kept, of names as of content."""
        self.generation += 1
        names = dict(self._kept_names)
        lost = self._random.random()
        for new, old, inode in self._changes:
            if self._random.random() < lost:
                continue
            if old is None:
                names[new] = inode
            elif new == old:
                names.pop(new, None)
            elif names.get(old) is inode:
                del names[old]
                names[new] = inode
        self._names, self._kept_names = names, dict(names)
        self._changes.clear()
        for inode in names.values():
            inode.keep(self._some(inode.dirty))
            inode.dirty.clear()
            inode.seen = bytearray(inode.kept)

    def _some(self, sectors: set[int]) -> list[int]:
        lost = self._random.random()
        return [sector for sector in sorted(sectors) if self._random.random() >= lost]


class SimulatedFile:
    """An open file; it ends with its process."""

    def __init__(self, disk: SimulatedDisk, inode: Inode) -> None:
        self._disk, self._inode, self._generation = disk, inode, disk.generation

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self._inode.seen[offset : offset + length])

    def size(self) -> int:
        return len(self._inode.seen)

    def write(self, offset: int, data: bytes) -> None:
        assert self._generation == self._disk.generation, "its process has ended"
        self._disk.step(self._inode, offset, data)

    def sync(self) -> None:
        assert self._generation == self._disk.generation, "its process has ended"
        self._disk.sync(self._inode)

    def close(self) -> None:
        pass
