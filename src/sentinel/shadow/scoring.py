"""What a shadow does: follow the log with one bundle, and store what it would have decided."""

import contextlib
import logging
import math
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sentinel.errors import BundleProblem, StorageProblem
from sentinel.events.columns import Outcome, columns_of_outcomes
from sentinel.events.times import clock_us
from sentinel.features.store import MemoryStore
from sentinel.model.bundle import Bundle, load_bundle, read_manifest
from sentinel.model.registry import Registry
from sentinel.model.scorer import CHUNK
from sentinel.model.signing import read_trusted_keys
from sentinel.record.applied import deployment_in
from sentinel.record.disk import RealDisk
from sentinel.record.entries import DecisionRow, decision_rows
from sentinel.record.feature_state import FeatureState, activation_of, first_after_history
from sentinel.record.home_reader import open_log
from sentinel.record.log import Kind, LogReader, Past, Record
from sentinel.record.snapshots import REST_S, Snapshots
from sentinel.review.shadow_scores import FILE, ShadowProgress, ShadowRecord, ShadowScore
from sentinel.shadow.needs import fingerprint, snapshot_folder
from sentinel.shadow.settings import ShadowSettings

_PAGE = 500  # short reads, and a sign of life between them even when the process gets little of a processor
_BEAT_S = 0.5
_SNAPSHOT_EVERY, _SNAPSHOT_S = 250_000, 3_600.0
_log = logging.getLogger(__name__)


class Shadow:
    """One bundle that follows the log of a home folder. Use it from one thread.

    Raises BundleProblem when its fields are not the champion's, StorageProblem when a file cannot be used.
    """

    def __init__(self, home: Path, version: str, settings: ShadowSettings) -> None:
        self._settings = settings
        keys = settings.trusted_keys_file
        trusted = read_trusted_keys(Path(keys) if keys else None)
        self._bundle = load_bundle(Registry(home / "models").path(version), trusted)
        self._log = open_log(home)
        deployment_in(self._log).check_is_meant(version, self._bundle.manifest_sha256)
        _check_schema(home, self._log, self._bundle)
        _warm(self._bundle)
        self._thresholds = self._bundle.thresholds
        self._record = ShadowRecord(home / FILE)
        self.progress = self._record.begin(self._fresh(self._log.durable), self._log.first)
        self._snapshots = Snapshots(_own_folder(home, self.progress), self._rest)
        self._state = FeatureState(self._bundle, self.progress.begun)
        if self._log.first > self.progress.begun:
            _borrow_snapshots(home, self._snapshots.folder, self._bundle.state_id, self.progress.seq)
        self._beaten_s = 0.0
        self._state.load(_Past(self._log, self.progress.seq, self._beat), self._snapshots)
        self._save_at = self._state.position - self._state.entries_since_snapshot + _SNAPSHOT_EVERY
        self._saved_s = time.monotonic()

    def close(self) -> None:
        """Release the files."""
        self._record.close()
        self._log.close()

    def step(self) -> bool:
        """Take the next entries of the log, store their scores and delete the oldest; whether there was work."""
        records = self._log.read(self._state.position, _PAGE)
        self.progress = self.progress._replace(lag=self._lag())
        self._beat()
        if not records:
            return self._record.prune(self._settings.keep_scores) > 0
        scored: list[ShadowScore] = []
        dropped = 0
        for record in records:
            features = self._state.take(record)
            if features is None or self._lag() > self._settings.max_lag:
                dropped += record.rows if record.kind == Kind.DECIDED else 0
                continue
            scores = self._score(features.rows).tolist()
            scored += [self._judge(*pair) for pair in zip(decision_rows(record), scores, strict=True)]
        failed = sum(row.fraud_probability is None for row in scored)
        self.progress = self.progress._replace(
            seq=self._state.position,
            scored=self.progress.scored + len(scored) - failed,
            dropped=self.progress.dropped + dropped,
            failed=self.progress.failed + failed,
            lag=self._lag(),
            heartbeat_us=clock_us(),
        )
        self._record.store(scored, self.progress)
        self._record.prune(self._settings.keep_scores)
        if self._state.position >= self._save_at or time.monotonic() - self._saved_s > _SNAPSHOT_S:
            self._save()
        return True

    def _save(self) -> None:
        """Have a snapshot; whether that works or not, the next is due some time later.

        There is one now and then, however little happens: the log is kept as long as a start would need it.
        """
        self._save_at, self._saved_s = self._state.position + _SNAPSHOT_EVERY, time.monotonic()
        try:
            self._state.snapshot(self._log, self._snapshots)
        except StorageProblem as error:
            _log.warning("%s; the next start takes longer", error)

    def _rest(self) -> None:
        time.sleep(REST_S)
        self._beat()

    def _lag(self) -> int:
        return max(self._log.durable - self._state.position, 0)

    def _fresh(self, end: int) -> ShadowProgress:
        """A shadow that scores what comes from now on."""
        kept = activation_of(self._log, self._bundle.state_id)
        begun = first_after_history(self._log, self._bundle.manifest) if kept is None else kept
        manifest = self._bundle.manifest
        return ShadowProgress(manifest.version, fingerprint(manifest, self._log), begun, end)

    def _score(self, rows: NDArray[np.float64]) -> NDArray[np.float32]:
        """Probabilities (n,), NaN where the model fails or gives none."""
        scores = np.full(len(rows), np.nan, np.float32)
        for i in range(0, len(rows), CHUNK):
            try:
                scores[i : i + CHUNK] = self._bundle.scorer.score(rows[i : i + CHUNK])
            except Exception as error:  # noqa: BLE001 - ONNX Runtime's faults share no other base; the rest is scored
                _log.warning("the model failed on %d rows: %s", len(rows[i : i + CHUNK]), error)
            self._beat()
        scores[~((scores >= 0) & (scores <= 1))] = np.nan
        scores[np.isnan(rows).all(axis=1)] = np.nan  # what could not be read
        return scores

    def _judge(self, row: DecisionRow, probability: float) -> ShadowScore:
        valid = not math.isnan(probability)
        return ShadowScore(
            model_version=self._bundle.manifest.version,
            seq=row.position,
            transaction_id=row.transaction_id,
            fraud_probability=probability if valid else None,
            decision=self._thresholds.action(probability).value if valid else None,
            live_fraud_probability=row.fraud_probability,
            live_decision=row.decision,
            live_version=row.decider.model_version,
            live_degraded=row.decider.degraded is not None,
            decided_at_us=row.received_us,
        )

    def _beat(self) -> None:
        """Give a sign of life, twice a second at most."""
        if time.monotonic() - self._beaten_s >= _BEAT_S:
            self._beaten_s = time.monotonic()
            self._record.store([], self.progress._replace(heartbeat_us=clock_us()))


