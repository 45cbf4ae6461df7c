"""Private files: what is in a home folder can be read by its owner only, whatever the umask says."""

import logging
import os
import stat
from pathlib import Path

FILE_MODE, FOLDER_MODE = 0o600, 0o700
_OTHERS = 0o077
_logger = logging.getLogger(__name__)


def keep_private() -> None:
    """Have this process and its children make files that nobody else can read."""
    os.umask(_OTHERS)


def mend_modes(home: Path) -> None:
    """Take from others what they may do with a home folder and all in it; links are left alone.

    What belongs to someone else cannot be mended: that is a warning.
    """
    if not home.is_dir():
        return
    left = [path for path in (home, *home.rglob("*")) if not _is_mended(path)]
    if left:
        _logger.warning(
            "others may read %s and %d more: they belong to another user; give %s to the user of the server",
            left[0], len(left) - 1, home,
        )  # fmt: skip


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
