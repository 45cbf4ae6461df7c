"""A build that may be stopped at any moment: its parts, and where it was, in a folder beside its output.

A part is there under its name when it is whole. The newest checkpoint says how many parts count; what was written after
it, for a part or as hashes of ids, is written once more.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.durable import make_folder, replacing, sync_folder
from sentinel.errors import DataProblem, StorageProblem
from sentinel.events.columns import EventColumns
from sentinel.features.packed import unpack, write_packed

_FACTS, _STATE, _TOLD = "facts", "state.", "told."
HASH_BYTES = 8


class Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a build was, but for its feature state.

    `origin` is what it was made of, by name: what of that is another has other features. `rows` were read,
    `transactions` of them written, in `parts` parts. `skipped` and `examples` are those of its reader, `words` are
    counts of its label's words, `meanings` and `vocabulary` what was learned before the first row, at `now_us`.
    `told` are the types and shapes of outcomes that wait.
    """

    origin: dict[str, str]
    rows: int
    transactions: int
    parts: int
    skipped: dict[str, int]
    examples: dict[str, tuple[int, str | None]]
    words: dict[str, int]
    meanings: dict[str, int | None]
    vocabulary: dict[str, tuple[str, ...]]
    now_us: int
    told: list[tuple[str, tuple[int, ...]]] | None = None


class Checkpoint(msgspec.Struct, frozen=True):
    """Facts with the feature state (see `MemoryStore.snapshot`) and the outcomes that wait."""

    facts: Facts
    state: Mapping[str, NDArray[Any]]
    told: EventColumns | None


class Unfinished:
    """The folder of a build of one output, locked while this is open."""

    def __init__(self, out: Path) -> None:
        self.folder = out.with_name(f".{out.name}.unfinished")
        self._out = out

    @contextmanager
    def locked(self) -> Iterator["Unfinished"]:
        """One build at a time. Raises DataProblem while another one goes on."""
        make_folder(self.folder, 0o700)
        with (self.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DataProblem(f"another build of {self._out} goes on; wait for it, or end it") from None
            try:
                yield self
            finally:
                if not self._checkpoint.exists():
                    self.forget()

    def newest(self, origin: Mapping[str, str]) -> Checkpoint | None:
        """Where the build before was, None where there was none.

        Raises DataProblem for one of another origin, or that cannot be read.
        """
        if not self._checkpoint.exists():
            return None
        try:
            found = _read(self._checkpoint.read_bytes())
        except (StorageProblem, OSError, KeyError, ValueError, msgspec.DecodeError) as error:
            raise DataProblem(
                f"{self._checkpoint} cannot be read ({error}); --restart builds all of it anew"
            ) from error
        known = found.facts.origin
        others = [name for name in origin.keys() | known.keys() if origin.get(name) != known.get(name)]
        if others:
            raise DataProblem(
                f"{self.folder} holds a build that was stopped after {found.facts.rows:,} rows, and since then "
                f"{' and '.join(sorted(others))} changed; --restart builds all of it anew"
            )
        return found

    def save(self, found: Checkpoint) -> None:
        """Put a checkpoint in the place of the one before. Its parts and hashes of ids are durable."""
        told = [] if found.told is None else list(found.told.columns())
        facts = msgspec.structs.replace(
            found.facts, told=None if found.told is None else [(one.dtype.str, one.shape) for one in told]
        )
        named = {_FACTS: np.frombuffer(msgspec.json.encode(facts), np.uint8)}
        named |= {f"{_STATE}{name}": array for name, array in found.state.items()}
        named |= {f"{_TOLD}{n}": np.ascontiguousarray(one).reshape(-1).view(np.uint8) for n, one in enumerate(told)}
        with replacing(self._checkpoint) as draft, draft.open("wb") as file:
            write_packed(named, file)

    def part(self, number: int) -> Path:
        """The file of a part, from 0 on."""
        return self.folder / f"{number:06d}.parquet"

    @contextmanager
    def ids(self, known: int) -> Iterator[BinaryIO]:
        """The file of the hashes of ids, of which so many count."""
        with (self.folder / "ids").open("a+b") as file:
            if file.tell() < HASH_BYTES * known:
                raise DataProblem(f"{file.name} is shorter than it was; --restart builds all of it anew")
            file.truncate(HASH_BYTES * known)
            yield file

    def put_in_place(self, part: Path) -> None:
        """Make a part that is all there is the output."""
        part.replace(self._out)
        sync_folder(self._out.parent)

    def clear(self) -> None:
        """Delete all that was built, but for the lock."""
        self._checkpoint.unlink(missing_ok=True)
        for one in self.folder.iterdir():
            if one.name != "lock":
                one.unlink()

    def forget(self) -> None:
        """Delete the folder, with its checkpoint first: without one nothing in it counts."""
        self._checkpoint.unlink(missing_ok=True)
        shutil.rmtree(self.folder)

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint.npz"


def sync(file: BinaryIO) -> None:
    """Make what was written durable. Raises OSError."""
    file.flush()
    os.fsync(file.fileno())


def _read(data: bytes) -> Checkpoint:
    parts = unpack(data)
    facts = msgspec.json.decode(parts.pop(_FACTS).tobytes(), type=Facts)
    state = {name.removeprefix(_STATE): array for name, array in parts.items() if name.startswith(_STATE)}
    if facts.told is None:
        return Checkpoint(facts, state, None)
    told = [
        np.frombuffer(parts[f"{_TOLD}{n}"].tobytes(), np.dtype(kind)).reshape(shape)
        for n, (kind, shape) in enumerate(facts.told)
    ]
    return Checkpoint(facts, state, EventColumns(*told))
