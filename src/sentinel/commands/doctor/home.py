"""What of one detector's home `sentinel doctor` looks at."""

import time
from contextlib import closing
from typing import TYPE_CHECKING

from sentinel.commands.registry_of_home import champion_manifest, registry_of
from sentinel.commands.storage import view_status
from sentinel.config import Settings, age_us
from sentinel.events.times import duration_us, iso
from sentinel.model.bundle import Manifest, load_bundle
from sentinel.record.applied import HomeDeployment, log_folder
from sentinel.record.archive.place import PROGRAM as ARCHIVER
from sentinel.record.archive.place import address_of, mark_of
from sentinel.record.coverage import Coverage
from sentinel.record.feature_state import check_reads
from sentinel.record.home_reader import has_log, open_log
from sentinel.record.log import Follower
from sentinel.record.log_reader import FileLogReader
from sentinel.record.online.fronts import FrontStore
from sentinel.record.online.layout import JOB, OnlinePosition
from sentinel.record.online.place import PROGRAM, open_online
from sentinel.record.problem import problem_of
from sentinel.record.rotation import rotation_in
from sentinel.record.verify_home import verify_home
from sentinel.transport.access.store import KeyStore

if TYPE_CHECKING:
    from sentinel.record.online.store import OnlineStore

_SOON_US = 14 * 86_400_000_000
_FAR_BEHIND = 50_000  # entries
_SILENT_S, _PATIENCE_S = 60.0, 2.0  # of a job that writes profiles; with Redis


def keys(settings: Settings) -> tuple[bool, str]:
    """The API keys."""
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


def models(settings: Settings) -> tuple[bool, str]:
    """The registry, and the champion in it."""
    registry = registry_of(settings)
    if not registry.versions():
        return True, "none yet; `sentinel train` makes the first"
    champion = HomeDeployment(settings.home).champion()
    bundle = load_bundle(registry.path(champion), registry.trusted)
    if has_log(settings.home):
        with closing(open_log(settings.home)) as log:
            check_reads(log, bundle.manifest)
    known = ", ".join(f"{one.score:.4f} of its known {one.was} row" for one in bundle.manifest.known_rows)
    said = f"; it says {known}" if known else "; it was trained before models knew two rows"
    return (
        True,
        f"{len(registry.versions())} trained; {champion} ({bundle.manifest.detector}) is the champion and whole{said}",
    )


