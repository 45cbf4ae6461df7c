"""Snapshots: the feature state as it was before one entry, so that a start need not replay the whole log."""

import logging
import os
import re
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentinel.errors import SentinelError
from sentinel.features.store import MemoryStore, unpack, write_packed

KEPT = 2
PAUSE_S = 0.002
"""After every quarter of a megabyte, while transactions are decided."""

_logger = logging.getLogger(__name__)
_ORIGIN = "origin"


def _origin_in(path: Path) -> str | None:
    """What a snapshot says it is of; None when it cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return bytes(archive[_ORIGIN]).decode()
    except Exception:  # noqa: BLE001 - damaged bytes raise whatever they lead to
        return None


class Snapshots:
    """Files `<state id>-<next entry>.npz` in one folder; the newest two of a state are kept.

    An older one is the `.spare` that the next is written into. Several processes may save: whoever is late with an
    older state leaves the newer ones alone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="snapshots")
        self._writing: Future[None] | None = None

    def close(self) -> None:
        """Wait for the last write."""
        self._writer.shutdown(wait=True)

    def writing(self) -> bool:
        """Whether the last one is still on its way to the disk."""
        return self._writing is not None and not self._writing.done()

    def finish(self) -> None:
        """Wait until the last one is on the disk."""
        if self._writing is not None:
            self._writing.result()

    def run_soon(self, task: Callable[[], None]) -> None:
        """Have something done in the background, after what is being written."""
        self._writer.submit(task)

    def save_soon(self, name: str, position: int, origin: str, state: Mapping[str, NDArray[Any]]) -> None:
        """Write in the background, after what is being written."""
        self._writing = self._writer.submit(self._save, name, position, origin, dict(state), PAUSE_S)

    def save(self, name: str, position: int, origin: str, state: Mapping[str, NDArray[Any]]) -> None:
        """Write now, after what is being written."""
        self._writer.submit(self._save, name, position, origin, dict(state), 0.0).result()

    def newest(self, name: str, origin: str, up_to: int, store: MemoryStore) -> int | None:
        """Restore the newest snapshot that can be used into `store`; the entry that it takes next, or None.

        A damaged file, or one of another plan, of another log or ahead of the log (`up_to`), is passed over.
        """
        for position, path in reversed(self._files(name)):
            if position > up_to:
                path.unlink(missing_ok=True)  # of a lost future: the log may reach it another way
                _logger.warning("%s is ahead of the log and is not used", path)
                continue
            try:
                state = unpack(path.read_bytes())
                if bytes(state.pop(_ORIGIN)).decode() != origin:
                    continue
                store.restore(state)
            except (SentinelError, OSError, KeyError) as error:
                _logger.warning("%s cannot be used (%s); an older one, or the whole log, will do", path, error)
                continue
            return position
        return None

    def _files(self, name: str) -> list[tuple[int, Path]]:
        pattern = re.compile(re.escape(name) + r"-(\d+)\.npz")
        named = ((pattern.fullmatch(path.name), path) for path in self.folder.iterdir())
        return sorted((int(match[1]), path) for match, path in named if match)

    def _save(self, name: str, position: int, origin: str, state: dict[str, NDArray[Any]], pause_s: float) -> None:
        path, spare = self.folder / f"{name}-{position:012d}.npz", self.folder / f"{name}.spare"
        draft = path.with_suffix(".draft")
        try:
            with suppress(FileNotFoundError):
                spare.rename(draft)
            with draft.open("r+b" if draft.exists() else "wb") as handle:
                write_packed({**state, _ORIGIN: np.frombuffer(origin.encode(), np.uint8)}, handle, pause_s)
                handle.truncate()
                handle.flush()
                os.fsync(handle.fileno())
            draft.rename(path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            _logger.warning("no snapshot written (%s); the log has everything, the next start takes longer", error)
            return
        for later, other in self._files(name):
            if later > position and _origin_in(other) != origin:  # of a log that was here before
                other.unlink(missing_ok=True)
        for _, old in self._files(name)[:-KEPT]:
            with suppress(FileNotFoundError):  # another process has done so
                old.rename(spare)  # written over next time: to free its space would hold up the disk
