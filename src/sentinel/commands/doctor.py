"""`sentinel doctor`: whether this machine and this home folder can run Sentinel."""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeAlias

import msgspec

from sentinel.commands.registry_of_home import registry_of
from sentinel.commands.server_process import port_is_free
from sentinel.config import Settings, age_us
from sentinel.errors import SentinelError
from sentinel.events.times import duration_us, iso
from sentinel.features import kernel
from sentinel.homes import Place, homes_in
from sentinel.model.bundle import load_bundle, read_manifest
from sentinel.record.applied import HomeDeployment, log_folder
from sentinel.record.coverage import Coverage
from sentinel.record.feature_state import check_reads
from sentinel.record.lock import owner_of
from sentinel.record.log import Follower
from sentinel.record.log_reader import FileLogReader
from sentinel.record.problem import problem_of
from sentinel.record.rotation import rotation_in
from sentinel.record.verify import verify
from sentinel.record.views.place import ViewPlace
from sentinel.transport.access.store import KeyStore

_SLOW_FSYNC_MS = 20.0
_SOON_US = 14 * 86_400_000_000
_LIBRARIES = ("cryptography", "fastapi", "msgspec", "numba", "numpy", "onnxruntime", "sqlalchemy", "uvicorn")
_OF_TRAINING = ("imbalanced-learn", "lightgbm", "onnx", "polars", "scikit-learn", "xgboost-cpu")


class Finding(msgspec.Struct, frozen=True):
    """One check: what was looked at, whether it is well, what was found and what to do.

    With `warns` nothing is broken, and something is worse than it could be.
    """

    what: str
    ok: bool
    found: str
    warns: bool = False


Check: TypeAlias = Callable[[Settings], tuple[bool, str] | tuple[bool, str, bool]]


def examine(settings: Settings) -> list[Finding]:
    """Every check, in order, of the machine and of each home that its server serves; none changes anything."""
    of_machine: list[tuple[str, Check]] = [
        ("Python", _python),
        ("libraries", _libraries),
        ("home", _home),
        ("disk", _disk),
        ("kernel cache", _kernel_cache),
        ("port", _port),
    ]
    found = [_found(what, check, settings) for what, check in of_machine]
    try:
        homes = homes_in(settings.home)
    except SentinelError as error:
        return [*found, Finding("detectors", False, str(error))]
    for place, home in homes.items():
        found += _of_home(place, msgspec.structs.replace(settings, home=home))
    return found


def _of_home(place: Place, settings: Settings) -> list[Finding]:
    """The checks of one detector's home; the keys are the tenant's."""
    checks: list[tuple[str, Check]] = [
        ("models", _models),
        ("history", _history),
        ("log", _log),
        ("view", _view),
        ("hash key", _hash_key),
    ]
    if not place.detector:
        checks.insert(0, ("keys", _keys))
    named = f" of {place}" if place != Place() else ""
    return [_found(f"{what}{named}", check, settings) for what, check in checks]


def _found(what: str, check: Check, settings: Settings) -> Finding:
    try:
        return Finding(what, *check(settings))
    except SentinelError as error:
        return Finding(what, False, str(error))


def _python(_: Settings) -> tuple[bool, str]:
    return sys.version_info >= (3, 11), f"{sys.version.split()[0]} (3.11 or newer is needed)"


def _libraries(_: Settings) -> tuple[bool, str]:
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


def _home(settings: Settings) -> tuple[bool, str]:
    where = _existing(settings.home)
    writable = os.access(where, os.W_OK)
    return writable, f"{settings.home} can be written" if writable else f"{where} cannot be written; change its rights"


