"""Regular files: what is read is one, and no longer than it may be."""

import os
from pathlib import Path

import pytest

from sentinel.errors import StorageProblem
from sentinel.model.regular_file import read_regular


def test_only_regular_files_are_read_and_only_so_much_of_them(tmp_path):
    (tmp_path / "file").write_bytes(b"1234")
    assert read_regular(tmp_path / "file", 4) == b"1234"
    with pytest.raises(StorageProblem, match="4 bytes long; up to 3"):
        read_regular(tmp_path / "file", 3)
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")  # to open one waits, and to read it never ends
    (tmp_path / "device").symlink_to("/dev/zero")
    for name in ("link", "pipe", "device"):
        with pytest.raises(StorageProblem, match=r"symbolic link|no regular file"):
            read_regular(tmp_path / name, 4)
    with pytest.raises(StorageProblem, match="no regular file"):
        read_regular(Path("/dev/zero"), 4)
    with pytest.raises(StorageProblem, match="no regular file"):
        read_regular(tmp_path, 4)
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "absent", 4)
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 1 << 36)
    with pytest.raises(StorageProblem, match="bytes long"):
        read_regular(tmp_path / "sparse", 1 << 30)
