"""Reading a file that may be something else: a link, a pipe that never ends, a device, more than there is room for."""

import os
import stat
from io import FileIO
from pathlib import Path

from sentinel.errors import StorageProblem


def open_regular(path: Path) -> FileIO:
    """Open a regular file to read. Raises OSError where there is none, StorageProblem for anything but one."""
    if path.is_symlink():
        raise StorageProblem(f"{path} is a symbolic link; put the file itself there")
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise StorageProblem(f"{path} is no regular file")
    return FileIO(descriptor, "rb")


def read_regular(path: Path, most: int) -> bytes:
    """All of a regular file of up to `most` bytes. Raises OSError, or StorageProblem that says what it is."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise StorageProblem(f"{path} is {size:,} bytes long; up to {most:,} are read")
        data = file.read(size) or b""
        if len(data) != size:
            raise StorageProblem(f"{path} changed while it was read")
    return data
