"""Avro messages in the wire format of schema registries: a zero byte, four bytes of the schema's number, the data."""

import io
import json
import struct
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fastavro
import msgspec

from sentinel.errors import BadBody, InvalidDefinition, NotReady
from sentinel.events.card_numbers import quoted
from sentinel.transport.kafka.bounded import why_unbounded

MAGIC = b"\0"
_HEAD = struct.Struct(">bI")
_PATIENCE_S = 5.0
_encode = msgspec.json.Encoder(decimal_format="number").encode


class Schemas:
    """The schemas by their numbers: files `<number>.avsc` of a folder, or those of a registry at `http(s)://...`.

    None of them is asked for twice.
    """

    def __init__(self, place: str | None) -> None:
        """Raises InvalidDefinition for a folder that is not there."""
        self._url = place.rstrip("/") if place and place.startswith(("http://", "https://")) else None
        self._folder = None if place is None or self._url else Path(place)
        if self._folder is not None and not self._folder.is_dir():
            raise InvalidDefinition(f"SENTINEL_AVRO_SCHEMAS is {place}, which is no folder and no http(s) address")
        self._known: dict[int, Any] = {}

    def as_json(self, message: bytes) -> bytes:
        """The record as JSON. Raises BadBody for bytes that are none, and NotReady while the registry is away."""
        if len(message) < _HEAD.size:
            raise BadBody("No Avro message: it ends within the number of its schema")
        number = _HEAD.unpack_from(message)[1]
        schema = self._schema(number)
        rest = io.BytesIO(message[_HEAD.size :])
        try:
            record = fastavro.schemaless_reader(rest, schema, None)
        except (
            EOFError,
            ValueError,
            IndexError,
            KeyError,
            TypeError,
            OverflowError,
            RecursionError,
            struct.error,
        ) as fault:
            raise BadBody(f"No record of the Avro schema {number}: {quoted(str(fault), 200)}") from None
        if rest.read(1):
            raise BadBody(f"No record of the Avro schema {number}: bytes are left behind it")
        if not isinstance(record, Mapping):
            raise BadBody(f"The Avro schema {number} is not that of a record")
        try:
            return _encode(record)
        except (TypeError, ValueError, RecursionError) as fault:
            raise BadBody(f"A value of the Avro schema {number} has no form in JSON: {fault}") from None

    def _schema(self, number: int) -> Any:
        if number not in self._known:
            text = self._fetched(number) if self._url else self._read(number)
            try:
                schema = fastavro.parse_schema(json.loads(text))
            except (ValueError, TypeError, RecursionError, fastavro.schema.SchemaParseException) as fault:
                raise BadBody(f"The Avro schema {number} cannot be understood: {quoted(str(fault), 200)}") from None
            if why := why_unbounded(schema):
                raise BadBody(f"The Avro schema {number} is not read: {quoted(why, 200)}")
            self._known[number] = schema
        return self._known[number]

    def _read(self, number: int) -> str:
        if self._folder is None:
            raise BadBody("An Avro message, and no schemas are known: give SENTINEL_AVRO_SCHEMAS")
        try:
            return (self._folder / f"{number}.avsc").read_text()
        except FileNotFoundError:
            raise BadBody(f"No Avro schema has the number {number}: there is no file {number}.avsc") from None

    def _fetched(self, number: int) -> str:
        try:
            with urllib.request.urlopen(f"{self._url}/schemas/ids/{number}", timeout=_PATIENCE_S) as reply:  # noqa: S310 - http
                told: dict[str, str] = json.load(reply)
                return told["schema"]
        except urllib.error.HTTPError as fault:
            if fault.code == 404:
                raise BadBody(f"No Avro schema has the number {number}, says the registry") from None
            raise NotReady(f"The schema registry answered {fault.code}") from None
        except (OSError, ValueError, KeyError) as fault:
            raise NotReady(f"The schema registry cannot be asked: {fault}") from None
