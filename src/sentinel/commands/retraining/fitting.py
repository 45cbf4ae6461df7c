"""The step that trains: a candidate beside the registry; with a warm start two, of which the better one is kept."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sentinel.commands.retraining.steps import Work, as_read_back, compared, fingerprint
from sentinel.errors import DataProblem
from sentinel.events.files import History
from sentinel.model.bundle import MODEL_FILE, Manifest
from sentinel.model.lineage import lineage_of
from sentinel.model.signing import signer
from sentinel.train.figures.compare import Comparison
from sentinel.train.fitting.warm_start import parent_of
from sentinel.train.pipeline import Making, train
from sentinel.train.search.experiment import Experiment

ONE_FOLD = Experiment(folds=1)
"""One fit that says how many trees are enough, and one on all but the test part."""

FULL, WARM = "full", "warm"


def fit(work: Work, collected: dict[str, Any]) -> dict[str, Any]:
    """Train a candidate on the history, beside the registry.

    Raises BundleProblem without a champion, DataProblem for a history that changed or cannot be learned from.
    """
    making = _making(work)  # where there is no champion, nobody should have to wait for it
    history = _history(work, collected)
    return _found(train(work.detector, history, work.candidates(), work.stage, making), making)


def fit_warm(work: Work, collected: dict[str, Any]) -> dict[str, Any]:
    """Train two on the same history, one anew and one by trees that are added to the champion; the better is kept.

    The one that grew has to be better beyond doubt on rows that neither learned from: it has more trees, and keeps what
    the champion learned from rows that no longer hold. Raises InvalidDefinition where trees cannot be added.
    """
    making = _making(work)
    champion = work.champion()
    model = (work.models.path(champion.manifest.version) / MODEL_FILE).read_bytes()
    parent = parent_of(champion, model, work.detector)
    history = _history(work, collected)
    grown = train(work.detector, history, work.candidates(), work.stage, replace(making, parent=parent))
    whole = train(work.detector, history, work.candidates(), work.stage, making)
    judged = _better(work, whole, grown, history)
    kept = grown if judged["taken"] == WARM else whole
    return {**_found(kept, making), "warm_start": {**(grown.training["warm_start"] or {}), **judged}}


def _better(work: Work, whole: Manifest, grown: Manifest, history: History) -> dict[str, Any]:
    both = (work.candidate(whole.version), work.candidate(grown.version))
    found = compared(work, (FULL, WARM), both, history)
    taken, why = better(found)
    return {"taken": taken, "why": why, "compared": None if isinstance(found, str) else as_read_back(found)}


def better(found: Comparison | str) -> tuple[str, str]:
    """Which of FULL and WARM, compared in this order, is taken, and why; a text says why they cannot be compared."""
    if isinstance(found, str):
        return FULL, f"they cannot be compared: {found}"
    if found.average_precision.difference.low > 0:
        return WARM, "it is better beyond doubt"
    return FULL, "added trees are not better beyond doubt"


def _making(work: Work) -> Making:
    lineage = lineage_of(work.champion().manifest.version)
    return Making(how=ONE_FOLD, sign=signer(work.settings.signing_key_file), lineage=lineage)


def _history(work: Work, collected: Mapping[str, Any]) -> History:
    """The history that was collected, and room for candidates. Raises DataProblem where it was changed since."""
    if fingerprint(Path(collected["file"])) != collected["sha256"]:
        raise DataProblem(f"{collected['file']} was changed after this run had begun; begin another --run")
    history = work.history(dict(collected))
    shutil.rmtree(work.candidates().folder, ignore_errors=True)  # of an attempt that was cut short
    return history


def _found(candidate: Manifest, making: Making) -> dict[str, Any]:
    return {
        "candidate": candidate.version,
        "champion": making.lineage.parent,
        "transactions": candidate.history.transactions,
        "frauds": candidate.history.frauds,
        "average_precision": candidate.metrics["average_precision"],
        "warm_start": None,
    }
