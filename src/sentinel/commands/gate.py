"""The gate of a home folder: whether a version is good enough by its policy, measured here and kept on record."""

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from sentinel.commands.evaluation import Source, bundle_of, measured_on
from sentinel.commands.given_history import read_data
from sentinel.commands.progress import Stage, stages
from sentinel.commands.registry_of_home import registry_of
from sentinel.config import Settings
from sentinel.errors import BundleProblem, DataProblem, GateRefused, InvalidDefinition, SentinelError
from sentinel.events.files import History
from sentinel.events.times import clock_us, duration_us
from sentinel.model.bundle import Bundle
from sentinel.model.gate_verdicts import Gate, GateVerdicts, Verdict
from sentinel.policy.promotion_policy import FILE as POLICY_FILE
from sentinel.policy.promotion_policy import PromotionPolicy, read_policy
from sentinel.record.applied import HomeDeployment
from sentinel.record.views.place import ViewPlace
from sentinel.review.shadow_report import shadow_report
from sentinel.review.shadow_scores import FILE as SHADOW_FILE
from sentinel.review.shadow_scores import ShadowScores
from sentinel.train.figures.compare import Comparison, compare, shared_rows
from sentinel.train.figures.latency import row_latency_us
from sentinel.train.judging.gate import WITHOUT_DATA, Check, Evidence, ShadowFacts, judge
from sentinel.train.rows.fingerprint import history_sha256
from sentinel.train.rows.measured import Measured, bundled_detector

PASSED, FAILED, MISSING = 0, 1, 2
"""Exit codes of the gate: what is missing could not be judged, whatever else failed."""


