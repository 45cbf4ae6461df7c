"""What pages show of a version: its roles, what it can do, and how it met the gate."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sentinel.errors import BundleProblem, SentinelError
from sentinel.model.gate_verdicts import GateVerdicts, Verdict, policy_in
from sentinel.model.registry import manifest_sha256
from sentinel.transport.client import Unreachable
from sentinel.transport.console.server import Refused, Server
from sentinel.transport.console.stored import Stored
from sentinel.transport.console.words import number

ROLES = ("champion", "challenger", "shadow")


def in_force(server: Server) -> tuple[dict[str, Any], str | None]:
    """Which versions decide, and what is wrong with the server where it does not say."""
    try:
        version = server.get("/admin/version").json
    except (Refused, Unreachable) as error:
        return dict.fromkeys((*ROLES, "split"), None), str(error)
    found = {"champion": version["version_a"], "challenger": version.get("version_b"), "shadow": version["shadow"]}
    return found | {"split": version.get("split_percent")}, None


def figures_of(stored: Stored, version: str, state: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a version; `problem` says why there are none."""
    roles = [role for role in ROLES if state[role] == version]
    try:
        manifest = stored.manifest(version)
    except BundleProblem as error:
        return {"version": version, "roles": roles, "problem": str(error)}
    metrics = manifest.metrics or {}
    learner = manifest.training.get("learner", {}) if manifest.training else {}
    return {
        "version": version, "roles": roles, "problem": None, "created_at": manifest.created_at,
        "detector": manifest.detector, "features": len(manifest.plan.names), "history": manifest.history,
        "learner": str(learner.get("name", "") or "not noted") if isinstance(learner, Mapping) else str(learner),
        "average_precision": estimate(metrics.get("average_precision")), "auc": estimate(metrics.get("auc_roc")),
        "recall": estimate(metrics.get("recall_at_1pct_fpr")), "challenge": metrics.get("challenge"),
        "review": metrics.get("review") or {}, "block": metrics.get("block"), "thresholds": manifest.thresholds,
        "tested": metrics.get("transactions"), "warnings": metrics.get("warnings") or [],
        "calibration_error": metrics.get("calibration_error"),
    }  # fmt: skip


def estimate(found: Any) -> str:
    """A figure with the interval that it lies in."""
    if not isinstance(found, Mapping) or found.get("value") is None:
        return "\u2013"
    low, high = found.get("low"), found.get("high")
    return number(found["value"], 3) + (f" ({number(low, 3)} to {number(high, 3)})" if low is not None else "")


class Gates:
    """How versions met the promotion policy of a home."""

    def __init__(self, home: Path, stored: Stored) -> None:
        self._home, self._stored = home, stored

    def of(self, version: str) -> dict[str, Any]:
        """`word` and `kind` for a tag, `why` in sentences, and the verdict itself where there is one."""
        try:
            policy = policy_in(self._home)
            if policy is None:
                return _gate("no policy", "plain", ["promotion_policy.yaml is not there, so anything may be promoted"])
            sha256 = manifest_sha256(self._stored.registry.path(version))
            verdict = GateVerdicts(self._home).newest(sha256, policy, "promote")
        except SentinelError as error:
            return _gate("unknown", "careful", [str(error)])
        if verdict is None:
            return _gate("not asked", "plain", [f"sentinel models gate {version} --data FILE asks"])
        return _gate("passed", "good", [], verdict) if verdict.passed else _refused(verdict)


def _refused(verdict: Verdict) -> dict[str, Any]:
    return _gate("refused", "bad", [*verdict.failures, *verdict.missing], verdict)


def _gate(word: str, kind: str, why: list[str], verdict: Verdict | None = None) -> dict[str, Any]:
    return {"word": word, "kind": kind, "why": why, "verdict": verdict}