def history(settings: Settings) -> tuple[bool, str, bool]:
    """An old history breaks nothing, so it is well; what it costs is told."""
    registry = registry_of(settings)
    if not registry.versions() or not has_log(settings.home):
        return True, "none in use yet", False
    manifest = champion_manifest(settings)
    with closing(open_log(settings.home)) as log:
        gap = Coverage(log).gap(manifest, time.time_ns() // 1000)
    if gap is not None:
        return True, str(gap), True
    return True, f"that of {manifest.version} ends at {iso(manifest.history.last_us)}", False


def log(settings: Settings) -> tuple[bool, str]:
    """Every record of the log."""
    keep_us = age_us(settings.keep_log)
    if keep_us is not None and keep_us < duration_us(settings.remember_ids):
        return False, (
            f"it is to be kept for {settings.keep_log}, and ids are remembered for {settings.remember_ids}: nothing is "
            "pruned until they are forgotten; make SENTINEL_REMEMBER_IDS no longer than SENTINEL_KEEP_LOG"
        )
    if not has_log(settings.home):
        return True, "none yet; the first start makes it"
    found = verify_home(settings.home)
    if found.findings:
        return False, "; ".join(f"{one.segment}, position {one.position}: {one.problem}" for one in found.findings[:5])
    with closing(open_log(settings.home)) as log:
        since = iso(log.sizes.oldest_us)
    where = f"{found.segments} segments" if found.segments else "Kafka"
    return True, f"whole: {found.entries:,} entries since {since} in {where}, {found.bytes:,} bytes"


def view(settings: Settings) -> tuple[bool, str, bool]:
    """How far the view is, of which schema, and whether it has ids twice."""
    if not has_log(settings.home):
        return True, "none yet; the first start makes it", False
    found = view_status(settings)
    if found.problem is not None:
        return False, found.problem, False
    behind = f"{found.lag:,} entries behind the log" if found.lag else "it has all that the log has"
    twice = f"; decided more than once: {', '.join(found.repeated)}" if found.repeated else ""
    said = f"{found.name}, schema {found.schema_version}: {behind}{twice}"
    return True, said, bool(found.repeated) or found.lag > _FAR_BEHIND


def hash_key(settings: Settings) -> tuple[bool, str]:
    """The key that secrets are hashed with."""
    if not has_log(settings.home):
        return True, "none in use yet"
    with closing(open_log(settings.home)) as log:
        rotation = rotation_in(log)
    if rotation is None:
        return True, "it was never rotated"
    horizon_us = champion_manifest(settings).plan.compiled.horizon_us
    given, keep_us = settings.given_key_before.read(), age_us(settings.keep_log)
    kept_us = None if keep_us is None else max(keep_us, duration_us(settings.remember_ids))
    return rotation.says(horizon_us, kept_us, None if given is None else given.id, time.time_ns() // 1000)


def online(settings: Settings) -> tuple[bool, str, bool]:
    """How far the online view is."""
    problem = problem_of(settings.home, PROGRAM)
    if settings.redis_url is None:
        return True, "none: SENTINEL_REDIS_URL is not set", False
    if problem is not None:
        return False, problem, False
    if not has_log(settings.home):
        return True, "none yet; the first start makes it", False
    manifest = champion_manifest(settings)
    with closing(open_online(settings.home, manifest.detector, settings.redis_url)) as store:
        at = store.position()
        if at is None:
            return True, f"{store.name}: nothing is there yet; a server writes it, or `views rebuild --online`", True
        if at.log_id.startswith(JOB):
            return _of_a_job(store, at, manifest)
        with closing(open_log(settings.home)) as log:
            if at.log_id != log.log_id:
                return False, f"{store.name} has that of another log; `sentinel views rebuild --online`", False
            lag = Follower(log, at.position).lag
    behind = f"{lag:,} entries behind the log" if lag else "it has all that the log has"
    return True, f"{store.name}: {behind}", lag > _FAR_BEHIND


def _of_a_job(store: "OnlineStore", at: OnlinePosition, manifest: Manifest) -> tuple[bool, str, bool]:
    """The profiles that the tasks of a job of Flink write."""
    name, as_of_us = (
        at.log_id.removeprefix(JOB),
        FrontStore(store, 0).read([], [], time.monotonic() + _PATIENCE_S).as_of_us,
    )
    if at.state_id != manifest.state_id:
        return False, (
            f"{store.name} has the profiles of the job of Flink {name}, and they are of other features than those of "
            f"{manifest.version}: run the job with that model"
        ), False  # fmt: skip
    if not as_of_us:
        return True, f"{store.name}: the job of Flink {name} has written no profiles yet", True
    age_s = max(time.time() - as_of_us / 1e6, 0.0)
    said = f"{store.name}: profiles of the job of Flink {name}, with all that came up to {age_s:.1f} s ago"
    return True, said + ("; see that it runs" if age_s > _SILENT_S else ""), age_s > _SILENT_S


def archived(settings: Settings) -> tuple[bool, str, bool]:
    """How far the archive is behind the log."""
    if settings.archive is None:
        return True, "none: SENTINEL_ARCHIVE is not set, so a lost disk takes the log along", False
    problem, folder = problem_of(settings.home, ARCHIVER), log_folder(settings.home)
    if problem is not None:
        return False, problem, False
    if not folder.exists():
        return True, "none yet; the first start makes it", False
    at = address_of(settings.archive)
    with closing(FileLogReader(folder)) as log:
        mark = mark_of(settings.home, at)
        if mark is None or mark.log_id != log.log_id:
            return True, f"{at}: nothing is there yet; a server puts it there, or `sentinel log archive`", True
        lag = Follower(log, mark.end).lag
    return (
        True,
        f"{at}: {f'{lag:,} entries behind the log' if lag else 'it has all that the log has'}",
        lag > _FAR_BEHIND,
    )
