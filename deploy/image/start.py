#!/opt/sentinel/bin/python
"""`sentinel` in the images: finds the kernels that fit this processor, then is the command that it was called as.

An image brings what Numba compiled for a named level of x86-64. Numba takes what was compiled for the very processor
that it runs on, so it is told that this is that processor; and it reads only folders that it may write, so the kernels
are put into one: `$NUMBA_CACHE_DIR`, or memory. On a processor below that level it compiles, and the log says so.
"""

import contextlib
import logging
import os
import platform
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

KERNELS = Path("/opt/sentinel/kernels")
CPUINFO = Path("/proc/cpuinfo")
LEVELS = {
    "x86-64-v3": (
        "abm", "avx", "avx2", "bmi1", "bmi2", "cx16", "f16c", "fma", "lahf_lm", "movbe", "popcnt", "sse4_1", "sse4_2",
        "ssse3", "xsave",
    ),
}  # fmt: skip
"""The levels that images are compiled for, best first, by what /proc/cpuinfo has to list; as LLVM names them."""
MEMORY = (Path("/dev/shm"), Path("/tmp"))  # noqa: S108 - a folder of our own is made in it
_log = logging.getLogger("sentinel.image")


class NoRoom(Exception):
    """No folder can be written, so nothing compiled can be kept."""


def level_of(cpuinfo: str) -> str | None:
    """The best of the levels that a processor has all of, or None.

    >>> level_of("flags : fpu sse sse2") is None
    True
    """
    flags = next((line.partition(":")[2].split() for line in cpuinfo.splitlines() if line.startswith("flags")), [])
    return next((level for level, needed in LEVELS.items() if set(needed) <= set(flags)), None)


def put(kernels: Path | None, places: Sequence[Path]) -> Path:
    """A folder for compiled code in the first place that can be written, with the kernels in it. Raises NoRoom.

    It appears whole: processes may do this beside each other. One that is there already, and is this user's, is taken.
    """
    for place in places:
        folder = place / f"sentinel-kernels-{os.getuid()}-{_build_of(kernels)}"
        if _is_own(folder):
            return folder
        with contextlib.suppress(OSError):
            made = Path(tempfile.mkdtemp(prefix=".sentinel-kernels-", dir=place))
            if kernels is not None:
                shutil.copytree(kernels, made, dirs_exist_ok=True, copy_function=shutil.copyfile)
                made.chmod(0o700)
            try:
                made.rename(folder)
            except OSError:  # another process was quicker, or the name is somebody else's
                shutil.rmtree(made, ignore_errors=True)
            if _is_own(folder):
                return folder
    raise NoRoom(f"none of {', '.join(map(str, places))} can be written; mount one, or set NUMBA_CACHE_DIR")


def _build_of(kernels: Path | None) -> str:
    """What tells the kernels of one image from another's: a folder may outlive an image."""
    return "own" if kernels is None else (kernels / "BUILD").read_text().strip()


def _is_own(folder: Path) -> bool:
    """Whether it is a folder of this user that nobody else can write: what lies in it is run."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return folder.is_dir() and not folder.is_symlink() and found.st_uid == os.getuid() and not found.st_mode & 0o022


def environment_of(level: str | None, kernels: Path, places: Sequence[Path]) -> dict[str, str]:
    """What Numba is told through the environment, by the level of the processor. Raises NoRoom."""
    if level is None:
        return {"NUMBA_CACHE_DIR": str(put(None, places))}
    return {"NUMBA_CACHE_DIR": str(put(kernels / level, places)), **compiled_for(level)}


def compiled_for(level: str) -> dict[str, str]:
    """What makes Numba compile for this level, and take what was compiled for it."""
    return {"NUMBA_CPU_NAME": level, "NUMBA_CPU_FEATURES": ""}


def prepare() -> None:
    """Set this process' environment, which its children have as well."""
    if "NUMBA_CPU_NAME" in os.environ:  # somebody who knows better
        return
    level = level_of(CPUINFO.read_text()) if platform.machine() == "x86_64" else None
    given = os.environ.get("NUMBA_CACHE_DIR")
    try:
        os.environ.update(environment_of(level, KERNELS, [Path(given)] if given else MEMORY))
    except NoRoom as problem:
        sys.exit(f"error: {problem}")
    _tell(level, os.environ["NUMBA_CACHE_DIR"])


def _tell(level: str | None, folder: str) -> None:
    if level is not None:
        _log.info("compiled for %s by the image; in %s", level, folder)
        return
    _log.warning("this processor is below %s: the first start compiles for minutes, into %s", min(LEVELS), folder)


def end(*_: object) -> None:
    """What SIGTERM does until the command says otherwise: by itself it does nothing to a container's first process."""
    sys.exit()  # with 0, as a server that has finished: it passes the signal on to this when it is done


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, end)
    from sentinel.cli import main  # takes a second, in which a container may be told to end
    from sentinel.telemetry.logs import configure_logging

    asked = os.environ.get("SENTINEL_LOG_LEVEL", "").upper()
    configure_logging(
        asked if asked in logging.getLevelNamesMapping() else "WARNING",
        "json" if os.environ.get("SENTINEL_LOG_STYLE") == "json" else "text",
    )
    prepare()
    main()
