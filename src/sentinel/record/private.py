"""Private files: what Sentinel makes can be read by its owner only, whatever the umask says."""

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

FILE_MODE, FOLDER_MODE = 0o600, 0o700
_OTHERS = 0o077
_OURS = (
    "log", "ids", "models", "snapshots", "archiving", "backing-up", "shadow", "access", "*.db", "*.db-*", "hash.key",
    "hash-keys.json", "log.mark", "*.problem", "*.log", "*.log.*",
)  # fmt: skip
_HOMES_BELOW = ("detectors", "tenants")
_logger = logging.getLogger(__name__)


def keep_private() -> None:
    """Have this process and its children make files that nobody else can read."""
    os.umask(_OTHERS)


def mend_modes(home: Path) -> None:
    """Take from others what they may do with all that Sentinel makes in a home folder; links are left alone.

    What else is there stays as it is, and then the folder itself does, which may be a project's. The homes below are
    mended by themselves. What belongs to someone else cannot be mended: that is a warning.
    """
    if not home.is_dir():
        return
    named = [path for name in _OURS for path in home.glob(name)]
    ours = [path for top in named for path in (top, *_below(top))]
    below = [path for name in _HOMES_BELOW for path in home.glob(name)]
    if all(path in named or path in below or path.is_symlink() or path.name[0] == "." for path in home.iterdir()):
        ours.append(home)
    left = [path for path in ours + below if not _is_mended(path)]
    if left:
        _logger.warning(
            "others may read %s and %d more: they belong to another user; give %s to the user of the server",
            left[0], len(left) - 1, home,
        )  # fmt: skip


def _below(path: Path) -> Iterator[Path]:
    return iter(()) if path.is_symlink() else path.rglob("*")


def _is_mended(path: Path) -> bool:
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode) or not mode & _OTHERS:
            return True
        path.chmod(FOLDER_MODE if stat.S_ISDIR(mode) else FILE_MODE)
    except FileNotFoundError:  # it has just been removed
        return True
    except PermissionError:
        return False
    return True
