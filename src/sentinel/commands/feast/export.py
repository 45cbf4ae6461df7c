"""`sentinel feast export`: a model's features over a history, as a repository of Feast."""

from datetime import timedelta
from pathlib import Path
from secrets import token_hex

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from sentinel.commands.feast.files import DATA, definitions, store_settings
from sentinel.commands.given_history import read_data
from sentinel.commands.progress import stages
from sentinel.commands.registry_of_home import registry_of
from sentinel.config import Settings
from sentinel.detectors import load_detector
from sentinel.durable import make_folder, sync_folder, write_durably
from sentinel.errors import BundleProblem
from sentinel.events.reading import Reading
from sentinel.events.replay import columns_of_frame
from sentinel.events.times import duration_us, iso
from sentinel.features.key_views import TIME, View, views_of
from sentinel.features.plan import FeaturePlan
from sentinel.features.store import MemoryStore
from sentinel.model.bundle import load_bundle
from sentinel.record.applied import HomeDeployment
from sentinel.record.online.layout import project_of
from sentinel.train.rows.dataset import replay

FACTS = "sentinel.json"
_PRIVATE = 0o600


class ViewFacts(msgspec.Struct, frozen=True):
    """A view as it was written: its rows, from when to when they reach, and the keys of one of the oldest."""

    name: str
    rows: int
    first_us: int
    last_us: int
    probe: dict[str, str]


class Facts(msgspec.Struct, frozen=True):
    """`sentinel.json` of a repository: which model's features these are, and of what they were made.

    `overlap_us` is how much older than the newest a transaction may come in, so how far an increment looks back.
    """

    project: str
    model_version: str
    plan_sha256: str
    transactions: int
    overlap_us: int
    views: list[ViewFacts]


def export_repository(
    settings: Settings, name: str, data: Path, reading: Reading, folder: Path, *,
    version: str | None, redis: str, registry: str | None,
) -> Facts:  # fmt: skip
    """Write the repository of a model, the champion unless `version` names one, over a history.

    Every file appears whole; what Feast itself keeps in the folder stays. Raises DataProblem, BundleProblem and
    InvalidDefinition.
    """
    models = registry_of(settings)
    version = version or HomeDeployment(settings.home).champion()
    manifest = load_bundle(models.path(version), models.trusted).manifest
    detector, plan = load_detector(name), manifest.plan
    if manifest.detector != detector.name:
        raise BundleProblem(f"{version} is of the detector {manifest.detector!r}, not {detector.name!r}; name that one")
    project = project_of(settings.home, manifest.detector)
    yaml = store_settings(project, folder, redis, registry)
    history = read_data(settings, detector, data, reading)
    events = columns_of_frame(plan.schema, history.frame, plan.trusted_sources, history.context)
    with stages() as stage:
        rows = replay(MemoryStore(plan), events, lambda done, of: stage("features", done, of))
    views = views_of(plan)
    make_folder(folder / DATA)
    written = [_write_view(view, plan, history.frame, rows, folder / DATA) for view in views]
    horizon = timedelta(microseconds=plan.compiled.horizon_us or duration_us(plan.forget_after))
    write_durably(folder / "definitions.py", definitions(views, version, horizon).encode())
    write_durably(folder / "feature_store.yaml", yaml.encode(), _PRIVATE)
    facts = Facts(
        project, version, manifest.plan_sha256, len(history), duration_us(plan.schema.max_late), written
    )  # fmt: skip
    write_durably(folder / FACTS, msgspec.json.format(msgspec.json.encode(facts)))
    return facts


def _write_view(
    view: View, plan: FeaturePlan, history: pl.DataFrame, rows: NDArray[np.float64], data: Path
) -> ViewFacts:
    """One row for every moment at which a key had a transaction: the last, where it had several."""
    frame = history.select(
        pl.from_epoch(plan.schema.time, time_unit="us").dt.replace_time_zone("UTC").alias(TIME), *view.keys
    ).with_columns(pl.Series(column, rows[:, place]).fill_nan(None) for column, place in view.columns.items())
    frame = frame.drop_nulls(list(view.keys)).unique([*view.keys, TIME], keep="last", maintain_order=True)
    draft = data / f".{view.name}.{token_hex(4)}"
    try:
        frame.write_parquet(draft)
        draft.replace(data / f"{view.name}.parquet")
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(data)
    times = frame[TIME].to_physical()
    probe = {key: frame[key][0] for key in view.keys} if len(frame) else {}
    first, last = (int(times[0]), int(times[-1])) if len(frame) else (0, 0)
    return ViewFacts(view.name, len(frame), first, last, probe)


def said_of(facts: Facts, folder: Path) -> list[str]:
    """What was written, for people."""
    lines = [f"{folder}: the features of {facts.model_version} over {facts.transactions:,} transactions"]
    return lines + [
        f"  {one.name:<40} {one.rows:>10,} rows, {iso(one.first_us)} to {iso(one.last_us)}" for one in facts.views
    ]
