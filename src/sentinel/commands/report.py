"""The report of a version, as a page: beside its bundle, or wherever somebody wants it."""

from pathlib import Path

from sentinel.commands.evaluation import Source, bundle_of, measured_on
from sentinel.commands.given_history import read_data
from sentinel.commands.progress import Stage, stages
from sentinel.config import Settings
from sentinel.durable import write_durably
from sentinel.errors import BundleProblem, DataProblem
from sentinel.events.files import History
from sentinel.model.bundle import Bundle, read_explainer
from sentinel.model.reasons import Explainer
from sentinel.model.registry import Registry
from sentinel.train.report.page import report_of
from sentinel.train.rows.measured import bundled_detector


def write_report(settings: Settings, version: str, source: Source, out: Path) -> None:
    """Measure a version on a file and write the report of that. Raises BundleProblem, DataProblem."""
    bundle, delay_us = bundle_of(settings, version), source.delay_us
    history = read_data(settings, bundled_detector(bundle.manifest), source.data, source.reading)
    with stages() as stage:
        page = _page(settings, bundle, history, stage, delay_us)
    try:
        write_durably(out, page.encode())
    except OSError as error:
        raise DataProblem(f"{out} cannot be written: {error}") from error


def report_beside(settings: Settings, bundle: Bundle, history: History, stage: Stage) -> Path:
    """Write the report of a bundle on the part of its own history that it did not learn from; where it is."""
    out = Registry(settings.models_folder).report_path(bundle.manifest.version)
    write_durably(out, _page(settings, bundle, history, stage, None).encode())
    return out


def _page(settings: Settings, bundle: Bundle, history: History, stage: Stage, delay_us: int | None) -> str:
    measured = measured_on(bundle, bundled_detector(bundle.manifest), history, stage, delay_us)
    stage("report", 0, 1)
    page = report_of(bundle, measured, _explainer(settings, bundle))
    stage("report", 1, 1)
    return page


def _explainer(settings: Settings, bundle: Bundle) -> Explainer | str:
    try:
        return read_explainer(settings.models_folder / bundle.manifest.version)
    except BundleProblem as error:
        return str(error)