class GateResult(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict, the demands that led to it, and the policy's file."""

    verdict: Verdict
    policy: str
    checks: list[Check]

    @property
    def exit_code(self) -> int:
        """0 passed, 1 failed, 2 something is missing."""
        if self.verdict.missing:
            return MISSING
        return FAILED if self.verdict.failures else PASSED


class _Seen(msgspec.Struct, frozen=True):
    """What was measured: the rows, the champion beside them, and the fingerprint of the history."""

    measured: Measured
    comparison: Comparison | str
    latency_us: float
    data_sha256: str


def run_gate(
    settings: Settings, version: str, *, policy_file: Path | None, source: Source | None, gate: Gate
) -> GateResult:
    """Hold a version against the policy and keep the verdict. Raises what makes that impossible.

    FileNotFoundError without a policy, BundleProblem without the version, DataProblem without the data.
    """
    path = policy_file or settings.home / POLICY_FILE
    policy, bundle = read_policy(path), bundle_of(settings, version)
    seen: _Seen | str | None = None
    if source is None and not registry_of(settings).vouches_for(version):
        seen = f"{version} was trained elsewhere and signed by nobody who is trusted: give --data FILE to measure it on"
    if source is not None:
        history = read_data(settings, bundled_detector(bundle.manifest), source.data, source.reading)
        with stages() as stage:
            seen = _look(settings, bundle, history, policy, stage, source.delay_us)
    return _noted(settings, _judged(settings, bundle, (path, policy), seen, gate))


def hold_against(
    settings: Settings, bundle: Bundle, history: History, policy: PromotionPolicy, gate: Gate, stage: Stage
) -> GateResult:
    """The same for a bundle and a history that are at hand, by the policy of the home folder."""
    return _noted(settings, weigh(settings, bundle, history, policy, gate, stage))


def weigh(
    settings: Settings, bundle: Bundle, history: History, policy: PromotionPolicy, gate: Gate, stage: Stage
) -> GateResult:
    """The same, without keeping the verdict: of a bundle that has no version in the registry.

    Where the history cannot be measured on, what asks for it is missing.
    """
    seen: _Seen | str
    try:
        seen = _look(settings, bundle, history, policy, stage, None)
    except DataProblem as error:
        seen = str(error)
    return _judged(settings, bundle, (settings.home / POLICY_FILE, policy), seen, gate)


def admitting(
    settings: Settings, history: History, policy: PromotionPolicy | None, stage: Stage
) -> Callable[[Bundle], None]:
    """What raises GateRefused for a model that the policy of the home folder would not register."""
    path = settings.home / POLICY_FILE
    if policy is None:
        raise InvalidDefinition(f"there is no {path} to hold a model against; write one, or leave out --gate")

    def admit(bundle: Bundle) -> None:
        verdict = weigh(settings, bundle, history, policy, "register", stage).verdict
        if not verdict.passed:
            why = "; ".join((*verdict.failures, *verdict.missing))
            raise GateRefused(f"the model is not registered: {path} is not met: {why}")

    return admit


def _look(
    settings: Settings, bundle: Bundle, history: History, policy: PromotionPolicy, stage: Stage, delay_us: int | None
) -> _Seen:
    if delay_us is None and policy.label_delay is not None:
        delay_us = duration_us(policy.label_delay)
    detector = bundled_detector(bundle.manifest)
    measured = measured_on(bundle, detector, history, stage, delay_us)
    if measured.may_be_learned:
        raise DataProblem(f"a model is not judged by what it may have learned: this would be {measured.said}")

    def measure_champion(champion: Bundle) -> Measured:
        return measured_on(champion, bundled_detector(champion.manifest), history, stage, delay_us)

    comparison = _beside_champion(settings, bundle, policy, measured, measure_champion)
    latency_us = row_latency_us(bundle.scorer, measured.rows)
    return _Seen(measured, comparison, latency_us, history_sha256(detector, history))


def _beside_champion(
    settings: Settings, bundle: Bundle, policy: PromotionPolicy, measured: Measured,
    measure_champion: Callable[[Bundle], Measured],
) -> Comparison | str:  # fmt: skip
    """The champion beside a bundle on the rows that neither learned from; why not, where that cannot be."""
    if not policy.not_worse_than_champion and policy.max_loss_to_champion is None:
        return "the policy does not ask"
    version = HomeDeployment(settings.home).read().champion
    if version is None:
        return "there is no champion to compare with; promote one first, by --force --reason TEXT"
    try:
        champion = bundle_of(settings, version)
        is_itself = champion.manifest_sha256 == bundle.manifest_sha256
        both = shared_rows(measured if is_itself else measure_champion(champion), measured)
    except (BundleProblem, DataProblem) as error:
        return f"the champion {version} cannot be compared with: {error}"
    thresholds = [(one.thresholds.review, one.thresholds.block) for one in (champion, bundle)]
    return compare((version, bundle.manifest.version), both, thresholds)


def _judged(
    settings: Settings, bundle: Bundle, policy: tuple[Path, PromotionPolicy], found: _Seen | str | None, gate: Gate
) -> GateResult:
    """Judge what was `found`; a text says why nothing was, and None that nobody looked."""
    path, demands = policy
    manifest = bundle.manifest
    if found is None and demands.label_delay is not None:
        found = f"the figures of the manifest count rows younger than {demands.label_delay} too; give --data FILE"
    seen = found if isinstance(found, _Seen) else None
    why_not = found if isinstance(found, str) else WITHOUT_DATA
    evidence = Evidence(
        manifest=manifest,
        thresholds=bundle.thresholds,
        now_us=clock_us(),
        measured=seen.measured if seen else found if isinstance(found, str) else None,
        comparison=seen.comparison if seen else why_not,
        latency_us=seen.latency_us if seen else why_not,
        shadow=_shadow_facts(settings, manifest.version),
    )
    checks = judge(demands, evidence, gate)
    compared = seen.comparison.first if seen and isinstance(seen.comparison, Comparison) else None
    verdict = Verdict(
        version=manifest.version,
        manifest_sha256=bundle.manifest_sha256,
        policy_sha256=demands.sha256,
        gate=gate,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        failures=tuple(one.said for one in checks if one.status == "failed"),
        missing=tuple(one.said for one in checks if one.status == "missing"),
        champion=compared,
        measured_on=seen.measured.said if seen else None,
        data_sha256=seen.data_sha256 if seen else None,
    )
    return GateResult(verdict=verdict, policy=str(path), checks=checks)


def _noted(settings: Settings, result: GateResult) -> GateResult:
    GateVerdicts(settings.home).note(result.verdict)
    return result


def _shadow_facts(settings: Settings, version: str) -> ShadowFacts | str:
    """What the version did as a shadow in this home folder, or why that is not known."""
    home = settings.home
    place = ViewPlace(home, settings.database_url)
    if not (home / SHADOW_FILE).exists() or not place.is_there:
        return "no shadow has scored anything here; POST /admin/shadow/start begins with one"
    try:
        with closing(ShadowScores(home / SHADOW_FILE)) as scores, closing(place.open()) as view:
            report = shadow_report(view, scores, version=version)
    except SentinelError as error:
        return f"what shadows scored cannot be read: {error}"
    return ShadowFacts(report.compared, report.agreement)
