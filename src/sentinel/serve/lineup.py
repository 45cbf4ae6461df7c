"""The lineup: the loaded models that decide now, as the deployment names them."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from numpy.typing import NDArray

from sentinel.errors import BundleProblem, InvalidDefinition, UnknownVersion
from sentinel.model.bundle import Bundle, load_warm
from sentinel.model.registry import Registry
from sentinel.policy.deployment import Deployment, Experiment, RulesInForce
from sentinel.policy.experiment import variant_of
from sentinel.policy.model_call import ModelAnswer
from sentinel.policy.rules.book import Book
from sentinel.policy.rules.hits import BookHits
from sentinel.policy.thresholds import Thresholds
from sentinel.serve.vectors.reader import VectorReader


class Scored(NamedTuple):
    """Scores (n,), the thresholds they are compared with, and whether `on_fault` fixed the action of all of them."""

    thresholds: Thresholds
    scores: NDArray[Any]
    is_fixed: bool


class Contender:
    """A loaded model with the thresholds it decides by, and what stands in for it."""

    def __init__(self, bundle: Bundle, thresholds: Thresholds | None = None, book: Book | None = None) -> None:
        """Raises InvalidDefinition for a book that does not fit its transactions and features."""
        manifest = bundle.manifest
        self.bundle = bundle
        self.version = manifest.version
        self.scorer = bundle.scorer
        self.names = manifest.plan.names
        manifest.plan.schema.make_ready()
        self.thresholds = thresholds or bundle.thresholds
        self.reader = VectorReader(self.names, self.version)
        self.on_fault = bundle.on_fault
        self.hits = None if book is None or not book.all_rules else BookHits(book, manifest.plan.schema, self.names)
        """Where the rules in force hold; None without any."""

        if self.hits is not None:
            self.hits.warm()

    def scores(self, answer: ModelAnswer, rows: NDArray[Any]) -> Scored:
        """The scores of rows (n, features): the model's, or those of what stands in for it."""
        if answer.scores is not None:
            return Scored(self.thresholds, answer.scores, is_fixed=False)
        rules, is_fixed = self.on_fault.stand_in(answer.degraded)
        return Scored(rules.thresholds, rules.score(rows), is_fixed)


class Lineup(NamedTuple):
    """A champion, and while an experiment runs its challenger.

    `shadow` is scored beside them for the answers, where that is asked for; it decides nothing. `rules` are in force.
    """

    revision: int
    champion: Contender
    challenger: Contender | None = None
    experiment: Experiment | None = None
    fallback_only: bool = False
    shadow: Contender | None = None
    rules: RulesInForce | None = None

    def variant(self, key: str | bytes) -> Literal["a", "b"]:
        """The variant that decides for this card; a when there is no experiment."""
        if self.experiment is None:
            return "a"
        return variant_of(key, self.experiment.id, self.experiment.split_percent)

    def contender(self, variant: str) -> Contender:
        """The contender that decides a variant."""
        return self.challenger if variant == "b" and self.challenger is not None else self.champion

    @property
    def contenders(self) -> tuple[Contender, ...]:
        """All that may decide."""
        return (self.champion,) if self.challenger is None else (self.champion, self.challenger)


def load_lineup(deployment: Deployment, registry: Registry, loaded: Lineup | None = None) -> Lineup:
    """What the deployment names, loaded and warm; bundles that `loaded` has already are taken over.

    Raises BundleProblem when there is no champion, or a bundle is missing or altered.
    """
    if deployment.champion is None:
        raise BundleProblem(
            f"{registry.folder.parent} has no champion; run `sentinel train`, or `sentinel models promote VERSION`"
        )
    bundles = {one.version: one.bundle for one in loaded.contenders} if loaded else {}
    champion = _meant(deployment, registry, deployment.champion, bundles)
    lineup = Lineup(
        revision=deployment.revision,
        champion=_contender(champion, deployment.thresholds, deployment.rules),
        fallback_only=deployment.fallback_only,
        rules=deployment.rules,
    )
    experiment = deployment.experiment
    if experiment is None:
        return lineup
    challenger = _meant(deployment, registry, experiment.version, bundles)
    check_comparable(champion, challenger)
    contender = _contender(challenger, experiment.thresholds, deployment.rules)
    return lineup._replace(challenger=contender, experiment=experiment)


def _contender(bundle: Bundle, thresholds: Thresholds | None, rules: RulesInForce | None) -> Contender:
    """Raises BundleProblem for a model that the rules in force do not fit."""
    try:
        return Contender(bundle, thresholds, None if rules is None else rules.acting)
    except InvalidDefinition as error:
        raise BundleProblem(f"the rules in force do not fit {bundle.manifest.version}: {error}") from None


def check_fits(rules: RulesInForce | None, bundle: Bundle) -> None:
    """Raise UnknownVersion for a model that the rules in force cannot be read for."""
    if rules is not None:
        plan = bundle.manifest.plan
        try:
            BookHits(rules.book, plan.schema, plan.names)
        except InvalidDefinition as error:
            raise UnknownVersion(
                f"the rules in force do not fit {bundle.manifest.version}; apply others first: {error}"
            ) from None


def with_inline_shadow(
    lineup: Lineup, deployment: Deployment, registry: Registry, loaded: Lineup | None = None
) -> Lineup:
    """The lineup with the shadow of the deployment, to be scored on the features of the champion.

    Raises BundleProblem for one that cannot be loaded, UnknownVersion for one that was trained on other features: its
    own would have to be kept as well, which is what the shadow's process does.
    """
    if deployment.shadow is None:
        return lineup
    before = loaded.shadow if loaded is not None else None
    bundles = {} if before is None else {before.version: before.bundle}
    shadow = _meant(deployment, registry, deployment.shadow, bundles)
    if shadow.manifest.plan_sha256 != lineup.champion.bundle.manifest.plan_sha256:
        raise UnknownVersion(
            f"the shadow {deployment.shadow} takes other features than the champion {lineup.champion.version}, or has "
            "learned other categories: answers go without its score, and its report has it"
        )
    return lineup._replace(shadow=Contender(shadow))


def _meant(deployment: Deployment, registry: Registry, version: str, loaded: Mapping[str, Bundle]) -> Bundle:
    """The bundle that the deployment means by a version."""
    found = loaded.get(version)
    if found is not None and deployment.manifests.get(version, found.manifest_sha256) == found.manifest_sha256:
        return found
    bundle = load_warm(registry, version)
    deployment.check_is_meant(version, bundle.manifest_sha256)
    return bundle


def check_comparable(champion: Bundle, challenger: Bundle) -> None:
    """Raise UnknownVersion unless both read the same transactions."""
    if not champion.manifest.plan.schema.reads_alike(challenger.manifest.plan.schema):
        raise UnknownVersion(
            f"{challenger.manifest.version} reads other transactions than the champion {champion.manifest.version}: "
            "their schemas differ in more than keys and categories; an experiment needs two models of the same fields"
        )
