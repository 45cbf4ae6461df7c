"""What is in a home folder can be read by its owner only."""

import os
import stat
import subprocess
import sys

from sentinel.record.private import mend_modes


def modes(folder):
    return {stat.S_IMODE(path.lstat().st_mode) for path in (folder, *folder.rglob("*")) if not path.is_symlink()}


def test_folders_that_others_could_read_are_mended(tmp_path):
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    (home / "log").mkdir(parents=True)
    (home / "log" / "end").touch()
    elsewhere.touch()
    (home / "link").symlink_to(elsewhere)
    for path in (home, home / "log", home / "log" / "end", elsewhere):
        path.chmod(0o777)
    mend_modes(home)
    assert modes(home) == {0o600, 0o700}
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o777
    mend_modes(home / "away")


def test_what_a_command_writes_is_private_whatever_the_umask(tmp_path):
    command = [sys.executable, "-m", "sentinel", "simulate", "-n", "1000", "--out", str(tmp_path / "new" / "a.csv")]
    subprocess.run(command, check=True, preexec_fn=lambda: os.umask(0), capture_output=True)
    assert modes(tmp_path / "new") == {0o600, 0o700}
