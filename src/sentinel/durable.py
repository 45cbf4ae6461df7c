"""Durable files: written whole or not at all, and still there, under their names, after a power cut."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex


def write_durably(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Put a file in the place of one of this name, durable when this returns. Raises OSError.

    `mode` as for open(2): the process's umask applies.
    """
    draft = _draft_of(path, data, mode)
    try:
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def create_durably(path: Path, data: bytes, mode: int = 0o666) -> None:
    """The same where there is no file of this name. Raises FileExistsError where there is, and leaves it as it is."""
    draft = _draft_of(path, data, mode)
    try:
        os.link(draft, path)
    finally:
        draft.unlink()
    sync_folder(path.parent)


def append_durably(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Add a line to the end of a file, which is made where there is none. Raises OSError.

    What a power cut tore off before stays a line of its own.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, mode)
    try:
        size = os.fstat(descriptor).st_size
        is_torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        os.write(descriptor, b"\n" * is_torn + data + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_folder(path.parent)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The path of a draft beside a file, to be written; it takes the file's place, durable, when the block ends.

    When it ends with an error the draft is removed, and the file is as it was. Raises OSError.
    """
    draft = path.with_name(f".{path.name}.{token_hex(4)}")
    try:
        yield draft
        descriptor = os.open(draft, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """A durable folder, and its parents, unless there is one. Raises OSError."""
    named = [folder, *(one for one in folder.parents if not one.exists())]
    folder.mkdir(mode, parents=True, exist_ok=True)
    for one in reversed(named):  # its own name may not be durable yet, whoever made it
        sync_folder(one.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _draft_of(path: Path, data: bytes, mode: int) -> Path:
    """A durable file under a name that nobody else takes, beside the one that it is for."""
    draft = path.with_name(f".{path.name}.{token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            written = 0
            while written < len(data):
                written += os.write(descriptor, data[written:])
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    return draft
