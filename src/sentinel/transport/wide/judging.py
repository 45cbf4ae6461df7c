"""Judging as of some moment: the kernel adds transactions to profiles that were read, model and rules decide."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentinel.events.columns import EventColumns, Outcome, columns_of_outcomes, columns_of_transactions
from sentinel.events.reference_tables.versions import Tables
from sentinel.events.wire import Transaction
from sentinel.features.profile_store import ProfileStore
from sentinel.policy.model_call import FALLBACK_ONLY, OVERLOADED, ModelAnswer, ModelCaller
from sentinel.policy.thresholds import Thresholds
from sentinel.record.entries import Decider, Ruled
from sentinel.serve.lineup import Lineup
from sentinel.serve.ruling import ruled_of

PROFILES_AWAY = "profiles unavailable"
"""Why the model was not asked where Redis had no profiles to give."""

Key = tuple[str, int]


class Judged(NamedTuple):
    """Transactions of a batch that were judged alike: `where` are their places in it (n,), `decider` says by what.

    `features` (n, features) is what they were judged by. `ruled` are those for which rules hold, by their places in the
    batch: `levels` are as they have it.
    """

    where: NDArray[np.int64]
    features: NDArray[np.float64]
    scores: NDArray[np.float64]
    levels: NDArray[np.uint8]
    thresholds: Thresholds
    decider: Decider
    ruled: list[Ruled]


class KnownLists:
    """The lists of people, as far as the log was read; changed in the event loop alone."""

    def __init__(self) -> None:
        self.tables = Tables()


class AsOfJudge:
    """Judges by the champion of a lineup, and its rules, from one thread.

    It remembers nothing of a key from one call to the next.
    """

    def __init__(self, lineup: Lineup, models: ModelCaller, lists: KnownLists) -> None:
        self.lineup, self.contender = lineup, lineup.champion
        manifest = self.contender.bundle.manifest
        self.state_id, self.detector, self.schema = manifest.state_id, manifest.detector, manifest.plan.schema
        self._models, self._lists = models, lists
        plan, contender = manifest.plan, self.contender
        self._convert = columns_of_transactions(plan.schema)
        self._store = ProfileStore(plan, {})
        self._history = contender.bundle.new_store()
        self._of_keys = [n for n, one in enumerate(plan.features) if any(part.key for part in one.all_parts)]

    def warm(self) -> None:
        """Have all that judging calls of the kernel compiled, or loaded from its cache, before the first turn."""
        told = columns_of_outcomes(self.schema, [Outcome("warm-up", is_fraud=False, time_us=0)], 0)
        self._store.known_at(told, {})
        for by in self._history.groups:
            self._history.export(by, np.empty(0, np.uint64))

    def columns(self, events: Sequence[Transaction], now_us: int) -> EventColumns:
        """Transactions as columns, received now."""
        return self._convert(events, now_us)

    def keys_of(self, columns: EventColumns) -> list[Key]:
        """The keys that the features of these transactions follow, each once."""
        return self._store.keys_of(columns)

    def judge(
        self, events: Sequence[Transaction], columns: EventColumns, profiles: Mapping[Key, bytes] | None,
        overdue: NDArray[np.bool_], now_us: int,
    ) -> list[Judged]:  # fmt: skip
        """Judge transactions (n,) by the profiles of their keys; by the fallback without them, or where it is overdue.

        A key without a profile is what the training history knew of it. Each counts itself and those before it here.
        Lists are asked as of now. Raises StorageProblem for a profile that is damaged or of other features.
        """
        judged = self._by_model(columns, profiles, overdue)
        return judged if self.contender.hits is None else [self._ruled(one, events, now_us) for one in judged]

    def _by_model(
        self, columns: EventColumns, profiles: Mapping[Key, bytes] | None, overdue: NDArray[np.bool_]
    ) -> list[Judged]:
        everywhere = np.arange(len(columns))
        if profiles is None:
            rows = self._store.known_at(columns, {}).rows.copy()
            rows[:, self._of_keys] = np.nan
            return [self._stand_in(rows, everywhere, PROFILES_AWAY)]
        rows = np.ascontiguousarray(self._store.known_at(columns, self._with_history(columns, profiles)).rows)
        if not overdue.any():
            return [self._asked(rows, everywhere)]
        late, early = everywhere[overdue], everywhere[~overdue]
        judged = [self._stand_in(rows[late], late, OVERLOADED)]
        return [*judged, self._asked(rows[early], early)] if len(early) else judged

    def _with_history(self, columns: EventColumns, profiles: Mapping[Key, bytes]) -> dict[Key, bytes]:
        missing: dict[str, list[int]] = {}
        for by, key in self.keys_of(columns):
            if (by, key) not in profiles:
                missing.setdefault(by, []).append(key)
        found = dict(profiles)
        for by, keys in missing.items():
            known = self._history.export(by, np.array(keys, np.uint64))
            found.update({(by, key): one for key, one in zip(keys, known, strict=True) if one})
        return found

    def _asked(self, rows: NDArray[np.float64], where: NDArray[np.int64]) -> Judged:
        if self.lineup.fallback_only:
            return self._stand_in(rows, where, FALLBACK_ONLY)
        return self._judged(rows, where, self._models.ask(self.contender.scorer, rows))

    def _stand_in(self, rows: NDArray[np.float64], where: NDArray[np.int64], why: str) -> Judged:
        return self._judged(rows, where, ModelAnswer(None, why, self._models.circuit))

    def _judged(self, rows: NDArray[np.float64], where: NDArray[np.int64], answer: ModelAnswer) -> Judged:
        contender = self.contender
        thresholds, found, is_fixed = contender.scores(answer, rows)
        scores = found.astype(np.float64, copy=False)
        decider = Decider(
            contender.version, contender.bundle.state_id, rows.shape[1], thresholds.review, thresholds.block,
            str(answer.circuit), answer.degraded, is_fixed=is_fixed, challenge=thresholds.challenge,
        )  # fmt: skip
        return Judged(where, rows, scores, thresholds.levels(scores), thresholds, decider, [])

    def _ruled(self, judged: Judged, events: Sequence[Transaction], now_us: int) -> Judged:
        """The same once the rules in force have decided, which is done as in `serve.ruling`."""
        hits, places = self.contender.hits, judged.where.tolist()
        assert hits is not None  # noqa: S101 - asked before
        scores = judged.scores if judged.decider.degraded is None else np.full(len(places), np.nan)
        moments = np.full(len(places), now_us)
        found = hits.of([events[n] for n in places], judged.features, scores, self._lists.tables, moments)
        if not found.any():
            return judged
        levels = hits.precedence.levels(found, judged.levels)
        return judged._replace(levels=levels, ruled=ruled_of(hits, found, judged.levels, places))