class _Past(Past):
    """Every page that it hands out is a sign of life."""

    def __init__(self, log: LogReader, durable: int, beat: Callable[[], None]) -> None:
        super().__init__(log, durable)
        self._beat = beat

    def read(self, position: int, limit: int) -> list[Record]:
        """The next records, without those after its end."""
        self._beat()
        return super().read(position, limit)


def _check_schema(home: Path, log: LogReader, bundle: Bundle) -> None:
    """The log holds transactions of the champion's schema; a shadow has to read the same fields."""
    champion = deployment_in(log).champion
    if champion is None:
        return
    theirs = read_manifest(Registry(home / "models").path(champion)).plan.schema
    if not theirs.reads_alike(bundle.manifest.plan.schema):
        raise BundleProblem(
            f"{bundle.manifest.version} has other fields than the champion {champion}, so it cannot read its "
            "transactions; train the challenger with the champion's fields, as keys or categories as you like"
        )


def _warm(bundle: Bundle) -> None:
    """Have everything compiled before the first sign of life, from which on silence means a hang."""
    plan = bundle.manifest.plan
    MemoryStore(plan).advance(columns_of_outcomes(plan.schema, [Outcome("warm-up", is_fraud=False, time_us=0)], 0))


def _own_folder(home: Path, progress: ShadowProgress) -> Path:
    """The folder of this shadow's snapshots; folders of other shadows are deleted."""
    mine = snapshot_folder(home, progress)
    mine.parent.mkdir(exist_ok=True)
    for other in mine.parent.iterdir():
        if other != mine:
            shutil.rmtree(other, ignore_errors=True)
    return mine


def _borrow_snapshots(home: Path, mine: Path, state_id: str, up_to: int) -> None:
    """Copy those that a server has of the same state: the log alone no longer has all of it."""
    for path in (home / "snapshots").glob(f"{state_id}-*.npz"):
        if int(path.stem.rpartition("-")[2]) <= up_to and not (mine / path.name).exists():
            with contextlib.suppress(FileNotFoundError):  # a newer one has taken its place
                draft = mine / f"{path.stem}.draft"
                shutil.copy(path, draft)
                with draft.open("rb") as copy:
                    os.fsync(copy.fileno())  # before the log is pruned on the strength of it
                draft.rename(mine / path.name)
                RealDisk().sync_folder(mine)
