"""What needs the log: the view, the states that may be needed again, the tables, the experiment that runs."""

from contextlib import closing
from pathlib import Path

from sentinel.errors import UnknownVersion
from sentinel.events.times import instant_us
from sentinel.model.bundle import Manifest, read_manifest
from sentinel.model.registry import Registry
from sentinel.policy.deployment import Deployment
from sentinel.record.feature_state import activation_of
from sentinel.record.log import LogReader
from sentinel.record.retention import Need
from sentinel.record.table_state import NAME as TABLES
from sentinel.record.table_state import tables_origin
from sentinel.record.views.place import ViewPlace
from sentinel.record.whole_snapshots import WholeSnapshots, check_kept


def view_need(place: ViewPlace) -> Need:
    """The projector has to read on. Raises StorageProblem."""
    position = 0
    if place.is_there:
        with closing(place.open()) as view:
            position = view.position.position
    return Need(position, f"the view, {place.name}, has read up to position {position}")


def experiment_needs(deployment: Deployment, log: LogReader) -> list[Need]:
    """The experiment that runs is counted anew at every start."""
    running = deployment.experiment
    if running is None:
        return []
    position = log.first_after(instant_us(running.began_at) - 1)
    return [Need(position, f"the experiment with {running.version} is counted from position {position} on")]


def table_needs(home: Path, log: LogReader, whole: WholeSnapshots) -> list[Need]:
    """What tables say has to be found again after a restart. Raises StorageProblem."""
    begin = activation_of(log, TABLES)
    if begin is None:
        return []
    kept_from = whole.kept_from_of(home / "snapshots", TABLES, tables_origin(log), log, begin)
    return [Need(kept_from.position, f"what the tables say {kept_from}")]


class StateNeeds:
    """Who decides has to find its features again after a restart, and so has the champion before it if it returns."""

    def __init__(self, home: Path, log: LogReader, whole: WholeSnapshots) -> None:
        self._home, self._log, self._whole = home, log, whole
        self._registry = Registry(home / "models")

    def of(self, deployment: Deployment) -> list[Need]:
        """What each of them needs. Raises BundleProblem, StorageProblem."""
        needs = [self._of_deciding("champion", deployment.champion)] if deployment.champion else []
        if deployment.experiment:
            needs.append(self._of_deciding("challenger", deployment.experiment.version))
        return needs + [one for version in deployment.previous[-1:] for one in self._of_previous(version)]

    def _of_deciding(self, role: str, version: str) -> Need:
        manifest = read_manifest(self._registry.path(version))
        begin = activation_of(self._log, manifest.state_id)
        if begin is None:
            return Need(self._log.first, f"the {role} {version} was not served yet")
        return self._need(f"the {role} {version}", manifest, begin)

    def _of_previous(self, version: str) -> list[Need]:
        """Nothing, if it was deleted or never served: then it returns as any other model does, or not at all."""
        if version not in self._registry.versions():
            return []
        manifest = read_manifest(self._registry.path(version))
        begin = activation_of(self._log, manifest.state_id)
        if begin is None:
            return []
        try:
            check_kept(self._log, manifest, self._home / "snapshots")
        except UnknownVersion:  # what it would need has gone
            return []
        return [self._need(f"the previous champion {version}", manifest, begin)]

    def _need(self, whose: str, manifest: Manifest, begin: int) -> Need:
        kept_from = self._whole.kept_from(self._home / "snapshots", manifest, self._log, begin)
        return Need(kept_from.position, f"{whose} {kept_from}")
