"""The deployment: which models decide and how. Every change of it is one more entry of the log."""

import secrets
from datetime import UTC, datetime
from typing import Annotated

import msgspec

from sentinel.errors import BundleProblem, DeploymentRefused, NoExperiment
from sentinel.policy.rules.book import Book
from sentinel.policy.thresholds import Thresholds

REMEMBERED = 20
NO_DRAFT = 0
"""In the place of a draft's number: no rules, as before there were any."""

LEAST_OF_A_BAND = 0.0005
"""A rule that held for fewer than five of 10,000 decisions is taken to hold for that many: so few say little."""

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


class RulesInForce(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The book that is in force: a draft that somebody applied, or an empty one where the first was taken back.

    - `draft`: its number, 0 for the empty one.
    - `author`, `applied_by`, `note`, `applied_at`: who drafted and who applied it, why, and when.
    - `bands`: by rule, the lowest and the highest share of a day's decisions that its backtest had it hold for.
    - `demoted`: rules that became shadows since, and why.
    - `before`: the drafts that were in force before, the newest last; 0 is no rules.
    - `since_revision`: the deployment's revision from which on it is in force; `earlier` the position of the entry that
      has the deployment before that, 0 where there was none, or none with rules in it. Both are set when it is applied.
    """

    draft: int
    book: Book
    author: str
    applied_by: str
    note: str
    applied_at: str
    bands: dict[str, tuple[float, float]] = {}
    demoted: dict[str, str] = {}
    before: tuple[int, ...] = ()
    since_revision: int = 0
    earlier: int = 0

    @property
    def back_to(self) -> int | None:
        """The draft that a rollback brings back, 0 for no rules; None where it is not known, or nothing was before."""
        if self.before:
            return self.before[-1]
        is_first = self.earlier == 0 and self.draft != NO_DRAFT  # applied before `before` said so
        return NO_DRAFT if is_first else None

    @property
    def acting(self) -> Book:
        """The book with the rules that became shadows as shadows."""
        return self.book.with_shadows(tuple(self.demoted)) if self.demoted else self.book

    def most_of(self, rule: str) -> float | None:
        """The share of decisions from which on a rule holds for too many; None where nothing is known of it."""
        declared = next((one.band for one in self.book.rules if one.name == rule), None) or self.bands.get(rule)
        return None if declared is None else max(declared[1], LEAST_OF_A_BAND) * self.book.demote_at


class Deployment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is in force. Every change makes a new revision; nothing else names a model.

    - `champion`: the version that decides.  `previous`: the champions before it, the newest last.
    - `thresholds`: the champion's instead of its bundle's; they go when the champion goes.
    - `experiment`, `ended`: the one that runs, and how the last one ended.
    - `shadow`: the version that is scored beside the champion and decides nothing.
    - `fallback_only`: the rules decide and no model is asked.
    - `rules`: the book in force; None before there ever was one.
    - `manifests`: the SHA-256 of the manifest of each of these versions as it was when it was chosen; what was chosen
      by a version of Sentinel before this has none.
    """

    revision: int = 0
    champion: str | None = None
    previous: tuple[str, ...] = ()
    thresholds: Thresholds | None = None
    experiment: Experiment | None = None
    ended: EndedExperiment | None = None
    shadow: str | None = None
    fallback_only: bool = False
    manifests: dict[str, str] = {}
    rules: RulesInForce | None = None

    @property
    def versions(self) -> frozenset[str]:
        """All that are named."""
        running = None if self.experiment is None else self.experiment.version
        return frozenset(one for one in (self.champion, *self.previous, running, self.shadow) if one is not None)

    def vouching(self, version: str, manifest_sha256: str) -> "Deployment":
        """The same, and this is the manifest that is meant by a version that it names; others are forgotten."""
        if self.manifests.get(version) == manifest_sha256:
            return self
        known = {**self.manifests, version: manifest_sha256}
        return msgspec.structs.replace(
            self, manifests={one: known[one] for one in sorted(self.versions & known.keys())}
        )

    def check_is_meant(self, version: str, manifest_sha256: str) -> None:
        """Raise BundleProblem for another model under the name of one that was chosen."""
        if self.manifests.get(version, manifest_sha256) != manifest_sha256:
            raise BundleProblem(
                f"the model in the folder of {version} is not the one that was chosen as {version}: put that one back, "
                "or choose this one, by `sentinel models promote` or where it was set up"
            )

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

    def with_rules(self, rules: RulesInForce) -> "Deployment":
        """Another book, after the one that is in force."""
        before = self.rules
        known = (NO_DRAFT,) if before is None else (*before.before, before.draft)
        return msgspec.structs.replace(self, rules=msgspec.structs.replace(rules, before=known[-REMEMBERED:]))

    def with_rules_back(self, rules: RulesInForce) -> "Deployment":
        """The book before this one again. Raises DeploymentRefused where `rules` are not that."""
        if self.rules is None or self.rules.back_to != rules.draft:
            raise DeploymentRefused(f"draft {rules.draft} is not what was in force before; look at the history")
        return msgspec.structs.replace(self, rules=msgspec.structs.replace(rules, before=self.rules.before[:-1]))

    def with_demoted(self, draft: int, rule: str, why: str) -> "Deployment":
        """The same, and a rule is a shadow from now on; nothing changes where another draft is in force by now."""
        if self.rules is None or self.rules.draft != draft or rule in self.rules.demoted:
            return self
        demoted = self.rules.demoted | {rule: why}
        return msgspec.structs.replace(self, rules=msgspec.structs.replace(self.rules, demoted=demoted))

    def _running(self) -> Experiment:
        if self.experiment is None:
            raise NoExperiment("no experiment is running; set one up first")
        return self.experiment


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
