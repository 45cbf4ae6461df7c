"""Context events that a detector declares and a history does not have: never left out in silence."""

import polars as pl

from sentinel.detector import Detector
from sentinel.errors import DataProblem
from sentinel.events.reading import Reading
from sentinel.events.wire import KIND


def check_events_given(detector: Detector, reading: Reading) -> None:
    """Raise DataProblem where features count context events, and the reading neither names their file nor does without.

    Such features would be of nothing in training, and of real events when the model decides.
    """
    counted = detector.counted_events
    if counted and reading.events is None and not reading.without_events:
        raise DataProblem(
            f"features of {detector.name} count context events ({', '.join(counted)}), and no file of them is given; "
            "give it with --events-file FILE, or go without them by --events-file none"
        )


def empty_kinds(detector: Detector, context: pl.DataFrame) -> list[str]:
    """A warning for each kind that the schema declares and of which there is no event."""
    present, counted = set(context[KIND].unique()), detector.counted_events
    missing = [kind for kind in detector.schema.events if kind not in present]
    why = {
        kind: "features count it, and learn nothing from it" if kind in counted else "no feature counts it"
        for kind in missing
    }
    return [f"{kind} is declared and the file has none of it: {why[kind]}" for kind in missing]