def _disk(settings: Settings) -> tuple[bool, str]:
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
        return False, f"nothing can be written to {settings.home}: {error}"
    median = sorted(times)[len(times) // 2]
    advice = "" if median < _SLOW_FSYNC_MS else "; every answer waits for that: use a faster disk"
    return median < _SLOW_FSYNC_MS, f"a durable write takes {median:.2f} ms{advice}"


def _kernel_cache(_: Settings) -> tuple[bool, str]:
    folder = os.environ.get("NUMBA_CACHE_DIR") or str(Path(kernel.__file__).parent)
    if os.access(_existing(Path(folder)), os.W_OK):
        return True, f"{folder} can be written"
    return False, f"{folder} cannot be written, so each start compiles for seconds; set NUMBA_CACHE_DIR"


def _port(settings: Settings) -> tuple[bool, str]:
    free, owner = port_is_free(settings.host, settings.port), owner_of(log_folder(settings.home))
    if not free and owner is not None and (owner.url or "").partition("/v1/")[0].endswith(f":{settings.port}"):
        return True, f"the server of this home, process {owner.pid}, answers at {owner.url}"
    return free, f"{settings.host}:{settings.port} is {'free' if free else 'taken; choose another with --port'}"


def _keys(settings: Settings) -> tuple[bool, str]:
    store, now_us = KeyStore(settings.home), time.time_ns() // 1000
    keys = store.read().keys
    folder = store.path.parent
    if folder.exists() and folder.stat().st_mode & 0o077:
        return False, f"{folder} is open to other users; `chmod 700` it"
    good = [key for key in keys if not key.is_over(now_us)]
    if not good and not settings.admin_key and settings.needs_keys:
        return False, f"none that is good, and every caller of {settings.host} needs one: `sentinel keys create`"
    last = {key.name: key for key in good}  # of the keys of one name the newest
    ending = [key for key in last.values() if key.is_over(now_us + _SOON_US)]
    told = "; ".join(
        f"{key.name} ends at {iso(key.expires_us or 0)}: `sentinel keys rotate {key.name}`" for key in ending
    )
    return True, f"{len(good)} good, {len(keys) - len(good)} over{'; ' if told else ''}{told}" if keys else "none yet"


def _models(settings: Settings) -> tuple[bool, str]:
    registry = registry_of(settings)
    if not registry.versions():
        return True, "none yet; `sentinel train` makes the first"
    champion = HomeDeployment(settings.home).champion()
    bundle = load_bundle(registry.path(champion), registry.trusted)
    if log_folder(settings.home).exists():
        with closing(FileLogReader(log_folder(settings.home))) as log:
            check_reads(log, bundle.manifest)
    known = ", ".join(f"{one.score:.4f} of its known {one.was} row" for one in bundle.manifest.known_rows)
    said = f"; it says {known}" if known else "; it was trained before models knew two rows"
    return (
        True,
        f"{len(registry.versions())} trained; {champion} ({bundle.manifest.detector}) is the champion and whole{said}",
    )


def _history(settings: Settings) -> tuple[bool, str, bool]:
    """An old history breaks nothing, so it is well; what it costs is told."""
    folder, registry = log_folder(settings.home), registry_of(settings)
    if not registry.versions() or not folder.exists():
        return True, "none in use yet", False
    manifest = read_manifest(registry.path(HomeDeployment(settings.home).champion()))
    with closing(FileLogReader(folder)) as log:
        gap = Coverage(log).gap(manifest, time.time_ns() // 1000)
    if gap is not None:
        return True, str(gap), True
    return True, f"that of {manifest.version} ends at {iso(manifest.history.last_us)}", False


def _log(settings: Settings) -> tuple[bool, str]:
    folder = log_folder(settings.home)
    keep_us = age_us(settings.keep_log)
    if keep_us is not None and keep_us < duration_us(settings.remember_ids):
        return False, (
            f"it is to be kept for {settings.keep_log}, and ids are remembered for {settings.remember_ids}: nothing is "
            "pruned until they are forgotten; make SENTINEL_REMEMBER_IDS no longer than SENTINEL_KEEP_LOG"
        )
    if not folder.exists():
        return True, "none yet; the first start makes it"
    found = verify(folder)
    if found.findings:
        return False, "; ".join(f"{one.segment}, position {one.position}: {one.problem}" for one in found.findings[:5])
    with closing(FileLogReader(folder)) as log:
        since = iso(log.sizes.oldest_us)
    return True, f"whole: {found.entries:,} entries since {since} in {found.segments} segments, {found.bytes:,} bytes"


def _view(settings: Settings) -> tuple[bool, str]:
    problem, folder = problem_of(settings.home, "projector"), log_folder(settings.home)
    if problem is not None:
        return False, problem
    if not folder.exists():
        return True, "none yet; the first start makes it"
    place = ViewPlace(settings.home, settings.database_url)
    with closing(FileLogReader(folder)) as log, closing(place.open()) as view:
        lag = Follower(log, view.position.position).lag
    return True, f"{place.name}: {f'{lag:,} entries behind the log' if lag else 'it has all that the log has'}"


def _hash_key(settings: Settings) -> tuple[bool, str]:
    folder = log_folder(settings.home)
    if not folder.exists():
        return True, "none in use yet"
    with closing(FileLogReader(folder)) as log:
        rotation = rotation_in(log)
    if rotation is None:
        return True, "it was never rotated"
    path = registry_of(settings).path(HomeDeployment(settings.home).champion())
    horizon_us = read_manifest(path).plan.compiled.horizon_us
    given, keep_us = settings.given_key_before.read(), age_us(settings.keep_log)
    kept_us = None if keep_us is None else max(keep_us, duration_us(settings.remember_ids))
    return rotation.says(horizon_us, kept_us, None if given is None else given.id, time.time_ns() // 1000)
