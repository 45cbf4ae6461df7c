"""The fingerprint of a history: whether a model was made of this one."""

import hashlib

import polars as pl

from sentinel.detector import Detector
from sentinel.events.files import History
from sentinel.events.replay import context_columns, text_hashes
from sentinel.events.stamps import WEIGHT


def history_sha256(detector: Detector, history: History) -> str:
    """Fingerprint of a history: every field of every row and every context event, in order."""
    schema, frame = detector.schema, history.frame
    digest = hashlib.sha256()
    for name in (schema.id, *schema.texts):
        digest.update(name.encode() + text_hashes(frame[name]).tobytes())
    weights = [WEIGHT] if WEIGHT in frame.columns else []
    for name in (schema.time, *schema.whole_numbers, *schema.plain_numbers, schema.label, *weights):
        digest.update(name.encode() + frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy().tobytes())
    if history.context is not None:
        context = context_columns(schema, history.context)
        for column in context.columns():
            digest.update(column.tobytes())
    return digest.hexdigest()
