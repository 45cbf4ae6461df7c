"""Rows as the text that PostgreSQL's COPY reads, column by column: a value at a time would cost as much as all else."""

from collections.abc import Iterable, Sequence
from typing import Any

_NULL = "\\N"
_SPECIAL = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\x00": "\ufffd"})
_RARE = ("\t", "\n", "\r", "\x00")


def copy_text(rows: Sequence[Sequence[Any]]) -> bytes:
    r"""Rows of texts, whole numbers, floats, booleans and None; a character that no text there can have is replaced.

    >>> copy_text([("a\tb", 1, None), ("\\", 2.5, True)])
    b'a\\tb\t1\t\\N\n\\\\\t2.5\tTrue\n'
    """
    columns = [_column(column) for column in zip(*rows, strict=True)]
    return ("\n".join(map("\t".join, zip(*columns, strict=True))) + "\n").encode("utf-8", "replace")


def _column(values: Sequence[Any]) -> Iterable[str]:
    kinds = set(map(type, values))
    if not any(issubclass(kind, str) for kind in kinds):
        return map(str, values) if type(None) not in kinds else [_NULL if one is None else str(one) for one in values]
    if kinds != {str}:
        return [_NULL if one is None else str(one).translate(_SPECIAL) for one in values]
    whole = "".join(values)
    if any(character in whole for character in _RARE):
        return [one.translate(_SPECIAL) for one in values]
    return [one.replace("\\", "\\\\") for one in values] if "\\" in whole else values
