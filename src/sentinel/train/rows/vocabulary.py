"""The vocabulary: which values of categorical fields have a code of their own, learned from a history."""

from collections.abc import Mapping

import polars as pl

from sentinel.detector import Detector

VALUE, COUNT = "value", "count"


def learn_vocabulary(detector: Detector, frame: pl.DataFrame) -> dict[str, tuple[str, ...]]:
    """For each categorical field its frequent values, the most frequent first, ties in alphabetical order."""
    return vocabulary_of(detector, {field: counts_of(frame[field]) for field in detector.categorical})


def counts_of(column: pl.Series) -> pl.DataFrame:
    """How often each value is there: VALUE and COUNT."""
    return column.drop_nulls().alias(VALUE).value_counts(name=COUNT)


def vocabulary_of(detector: Detector, counted: Mapping[str, pl.DataFrame]) -> dict[str, tuple[str, ...]]:
    """The same of values that were counted: for each field VALUE and COUNT, each value once."""
    learned = {}
    for field, counts in counted.items():
        frequent = counts.filter(pl.col(COUNT) >= detector.training.rare_below)
        learned[field] = tuple(frequent.sort([COUNT, VALUE], descending=[True, False])[VALUE].to_list())
    return learned
