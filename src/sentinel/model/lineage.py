"""Where a model comes from, beside its history and its parameters: the one before it, and the run that made it."""

import os
from collections.abc import Mapping

import msgspec

_LONGEST = 200


class Lineage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`parent` was the champion when this one was trained; the others are those of GitHub's runner, null elsewhere.

    Who started a run is not kept: it is a person.
    """

    parent: str | None = None
    github_run_id: str | None = None
    github_workflow: str | None = None
    github_sha: str | None = None


def lineage_of(parent: str | None, environment: Mapping[str, str] = os.environ) -> Lineage:
    """The lineage of what is trained now.

    >>> lineage_of("v3", {"GITHUB_RUN_ID": "17", "GITHUB_ACTOR": "ann"})
    Lineage(parent='v3', github_run_id='17', github_workflow=None, github_sha=None)
    """
    run, workflow, sha = (
        environment.get(name, "").strip()[:_LONGEST] or None
        for name in ("GITHUB_RUN_ID", "GITHUB_WORKFLOW", "GITHUB_SHA")
    )
    return Lineage(parent, run, workflow, sha)
