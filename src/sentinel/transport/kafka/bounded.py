"""Bounded: whether reading a record of an Avro schema takes no more than its bytes allow, whatever these are."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

_DEEPEST = 32


def why_unbounded(schema: Any) -> str | None:
    """Why a parsed schema is not read, in words; None where its records are bounded by their bytes.

    A type inside itself nests as deep as a message says, and the reader's stack ends before that; of what takes no
    bytes, an array has as many as a message says.
    """
    return _why(schema, {}, (), 0)


def _why(schema: Any, named: dict[str, Any], around: Collection[str], depth: int) -> str | None:
    if depth > _DEEPEST:
        return f"its types are nested more than {_DEEPEST} deep"
    if isinstance(schema, str) and schema in around:
        return f"its type {schema} is inside itself"
    if isinstance(schema, Mapping):
        if "name" in schema:
            named[schema["name"]] = schema
            around = (*around, schema["name"])
        if schema["type"] == "array" and _takes_no_bytes(schema["items"], named):
            return "it has an array of what takes no bytes"
    found = (_why(one, named, around, depth + 1) for one in _inside(schema))
    return next((why for why in found if why is not None), None)


def _inside(schema: Any) -> Iterator[Any]:
    """The types that a type is made of."""
    if isinstance(schema, list):
        yield from schema
    elif isinstance(schema, Mapping):
        yield from (one["type"] for one in schema.get("fields", ()))
        yield from (schema[name] for name in ("items", "values") if name in schema)
        if not isinstance(schema["type"], str):
            yield schema["type"]


def _takes_no_bytes(schema: Any, named: Mapping[str, Any]) -> bool:
    if isinstance(schema, str):
        return schema == "null" or (schema in named and _takes_no_bytes(named[schema], named))
    if isinstance(schema, list):
        return False  # which of them it is takes one
    kind = schema["type"]
    if kind in ("record", "error"):
        return all(_takes_no_bytes(one["type"], named) for one in schema["fields"])
    if kind == "fixed":
        return bool(schema["size"] == 0)
    return False if kind in ("array", "map", "enum") else _takes_no_bytes(kind, named)
