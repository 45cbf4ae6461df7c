"""A file of the shape of the European card data of 2013: `Time, V1 .. V28, Amount, Class`, for where that is not.

The components have Student's distribution, with deviations that fall from V1 to V28 as theirs do. A fraud is drawn like
a legitimate payment and then shifted in a dozen components by a strength of its own: some are plain to see, some are
not. No figure that is measured on such a file says anything about the real one.
"""

import numpy as np
import polars as pl

COMPONENTS = tuple(f"V{i}" for i in range(1, 29))
_SECONDS = 172_792  # two days, as in the published file
_DEVIATIONS = np.linspace(1.95, 0.33, len(COMPONENTS))
_SHIFTS = {
    "V14": -6.9, "V12": -6.2, "V10": -5.6, "V17": -6.6, "V3": -7.0, "V4": 4.5, "V11": 3.8, "V16": -4.1, "V7": -5.5,
    "V2": 3.6, "V18": -2.2, "V9": -2.5,
}  # fmt: skip
"""How far frauds of the usual strength lie from legitimate payments."""


def creditcard_rows(legit: int, fraud: int, seed: int) -> pl.DataFrame:
    """So many legitimate payments and frauds in order of time. Same arguments, same rows."""
    rng = np.random.default_rng(seed)
    n = legit + fraud
    is_fraud = np.zeros(n, np.int8)
    is_fraud[rng.choice(n, fraud, replace=False)] = 1
    strength = np.where(is_fraud == 1, rng.gamma(2.0, 0.5, n), 0.0)
    columns = {"Time": np.sort(rng.integers(0, _SECONDS, n)).astype(np.float64)}
    for name, deviation in zip(COMPONENTS, _DEVIATIONS, strict=True):
        spread = rng.standard_t(5, n) * deviation
        columns[name] = spread + strength * _SHIFTS.get(name, 0.0)
    columns["Amount"] = np.round(rng.lognormal(3.0, 1.6, n), 2)
    return pl.DataFrame({**columns, "Class": is_fraud})
