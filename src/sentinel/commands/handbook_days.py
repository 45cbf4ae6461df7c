"""The handbook's published data: a pickle of pandas for every day, joined into one Parquet file.

A pickle can run any code when it is read, so these are read with the few names that a table of numbers, texts and times
needs, and refused when they ask for another one.
"""

import importlib
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import polars as pl

from sentinel.errors import DataProblem

_COLUMNS = {
    "TRANSACTION_ID": ("tx_id", pl.UInt32),
    "TX_DATETIME": ("tx_datetime", pl.Datetime("ms")),
    "CUSTOMER_ID": ("customer_id", pl.UInt16),
    "TERMINAL_ID": ("terminal_id", pl.UInt16),
    "TX_AMOUNT": ("tx_amount", pl.Float64),
    "TX_FRAUD": ("tx_fraud", pl.UInt8),
    "TX_FRAUD_SCENARIO": ("tx_fraud_scenario", pl.UInt8),
}
_NAMES = frozenset(
    {
        "_codecs.encode", "builtins.slice", "builtins.bytearray", "numpy.dtype",
        "numpy.ndarray", "numpy.core.multiarray._reconstruct", "numpy.core.multiarray.scalar",
        "numpy._core.multiarray._reconstruct", "numpy._core.multiarray.scalar", "numpy._core.numeric._frombuffer",
        "numpy.core.numeric._frombuffer", "pandas.DataFrame", "pandas.Index", "pandas.RangeIndex",
        "pandas.StringDtype", "pandas.core.frame.DataFrame",
        "pandas.core.indexes.base.Index", "pandas.core.indexes.base._new_Index",
        "pandas.core.indexes.numeric.Int64Index", "pandas.core.indexes.range.RangeIndex",
        "pandas.core.internals.managers.BlockManager", "pandas._libs.internals._unpickle_block",
        "pandas._libs.internals.BlockManager", "pandas._libs.arrays.__pyx_unpickle_NDArrayBacked",
        "pandas.core.arrays.datetimes.DatetimeArray", "pandas.core.arrays.string_.StringArray",
        "pandas.core.arrays.string_.StringDtype", "pandas.arrays.StringArray", "pandas.arrays.DatetimeArray",
    }
)  # fmt: skip


def join_days(archive: zipfile.ZipFile, members: list[str], draft: Path) -> None:
    """Write the days of an archive, in order of their names, as one Parquet file in the columns of `handbook`."""
    try:
        compatible = importlib.import_module("pandas.compat.pickle_compat")
    except ModuleNotFoundError:
        raise DataProblem("the days are tables of pandas, which is not installed: pip install pandas") from None
    days = [_day(compatible, archive.read(one), one) for one in members]
    pl.concat(days).sort("tx_datetime", maintain_order=True).write_parquet(draft)


def _day(compatible: Any, data: bytes, named: str) -> pl.DataFrame:
    class _Frames(compatible.Unpickler):  # type: ignore[misc]
        """Reads tables and nothing else."""

        def find_class(self, module: str, name: str) -> Any:
            """One of the few names."""
            if f"{module}.{name}" not in _NAMES:
                raise DataProblem(f"{named} asks for {module}.{name}, which no table of payments needs; it is not read")
            return super().find_class(module, name)

    try:
        table = _Frames(io.BytesIO(data)).load()
        return pl.DataFrame([_column(table, column, *of) for column, of in _COLUMNS.items()])
    except (
        pickle.UnpicklingError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        EOFError,
        pl.exceptions.PolarsError,
    ) as error:
        raise DataProblem(f"{named} cannot be read as a day of payments: {type(error).__name__}: {error}") from error


def _column(table: Any, column: str, name: str, dtype: Any) -> pl.Series:
    values = table[column].to_numpy()
    series = pl.Series(name, values.tolist() if values.dtype == object else values)
    return series.cast(dtype)
