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


def test_what_others_put_there_is_left_as_it_is(tmp_path):
    """A home may be a project's folder, with scripts and a repository."""
    (tmp_path / "src").mkdir()
    (tmp_path / "log").mkdir()
    (tmp_path / "detectors" / "wallet" / "log").mkdir(parents=True)
    theirs = [tmp_path / "run.sh", tmp_path / "src" / "mine.py", tmp_path / "data.csv", tmp_path / "src"]
    ours = [tmp_path / name for name in ("views.db", "views.db-wal", "hash.key", "log.mark", "log/1.segment", "log")]
    for path in (*theirs, *ours):
        path.touch()
        path.chmod(0o755)
    (tmp_path / "detectors").chmod(0o755)
    (tmp_path / "detectors" / "wallet").chmod(0o755)
    tmp_path.chmod(0o755)
    mend_modes(tmp_path)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (*theirs, tmp_path)} == {0o755}
    assert {stat.S_IMODE(path.stat().st_mode) for path in ours} == {0o600, 0o700}
    assert stat.S_IMODE((tmp_path / "detectors").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "detectors" / "wallet").stat().st_mode) == 0o755  # its own home sees to it


def test_what_a_command_writes_is_private_whatever_the_umask(tmp_path):
    command = [sys.executable, "-m", "sentinel", "simulate", "-n", "1000", "--out", str(tmp_path / "new" / "a.csv")]
    subprocess.run(command, check=True, preexec_fn=lambda: os.umask(0), capture_output=True)
    assert modes(tmp_path / "new") == {0o600, 0o700}
