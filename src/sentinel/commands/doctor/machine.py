"""What of the machine `sentinel doctor` looks at."""

import os
import shutil
import sys
import tempfile
import time
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sentinel.commands.server_process import port_is_free
from sentinel.config import Settings
from sentinel.features import kernel
from sentinel.record.applied import log_folder
from sentinel.record.home_reader import has_log, open_log
from sentinel.record.lock import owner_of

_SLOW_FSYNC_MS = 20.0
_LITTLE_BYTES = 512 << 20  # of memory
_CLOCK_US = 5_000_000
_LIBRARIES = ("cryptography", "fastapi", "msgspec", "numba", "numpy", "onnxruntime", "sqlalchemy", "uvicorn")
_OF_TRAINING = ("imbalanced-learn", "lightgbm", "onnx", "polars", "scikit-learn", "xgboost-cpu")


def python(_: Settings) -> tuple[bool, str]:
    """The version of Python."""
    return sys.version_info >= (3, 11), f"{sys.version.split()[0]} (3.11 or newer is needed)"


def libraries(_: Settings) -> tuple[bool, str]:
    """What is installed: all that serves, and what trains."""
    found, missing = _versions(_LIBRARIES)
    if missing:
        return False, f"missing: {', '.join(missing)}; install again"
    of_training, absent = _versions(_OF_TRAINING)
    if absent:
        return True, f"{', '.join(found)}; it can serve, and not train (pip install 'sentinel-fraud[train]')"
    return True, ", ".join(found + of_training)


def _versions(names: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Those that are installed, with their versions, and the others."""
    found, missing = [], []
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    return found, missing


def _existing(path: Path) -> Path:
    """The folder itself or the nearest one above it that is there."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def home(settings: Settings) -> tuple[bool, str]:
    """Whether the home folder can be written."""
    where = _existing(settings.home)
    writable = os.access(where, os.W_OK)
    return writable, f"{settings.home} can be written" if writable else f"{where} cannot be written; change its rights"


def disk(settings: Settings) -> tuple[bool, str, bool]:
    """How long a durable write takes; slow ones are a warning, since other work beside this may be why."""
    times = []
    try:
        with tempfile.NamedTemporaryFile(dir=_existing(settings.home)) as handle:
            for _ in range(20):
                handle.write(b"x" * 4096)
                handle.flush()
                begun = time.perf_counter()
                os.fsync(handle.fileno())
                times.append((time.perf_counter() - begun) * 1000)
    except OSError as error:
        return False, f"nothing can be written to {settings.home}: {error}; free or repair the disk", False
    median = sorted(times)[len(times) // 2]
    is_slow = median >= _SLOW_FSYNC_MS
    advice = "; every answer waits for that: use a faster disk, or see what else writes to it" if is_slow else ""
    return True, f"a durable write takes {median:.2f} ms{advice}", is_slow


def kernel_cache(_: Settings) -> tuple[bool, str]:
    """Whether compiled code can be kept."""
    folder = os.environ.get("NUMBA_CACHE_DIR") or str(Path(kernel.__file__).parent)
    if os.access(_existing(Path(folder)), os.W_OK):
        return True, f"{folder} can be written"
    return False, f"{folder} cannot be written, so each start compiles for seconds; set NUMBA_CACHE_DIR"


def port(settings: Settings) -> tuple[bool, str]:
    """Whether the port is free, or the server's of this home."""
    free, owner = port_is_free(settings.host, settings.port), owner_of(log_folder(settings.home))
    if not free and owner is not None and (owner.url or "").partition("/v1/")[0].endswith(f":{settings.port}"):
        return True, f"the server of this home, process {owner.pid}, answers at {owner.url}"
    return free, f"{settings.host}:{settings.port} is {'free' if free else 'taken; choose another with --port'}"


def room(settings: Settings) -> tuple[bool, str, bool]:
    """How much the disk of the home folder has left."""
    found = shutil.disk_usage(_existing(settings.home))
    share = found.free / found.total
    return found.free > _LITTLE_BYTES, f"{found.free / 2**30:,.1f} GiB are free, {share:.0%} of the disk", share < 0.1


def memory(_: Settings) -> tuple[bool, str, bool]:
    """How much memory is left; only Linux says so."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return True, "not known here", False
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    free, total = kib["MemAvailable"] << 10, kib["MemTotal"] << 10
    return True, f"{free / 2**30:,.1f} GiB of {total / 2**30:,.1f} are available", free < _LITTLE_BYTES


def clock(settings: Settings) -> tuple[bool, str]:
    """Whether the clock of this machine is behind what the log has received already."""
    now_us = time.time_ns() // 1_000
    if not has_log(settings.home):
        return True, "nothing was received yet"
    with closing(open_log(settings.home)) as log:
        records = log.read(max(log.durable - 1, log.first), 1)
    ahead_us = records[-1].received_us - now_us if records else 0
    if ahead_us > _CLOCK_US:
        return False, (
            f"it is {ahead_us / 1e6:,.0f} s behind the newest entry of the log, and entries get that time until "
            "then; set the clock, and keep it with NTP"
        )
    return True, "it is not behind the log"
