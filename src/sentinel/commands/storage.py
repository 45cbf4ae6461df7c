"""What looks after log and views: `sentinel views ...`, and what `sentinel log verify` says besides damage."""

import time
from collections.abc import Callable
from contextlib import closing
from itertools import islice
from pathlib import Path

import msgspec

from sentinel.commands.progress import Stage
from sentinel.commands.registry_of_home import champion_manifest, registry_of
from sentinel.config import Settings
from sentinel.errors import InvalidDefinition, StorageProblem
from sentinel.events.times import iso
from sentinel.record.applied import log_folder
from sentinel.record.home_reader import open_log
from sentinel.record.lock import owner_of
from sentinel.record.log import Follower
from sentinel.record.online.follower import OnlineFollower, open_follower
from sentinel.record.online.place import open_online
from sentinel.record.online.rows import key_views_of
from sentinel.record.problem import problem_of
from sentinel.record.projector import Projector, schemas_of
from sentinel.record.set_aside import MOST, Odd, odd_in
from sentinel.record.views import Counts
from sentinel.record.views.place import ViewPlace

_PAUSE_S = 0.1


def rebuild_views(settings: Settings, stage: Stage) -> Counts:
    """Delete the view and derive it anew from the log, or have the server that runs do so. What it holds then."""
    folder, place = log_folder(settings.home), ViewPlace(settings.home, settings.database_url)
    with closing(open_log(settings.home)) as log:
        place.rebuild()
        with closing(place.open()) as view:
            is_owned = owner_of(folder) is not None
            step = _server_at_work(folder) if is_owned else Projector(view, log, lambda: schemas_of(settings.home)).step
            end = log.durable
            while (position := Follower(log, view.position.position).position) < end:
                stage("entries", position, end)
                step()
            stage("entries", end, end)
            return view.counts()


def rebuild_online(settings: Settings, stage: Stage) -> int:
    """Empty the online view and write it anew, or have the server that runs do so; how far it is then."""
    url, folder, registry = settings.redis_url, log_folder(settings.home), registry_of(settings)
    if url is None:
        raise InvalidDefinition("there is no online view: set SENTINEL_REDIS_URL")
    manifest = champion_manifest(settings)
    store = open_online(settings.home, manifest.detector, url)
    with closing(store), closing(open_log(settings.home)) as log:
        store.clear([view.keys for view in key_views_of(manifest.plan)])
        end = log.durable
        if owner_of(folder) is None:
            _write_online(open_follower(settings.home, url, log, registry), end, stage)
        else:
            wait = _server_at_work(folder)
            while (at := store.position()) is None or at.position < end:
                stage("entries", at.position if at else 0, end)
                wait()
        stage("entries", end, end)
        return end


def _write_online(follower: OnlineFollower | None, end: int, stage: Stage) -> None:
    if follower is None:
        raise StorageProblem("the champion has decided nothing yet; there is nothing to write")
    follower.step(time.time_ns() // 1_000)
    while follower.position < end:
        stage("entries", follower.position, end)
        follower.step(time.time_ns() // 1_000)


class ViewStatus(msgspec.Struct, frozen=True):
    """How a view is: where, of which version, how many entries it lacks, and what it has.

    `repeated` are ids that it has more than once, and how often: they were decided twice. `problem` is what keeps the
    projector from its work.
    """

    name: str
    schema_version: str
    position: int
    lag: int
    projected_at: str | None
    counts: Counts
    repeated: dict[str, int]
    problem: str | None


def view_status(settings: Settings, most_repeated: int = 20) -> ViewStatus:
    """How the view of the home is. Raises StorageProblem when log or view cannot be read."""
    with (
        closing(ViewPlace(settings.home, settings.database_url)) as place,
        closing(open_log(settings.home)) as log,
        closing(place.open()) as view,
    ):
        at = view.position
        return ViewStatus(
            place.name, place.schema_version, at.position, Follower(log, at.position).lag,
            iso(at.projected_at_us) if at.projected_at_us else None, view.counts(), place.repeated_ids(most_repeated),
            problem_of(settings.home, "projector"),
        )  # fmt: skip


def upgrade_views(settings: Settings) -> list[str]:
    """Bring the tables of a view in a database to the newest schema; the versions that were run."""
    with closing(ViewPlace(settings.home, settings.database_url)) as place:
        return place.upgrade()


def odd_transactions(home: Path) -> list[Odd]:
    """The transactions of the log that do not fit the schema of their model, `MOST` at most. Reads all of the log."""
    schemas = schemas_of(home)
    with closing(open_log(home)) as log:
        pages = Follower(log, log.first).rest()
        return list(islice((odd for page in pages for odd in odd_in(page, schemas)), MOST))


def _server_at_work(folder: Path) -> Callable[[], object]:
    """A step that leaves the work to the projector of a server, for as long as that owns the log."""

    def wait() -> None:
        if owner_of(folder) is None:
            raise StorageProblem(
                "the server has ended before its view was complete; run `sentinel views rebuild` again"
            )
        time.sleep(_PAUSE_S)

    return wait
