"""How a verdict of the gate is told."""

from collections.abc import Iterator

from sentinel.model.gate_verdicts import Verdict


def verdict_lines(verdict: Verdict) -> Iterator[str]:
    """How a version met the policy, in a line or one for each demand that it missed."""
    if verdict.passed:
        yield f"{verdict.version} passes the promotion policy"
        return
    yield f"{verdict.version} does not pass the promotion policy:"
    yield from (f"  failed: {one}" for one in verdict.failures)
    yield from (f"  missing: {one}" for one in verdict.missing)
