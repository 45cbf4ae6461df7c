"""Rules again: what the rules in force then make of stored decisions, from what the log has."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sentinel.errors import BundleProblem, InvalidDefinition
from sentinel.events.reference_tables.versions import Tables
from sentinel.model.bundle import Manifest
from sentinel.policy.rules.hits import BookHits
from sentinel.record.entries import DecisionRow
from sentinel.record.log import LogReader
from sentinel.record.rules_history import RulesByRevision, Unknown
from sentinel.review.stored_fields import StoredFields


class RulesAgain:
    """Asks the rules of each revision about decisions of it. `tables` have the lists, as of any moment."""

    def __init__(self, log: LogReader, tables: Tables) -> None:
        self._by_revision, self._tables = RulesByRevision(log), tables
        self._known: dict[tuple[int, str], tuple[BookHits, StoredFields]] = {}

    def ruled(
        self, manifest: Manifest, rows: Sequence[DecisionRow], scores: NDArray[np.float64], own: NDArray[np.uint8]
    ) -> tuple[NDArray[np.uint8], list[tuple[str, ...]]]:
        """What is decided (n,), and which rules hold for each, shadows too; for decisions of one revision and decider.

        `own` (n,) are the levels without rules. Raises BundleProblem for rules that the log no longer has.
        """
        rules = self._by_revision.at(rows[0].revision)
        if isinstance(rules, Unknown):
            raise BundleProblem(f"the rules of revision {rules.revision} are no longer in the log")
        if rules is None or not rules.acting.all_rules:
            return own, [()] * len(rows)
        hits, fields = self._hits(rows[0].revision, manifest)
        degraded = rows[0].decider.degraded is not None
        found = hits.of(
            [fields.read(row.content) for row in rows],
            np.stack([row.features for row in rows]),
            np.full(len(rows), np.nan) if degraded else scores,
            self._tables,
            np.array([row.received_us for row in rows], np.int64),
        )
        names = np.array(hits.names, object)
        return hits.precedence.levels(found, own), [tuple(names[row]) for row in found]

    def given(
        self, manifest: Manifest, rows: Sequence[DecisionRow], own: NDArray[np.uint8]
    ) -> tuple[NDArray[np.uint8], list[tuple[str, ...]]]:
        """The same of decisions that fronts gave: the rules are those that the front said hold.

        What it knew of lists at that moment nobody knows, so whether they held is not asked again; what they do is.
        """
        fired = [() if row.ruled is None else row.ruled.fired for row in rows]
        held = [() if row.ruled is None else (*row.ruled.fired, *row.ruled.shadow) for row in rows]
        if not any(fired):
            return own, held
        rules = self._by_revision.at(rows[0].revision)
        if rules is None or isinstance(rules, Unknown):
            raise BundleProblem(f"the rules of revision {rows[0].revision} are no longer in the log")
        hits, _ = self._hits(rows[0].revision, manifest)
        unknown = {name for names in fired for name in names} - {*hits.names}
        if unknown:
            raise BundleProblem(f"revision {rows[0].revision} has no rules {', '.join(sorted(unknown))}")
        found = np.array([[name in names for name in hits.names] for names in fired], np.bool_)
        return hits.precedence.levels(found, own), held

    def _hits(self, revision: int, manifest: Manifest) -> tuple[BookHits, StoredFields]:
        which = revision, manifest.plan_sha256
        if which not in self._known:
            rules = self._by_revision.at(revision)
            assert rules is not None and not isinstance(rules, Unknown)  # noqa: S101, PT018 - just asked
            try:
                hits = BookHits(rules.acting, manifest.plan.schema, manifest.plan.names)
            except InvalidDefinition as error:
                raise BundleProblem(f"the rules of revision {revision} cannot be read: {error}") from None
            self._known[which] = hits, StoredFields(hits)
        return self._known[which]
