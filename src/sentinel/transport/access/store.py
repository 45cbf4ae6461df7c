"""The key store: `<home>/access/keys.json`, for its owner's eyes only, replaced whole with every change."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from sentinel.durable import make_folder, write_durably
from sentinel.errors import StorageProblem
from sentinel.model.regular_file import open_regular
from sentinel.record.audit import Change
from sentinel.record.private import FILE_MODE, FOLDER_MODE
from sentinel.transport.access.keys import Keyring

_decode = msgspec.json.Decoder(Keyring).decode


class KeyStore:
    """The keys of a home folder, for any number of processes. Methods raise StorageProblem for what the disk does."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "access"
        self.path = self._folder / "keys.json"

    def stamp(self) -> tuple[int, int, int, int] | None:
        """Another one after every change, of who may read it too; None while there are no keys."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._problem(error) from error
        return found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode

    def read(self) -> Keyring:
        """All keys. Raises StorageProblem as well when others may read or write the file, or it is damaged."""
        try:
            with open_regular(self.path) as file:
                if os.fstat(file.fileno()).st_mode & 0o077:
                    raise StorageProblem(f"{self.path} is open to other users; `chmod 600` it, and rotate the keys")
                return _decode(file.read())
        except FileNotFoundError:
            return Keyring()
        except OSError as error:
            raise self._problem(error) from error
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise StorageProblem(
                f"{self.path} is damaged, or of another version of Sentinel ({error}); restore it, or remove it and "
                "make new keys"
            ) from error

    def change(self, how: Callable[[Keyring], Keyring]) -> Keyring:
        """Replace the keys by what `how` makes of them, durable when this returns; raises what `how` raises."""
        try:
            with self._locked():
                before = self.read()
                after = how(before)
                if after != before:
                    write_durably(self.path, msgspec.json.format(msgspec.json.encode(after)), FILE_MODE)
                return after
        except OSError as error:
            raise self._problem(error) from error

    def drop(self, changes: tuple[Change, ...]) -> None:
        """Note that these changes are in the audit. Raises StorageProblem."""

        def without(keyring: Keyring) -> Keyring:
            left = tuple(one for one in keyring.changes if one not in changes)
            return msgspec.structs.replace(keyring, changes=left)

        self.change(without)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        make_folder(self._folder, FOLDER_MODE)
        self._folder.chmod(FOLDER_MODE)
        descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _problem(self, error: OSError) -> StorageProblem:
        return StorageProblem(f"the keys in {self._folder} cannot be read or changed: {error.strerror or error}")
