"""Metrics: what is counted and measured, as JSON and for Prometheus."""

import asyncio
import time
from pathlib import Path
from typing import Any

from sentinel.errors import SentinelError
from sentinel.events.times import instant_us
from sentinel.record.applied import log_folder
from sentinel.record.set_aside import named_in
from sentinel.serve.log_keeper import LogKeeper
from sentinel.serve.retrainer import ENDS, Retrainer
from sentinel.serve.watch import Watch
from sentinel.telemetry.counters import Slot
from sentinel.telemetry.prometheus import Gauge, model_info, render
from sentinel.transport.http.companion import Stream
from sentinel.transport.http.tellers import Tellers


class Metrics:
    """Reads the counters of all processes, from the event loop's thread."""

    def __init__(self, home: Path, watch: Watch, tellers: Tellers, stream: Stream | None = None) -> None:
        """`stream` is what the engine reads beside HTTP."""
        self._home = home
        self._watch = watch
        self._tellers = tellers
        self._reads = stream
        self._started_s = time.monotonic()

    def figures(self) -> dict[str, Any]:
        """The main figures, of all processes together. Shares are between 0 and 1; what has no divisor yet is 0."""
        watch = self._watch
        watch.settle()
        totals, uptime_s = watch.counters.totals(), round(time.monotonic() - self._started_s, 3)
        experiment, lineup = watch.rollout.deployment.experiment, watch.predictor.lineup
        batches, hits, misses = totals.batches, totals[Slot.CACHE_HITS], totals[Slot.CACHE_MISSES]
        return {
            "total_requests": totals[Slot.REQUESTS],
            "allow": totals[Slot.APPROVE],
            "block": totals[Slot.BLOCK],
            "errors": totals[Slot.ERRORS],
            "batches_run": batches.total,
            "avg_batch_size": _share(batches.sum, batches.total),
            "cache_hits": hits,
            "cache_misses": misses,
            "cache_hit_rate": _share(hits, hits + misses),
            "cache_size": totals[Slot.CACHE_SIZE],
            "predictions_a": totals[Slot.PREDICTIONS_A],
            "predictions_b": totals[Slot.PREDICTIONS_B],
            "ab_active": experiment is not None,
            "split_percent": round(experiment.split_percent) if experiment else 0,
            "drift_detected": totals[Slot.DRIFT_DETECTED] > 0,
            "baseline_locked": lineup is not None,
            "uptime_seconds": uptime_s,
            "avg_rps": _share(totals[Slot.REQUESTS], uptime_s),
            "threshold": lineup.champion.thresholds.alarm if lineup else 0.0,
            "approve": totals[Slot.APPROVE],
            "review": totals[Slot.REVIEW],
            "challenge": totals[Slot.CHALLENGE],
        }

    async def prometheus(self) -> tuple[bytes, str]:
        """Everything that is measured, and its media type."""
        watch = self._watch
        watch.settle()
        told = list(self._tellers.gauges(time.monotonic()))
        of_log = await asyncio.to_thread(self._log)  # it looks at every segment
        found = [*self._models(), *self._state(), *self._tables(), *self._rules(), *told, *of_log, *self._stream()]
        return render(watch.counters, found)

    def _stream(self) -> list[Gauge]:
        """Of what reads beside HTTP; how far it is behind is not known while it reads nothing."""
        if self._reads is None:
            return []
        status = self._reads.status
        gauges = [
            Gauge("sentinel_stream_stuck", "1 while messages cannot be taken", float(self._reads.problem is not None))
        ]
        if status["lag"] is not None:
            gauges += [
                Gauge("sentinel_stream_lag", "Messages that are not decided yet", status["lag"]),
                Gauge("sentinel_stream_lag_seconds", "For how long the oldest of them has waited", status["lag_s"]),
            ]
        return gauges

    def _models(self) -> list[Gauge]:
        lineup = self._watch.predictor.lineup
        if lineup is None:
            return []
        detector = lineup.champion.bundle.manifest.detector
        roles = zip(("champion", "challenger"), lineup.contenders, strict=False)
        gauges = [model_info(role, one.version, detector) for role, one in roles]
        shadow = self._watch.rollout.deployment.shadow
        return [*gauges, model_info("shadow", shadow, detector)] if shadow else gauges

    def _state(self) -> list[Gauge]:
        engine = self._watch.worker.engine if self._watch.worker else None
        stores = [state.store for state in engine.states.values() if state.store] if engine else []
        return [
            Gauge("sentinel_state_keys", "Keys that features remember", sum(one.keys() for one in stores)),
            Gauge("sentinel_state_keys_forgotten", "Keys forgotten so far", sum(one.forgotten() for one in stores)),
            Gauge("sentinel_state_bytes", "Memory of the features' state", sum(one.nbytes() for one in stores)),
        ]

    def _tables(self) -> list[Gauge]:
        engine = self._watch.worker.engine if self._watch.worker else None
        if engine is None:
            return []
        gauges = []
        for name, table in engine.schema.tables.items():
            found, of_table = engine.tables.tables.of(name, table.kind), {"table": name}
            changed = "Unix time when the newest row of a table was received; 0 where there is none"
            gauges += [
                Gauge("sentinel_table_versions", "Versions of rows in a table", found.n_versions, of_table),
                Gauge("sentinel_table_changed_seconds", changed, found.changed_us / 1e6, of_table),
            ]
        return gauges

    def _rules(self) -> list[Gauge]:
        """Of the book in force; none before there is one."""
        engine, lineup = self._watch.worker.engine if self._watch.worker else None, self._watch.predictor.lineup
        if engine is None or lineup is None or lineup.rules is None:
            return []
        rules, counts = lineup.rules, engine.rule_counts
        shadows = {one.name for one in rules.acting.all_rules if one.state != "on"}
        return [
            Gauge("sentinel_rules_draft", "The number of the draft in force", rules.draft),
            Gauge("sentinel_rules_demoted", "Rules that held for too many and are shadows", len(rules.demoted)),
            *(
                Gauge(
                    "sentinel_rule_hits",
                    "Decisions that a rule held for since its book is in force, or the server runs",
                    hits,
                    {"rule": name, "state": "shadow" if name in shadows else "on"},
                )
                for name, hits in counts.hits.items()
            ),
        ]

    def _log(self) -> list[Gauge]:
        worker = self._watch.worker
        if worker is None:
            return []
        try:
            size, first = worker.log.sizes, worker.log.first
        except SentinelError:  # a disk that cannot be read shows in the health report
            return []
        gauges = [
            Gauge("sentinel_log_bytes", "Size of the log on the disk", size.bytes),
            Gauge("sentinel_log_segments", "Segments of the log", size.segments),
            Gauge("sentinel_log_oldest_seconds", "Unix time of the oldest segment", size.oldest_us / 1e6),
            Gauge(
                "sentinel_longest_turn_seconds",
                "Processor time of the longest step of the loop",
                worker.longest_turn_ns / 1e9,
            ),
            Gauge(
                "sentinel_log_set_aside",
                "Transactions of the log that do not fit the schema",
                len(named_in(log_folder(self._home), first)),
            ),
            Gauge("sentinel_log_writable", "1 while decisions can be recorded", float(worker.engine is not None)),
        ]
        gauges += [*_pruning(self._watch.log_keeper, first), *_retraining(self._watch.retrainer)]
        lag, snapshots = self._watch.view_lag, self._watch.snapshots
        if lag is not None:
            gauges.append(Gauge("sentinel_view_lag", "Entries the view is behind", lag))
        if self._watch.reasons is not None and (reasons := self._watch.reasons.status) is not None:
            gauges += [
                Gauge("sentinel_reasons_lag", "Entries that were not looked at for reasons yet", reasons.lag),
                Gauge("sentinel_reasons_left_out", "Decisions of models that are gone", reasons.left_out),
            ]
        if self._watch.archiver is not None:
            archive = self._watch.archiver.status
            gauges += [
                Gauge("sentinel_archive_lag", "Durable entries that the archive has not yet", archive.lag),
                Gauge("sentinel_archive_ok", "1 while nothing stands in the way of archiving", archive.status == "ok"),
            ]
        if self._watch.online_lag is not None:
            gauges.append(Gauge("sentinel_online_lag", "Entries the online view is behind", self._watch.online_lag))
        if snapshots is not None:
            gauges += [
                Gauge("sentinel_snapshot_lag", "Entries that a start would have to replay", snapshots.lag),
                Gauge("sentinel_snapshotter_restarts", "Times the snapshotter died", snapshots.restarts),
            ]
        return gauges


def _pruning(keeper: LogKeeper | None, first: int) -> list[Gauge]:
    gauges = [Gauge("sentinel_log_first_position", "The position of the oldest entry that is kept", first)]
    if keeper is not None and keeper.last is not None:
        held = len(keeper.last.held_by)
        gauges.append(Gauge("sentinel_log_held_by", "How many need segments that are old enough to go", held))
    if keeper is not None and keeper.pruned_at is not None:
        pruned_s = instant_us(keeper.pruned_at) / 1e6
        gauges.append(Gauge("sentinel_log_pruned_seconds", "Unix time when segments were removed last", pruned_s))
    return gauges


def _retraining(retrainer: Retrainer | None) -> list[Gauge]:
    if retrainer is None:
        return []
    running = Gauge("sentinel_retraining_running", "1 while the server has a model trained", retrainer.why is not None)
    ended = "Retrainings that the server began and that ended so, since its start"
    return [
        running,
        *(Gauge("sentinel_retrainings", ended, retrainer.ended[how], {"ended": how}) for how in ENDS),
    ]


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
