"""The deployment record: which models decide and how, as one durable file that every process follows."""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec

from sentinel.errors import BundleProblem, DeploymentRefused, JournalProblem, NoExperiment
from sentinel.policy.thresholds import Thresholds

FILE = "deployment.json"
REMEMBERED = 20
Percent = Annotated[float, msgspec.Meta(ge=0.0, le=100.0)]


class Experiment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A challenger that decides for a share of the cards: variant b, while the champion is variant a."""

    id: str
    version: str
    split_percent: Percent
    began_at: str
    thresholds: Thresholds | None = None


class EndedExperiment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the last experiment ended: `promoted` or `aborted`, by whom or what, and why."""

    id: str
    version: str
    how: str
    reason: str
    ended_at: str


class Deployment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is in force. Every change makes a new revision; nothing else names a model.

    - `champion`: the version in charge.  `previous`: the champions before it, the newest last.
    - `thresholds`: the champion's instead of its bundle's; they go when the champion goes.
    - `experiment`, `ended`: the one that runs, and how the last one ended.
    - `shadow`: the version that is scored beside the champion and decides nothing.
    - `fallback_only`: the rules decide and no model is asked.
    """

    revision: int = 0
    champion: str | None = None
    previous: tuple[str, ...] = ()
    thresholds: Thresholds | None = None
    experiment: Experiment | None = None
    ended: EndedExperiment | None = None
    shadow: str | None = None
    fallback_only: bool = False

    def with_champion(self, version: str) -> "Deployment":
        """Another champion. Raises DeploymentRefused while an experiment runs."""
        if self.experiment is not None:
            raise DeploymentRefused(
                f"an experiment with {self.experiment.version} is running; promote or abort it first"
            )
        if version == self.champion:
            return self
        before = (*self.previous, self.champion) if self.champion else self.previous
        return msgspec.structs.replace(self, champion=version, previous=before[-REMEMBERED:], thresholds=None)

    def rolled_back(self) -> "Deployment":
        """The champion before this one. Raises DeploymentRefused when there is none, or an experiment runs."""
        if not self.previous:
            raise DeploymentRefused("there was no other champion before this one")
        back = self.with_champion(self.previous[-1])
        return msgspec.structs.replace(back, previous=self.previous[:-1])

    def with_experiment(self, version: str) -> "Deployment":
        """A new experiment, with none of the traffic yet. Raises DeploymentRefused when one is running."""
        if self.champion is None:
            raise DeploymentRefused("there is no champion to compare with; run `sentinel train` first")
        if self.experiment is not None:
            raise DeploymentRefused(f"an experiment with {self.experiment.version} is running already")
        if version == self.champion:
            raise DeploymentRefused(f"{version} is the champion itself; choose another version")
        return msgspec.structs.replace(self, experiment=Experiment(secrets.token_hex(4), version, 0.0, _now()))

    def with_split(self, percent: float) -> "Deployment":
        """Another share of the traffic for the challenger. Raises NoExperiment without an experiment."""
        experiment = msgspec.structs.replace(self._running(), split_percent=percent)
        return msgspec.structs.replace(self, experiment=experiment)

    def promoted(self) -> "Deployment":
        """The challenger becomes the champion, with the thresholds it had."""
        running = self._running()
        ended = EndedExperiment(running.id, running.version, "promoted", "asked to", _now())
        calm = msgspec.structs.replace(self, experiment=None, ended=ended).with_champion(running.version)
        return msgspec.structs.replace(calm, thresholds=running.thresholds)

    def aborted(self, reason: str, experiment_id: str | None = None) -> "Deployment":
        """The experiment ends and the champion stays; nothing changes when `experiment_id` runs no more."""
        if experiment_id is not None and (self.experiment is None or self.experiment.id != experiment_id):
            return self
        running = self._running()
        ended = EndedExperiment(running.id, running.version, "aborted", reason, _now())
        return msgspec.structs.replace(self, experiment=None, ended=ended)

    def with_thresholds(self, thresholds: Thresholds | None, variant: str) -> "Deployment":
        """Other thresholds for the champion (a) or the challenger (b); None for those of its bundle."""
        if variant == "b":
            experiment = msgspec.structs.replace(self._running(), thresholds=thresholds)
            return msgspec.structs.replace(self, experiment=experiment)
        return msgspec.structs.replace(self, thresholds=thresholds)

    def _running(self) -> Experiment:
        if self.experiment is None:
            raise NoExperiment("no experiment is running; set one up first")
        return self.experiment


_decoder = msgspec.json.Decoder(Deployment)  # made once, before there are threads


class DeploymentRecord:
    """The file `deployment.json` of a home folder. Any process may read and change it, one at a time."""

    def __init__(self, home: Path) -> None:
        self.path = home / FILE

    def read(self) -> Deployment:
        """What is in force; an empty deployment when nothing ever was.

        Raises BundleProblem for a damaged file, JournalProblem for one that the disk does not give.
        """
        raw = self._raw()
        if raw is None:
            return Deployment()
        try:
            return _decoder.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BundleProblem(
                f"{self.path} cannot be read ({error}); restore it, or delete it and run `sentinel models promote`"
            ) from error

    def champion(self) -> str:
        """The version in charge. Raises BundleProblem when there is none."""
        champion = self.read().champion
        if champion is None:
            raise BundleProblem(
                f"{self.path.parent} has no champion; run `sentinel train`, or `sentinel models promote VERSION`"
            )
        return champion

    def promote(self, version: str) -> None:
        """Put a version in charge. Raises DeploymentRefused while an experiment runs."""
        self.change(lambda deployment: deployment.with_champion(version))

    def change(self, how: Callable[[Deployment], Deployment]) -> Deployment:
        """Replace what is in force by what `how` makes of it, on the disk when this returns.

        Raises DeploymentRefused for a share or a split outside its range, JournalProblem when the disk does not take
        it, and whatever `how` raises; then nothing is changed.
        """
        try:
            return self._change(how)
        except OSError as error:
            raise JournalProblem(
                f"{self.path} cannot be written ({error.strerror or error}); nothing is changed. Free some space, or "
                "make the folder writable, and ask again"
            ) from error

    def _change(self, how: Callable[[Deployment], Deployment]) -> Deployment:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked():
            before = self.read()
            after = how(before)
            if after == before:
                return before
            raw = msgspec.json.encode(msgspec.structs.replace(after, revision=before.revision + 1))
            try:
                after = msgspec.json.decode(raw, type=Deployment)
            except msgspec.ValidationError as error:
                raise DeploymentRefused(
                    f"no one could read such a record again ({error}); nothing is changed"
                ) from error
            self._replace(msgspec.json.format(raw, indent=2) + b"\n")
        return after

    def _replace(self, raw: bytes) -> None:
        """Put these bytes in place of the file, or leave it as it is and raise OSError."""
        before = self._raw()
        self._put(raw)
        try:
            _sync_folder(self.path.parent)
        except OSError:
            # no one was told of the new one, so the old one counts; the space it had is free again
            with contextlib.suppress(OSError):
                self.path.unlink() if before is None else self._put(before)
            raise

    def _put(self, raw: bytes) -> None:
        draft = self.path.with_suffix(".draft")
        try:
            with draft.open("wb") as handle:
                handle.write(raw)
                handle.flush()
                os.fsync(handle.fileno())
            draft.rename(self.path)
        except OSError:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise

    def mark(self) -> tuple[int, int]:
        """Changes whenever the record does, and is cheap to ask for."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return 0, 0
        return found.st_ino, found.st_mtime_ns

    def _raw(self) -> bytes | None:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise JournalProblem(
                f"{self.path} cannot be read ({error.strerror or error}); look at the disk and at who may read it"
            ) from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with self.path.with_suffix(".lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
