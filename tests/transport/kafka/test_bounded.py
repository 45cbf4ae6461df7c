"""Avro whose records take no more than their bytes allow: whatever bytes come, it is JSON or a sentence."""

import json
import struct
from decimal import Decimal

import pytest
from fastavro import parse_schema
from hypothesis import given
from hypothesis import strategies as st

from sentinel.errors import BadBody
from sentinel.transport.kafka.avro import Schemas
from sentinel.transport.kafka.bounded import why_unbounded


def record(*types, name="A"):
    return {"type": "record", "name": name, "fields": [{"name": f"f{n}", "type": one} for n, one in enumerate(types)]}


INNER = record("string", name="Inner")
NOTHING = record("null", {"type": "fixed", "name": "Zero", "size": 0}, name="Nothing")
BOUNDED = [
    record("string", "double", {"type": "long", "logicalType": "timestamp-micros"},
           {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}),
    record({"type": "array", "items": "string"}, {"type": "map", "values": "long"}, "null"),
    record(["null", "string", {"type": "enum", "name": "E", "symbols": ["X", "Y"]}],
           {"type": "fixed", "name": "F", "size": 8}, "float", {"type": "string", "logicalType": "uuid"}),
    record({"type": "int", "logicalType": "date"}, {"type": "long", "logicalType": "time-micros"}, "boolean"),
    record(INNER, "Inner", {"type": "array", "items": ["null", "Inner"]}),
]  # fmt: skip


@pytest.fixture(scope="module")
def schemas(tmp_path_factory):
    folder = tmp_path_factory.mktemp("schemas")
    for number, one in enumerate(BOUNDED):
        (folder / f"{number}.avsc").write_text(json.dumps(one))
    return Schemas(str(folder))


@given(st.integers(0, len(BOUNDED) - 1), st.binary(max_size=60))
def test_any_bytes_are_json_or_a_sentence(schemas, number, data):
    try:
        found = schemas.as_json(struct.pack(">bI", 0, number) + data)
    except BadBody:
        return
    assert isinstance(json.loads(found, parse_float=Decimal), dict)


@pytest.mark.parametrize("schema", BOUNDED)
def test_what_is_flat_enough_is_read(schema):
    assert why_unbounded(parse_schema(schema)) is None


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        (record(["null", "A"]), "inside itself"),
        (record({"type": "array", "items": "A"}), "inside itself"),
        (record(record({"type": "map", "values": ["null", "A"]}, name="B")), "inside itself"),
        (record({"type": "array", "items": "null"}), "takes no bytes"),
        (record(NOTHING, {"type": "array", "items": "Nothing"}), "takes no bytes"),
        (record({"type": "array", "items": {"type": "array", "items": NOTHING}}), "takes no bytes"),
        ({"type": "array", "items": "null"}, "takes no bytes"),
    ],
)
def test_what_a_message_could_swell_is_not_read(schema, why):
    assert why in why_unbounded(parse_schema(schema))


def test_types_in_types_have_an_end():
    schema = record("string")
    for n in range(40):
        schema = record(schema, name=f"A{n}")
    assert "deep" in why_unbounded(parse_schema(schema))
