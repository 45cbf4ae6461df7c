"""How keys, moments and values lie in Redis: as Feast's own client reads and writes them (entity keys of version 3).

A hash for each key that features follow:

    name                   how many fields, their names, their values; then the project
    `_ts:VIEW`             when its newest transaction happened: a Timestamp of Protocol Buffers
    murmur3(VIEW:FEATURE)  a Value of Protocol Buffers; empty where it is missing
"""

import math
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sentinel.errors import StorageProblem
from sentinel.homes import place_of

NEWER_WINS = Path(__file__).with_name("newer_wins.lua")
"""The script that writes features where nothing newer stands: of the live follower, and of `feast materialize`."""

JOB = "flink:"
"""What the name of a job that keeps profiles begins with, where the view of a server has the id of its log."""

_STRING = 2  # the type of a text in an entity key
_DOUBLE = 0x29  # the tag of `double_val` in a Value
_VALUE_BYTES = 9
_SECONDS, _NANOS = 0x08, 0x10  # the tags of a Timestamp


class ProfileRow(NamedTuple):
    """The profile of a key, by its hash, at a `position` that later events raise; when Redis may forget it."""

    key: int
    profile: bytes
    position: int
    expires_ms: int


class OnlinePosition(NamedTuple):
    """Every entry of the log before `position` is in the view, for the feature state of this id.

    `chain` is the hash of the record before, `at_us` a moment by the wall clock: all that the log had by then is in
    the view.
    """

    log_id: str
    position: int
    chain: str
    state_id: str
    at_us: int


class FeatureRow(NamedTuple):
    """The features of a key at its newest transaction: its values, when that happened, and when Redis may forget it."""

    values: tuple[str, ...]
    time_us: int
    expires_ms: int
    features: list[bytes]


class KnownFeatures(NamedTuple):
    """What stands in Redis about a key: when its newest transaction happened, and its features by name."""

    time_us: int
    features: dict[str, float | None]


class OnlineMoved(StorageProblem):
    """Another follower has moved the view on, or it was emptied: look where it is, and go on."""


def project_of(home: Path, detector: str) -> str:
    """The project of Feast that a home's features belong to: tenants that share a Redis do not meet.

    >>> project_of(Path("data"), "payments"), project_of(Path("data/tenants/acme"), "payments")
    ('sentinel_payments', 'sentinel_acme_payments')
    """
    tenant = place_of(home).tenant
    return re.sub(r"\W", "_", "_".join(["sentinel", *([tenant] if tenant else []), detector]))


def entity_prefix(names: Sequence[str]) -> bytes:
    """What the names in Redis begin with of all keys of these fields."""
    texts = [name.encode() for name in sorted(names)]
    return struct.pack("<I", len(texts)) + b"".join(struct.pack("<II", _STRING, len(one)) + one for one in texts)


def entity_name(names: Sequence[str], values: Sequence[str], project: str) -> bytes:
    """The name in Redis of the hash of one key."""
    of_field = dict(zip(names, values, strict=True))
    texts = [of_field[name].encode() for name in sorted(names)]
    found = b"".join(struct.pack("<II", _STRING, len(one)) + one for one in texts)
    return entity_prefix(names) + found + project.encode()


def is_of_project(name: bytes, names: Sequence[str], project: str) -> bool:
    """Whether a name in Redis is of a key of these fields, and of this project."""
    at = len(entity_prefix(names))
    for _ in names:
        if len(name) < at + 8:
            return False
        at += 8 + int.from_bytes(name[at + 4 : at + 8], "little")
    return name[at:] == project.encode()


def field_of(view: str, feature: str) -> bytes:
    """The field of a feature."""
    return murmur3(f"{view}:{feature}".encode()).to_bytes(4, "little")


def moment_field(view: str) -> bytes:
    """The field with the moment of a view."""
    return f"_ts:{view}".encode()


def encode_moment(us: int) -> bytes:
    """Microseconds since 1970 as a Timestamp.

    >>> decode_moment(encode_moment(1_735_689_600_000_001)), encode_moment(0)
    (1735689600000001, b'')
    """
    seconds, rest = divmod(us, 1_000_000)
    parts = ((_SECONDS, seconds % 2**64), (_NANOS, rest * 1_000))
    return b"".join(bytes((tag,)) + _varint(value) for tag, value in parts if value)


def decode_moment(data: bytes) -> int:
    """The microseconds since 1970 of a Timestamp."""
    found, at = {_SECONDS: 0, _NANOS: 0}, 0
    while at < len(data):
        tag, value, shift = data[at], 0, 0
        while True:
            at += 1
            value |= (data[at] & 127) << shift
            shift += 7
            if data[at] < 128:
                break
        found[tag] = value - 2**64 if value >= 2**63 else value
        at += 1
    return found[_SECONDS] * 1_000_000 + found[_NANOS] // 1_000


def encode_values(rows: NDArray[np.float64]) -> list[list[bytes]]:
    """Each row of features (n, features) as Values; a missing one (NaN) is empty."""
    n, width = rows.shape
    packed = np.empty((n, width, _VALUE_BYTES), np.uint8)
    packed[:, :, 0] = _DOUBLE
    packed[:, :, 1:] = np.ascontiguousarray(rows, "<f8").view(np.uint8).reshape(n, width, 8)
    data, missing = packed.tobytes(), np.isnan(rows)
    values = [data[at : at + _VALUE_BYTES] for at in range(0, len(data), _VALUE_BYTES)]
    for place in np.flatnonzero(missing).tolist():
        values[place] = b""
    return [values[at : at + width] for at in range(0, n * width, width)]


def decode_value(data: bytes | None) -> float | None:
    """The number of a Value; None where it is missing, or is no number."""
    if data is None or len(data) != _VALUE_BYTES or data[0] != _DOUBLE:
        return None
    value: float = struct.unpack("<d", data[1:])[0]
    return None if math.isnan(value) else value


def murmur3(data: bytes) -> int:
    """The 32 bits of MurmurHash3 (x86, seed 0; Austin Appleby, in the public domain), by which Feast names fields.

    >>> hex(murmur3(b"hello")), murmur3(b"")
    ('0x248bfa47', 0)
    """
    mixed, whole = 0, len(data) // 4 * 4
    for at in range(0, whole, 4):
        mixed ^= _scrambled(int.from_bytes(data[at : at + 4], "little"))
        mixed = (_rotated(mixed, 13) * 5 + 0xE6546B64) & 0xFFFFFFFF
    mixed ^= _scrambled(int.from_bytes(data[whole:], "little")) ^ len(data)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        mixed = ((mixed ^ mixed >> shift) * factor) & 0xFFFFFFFF
    return mixed ^ mixed >> 16


def _scrambled(block: int) -> int:
    return (_rotated((block * 0xCC9E2D51) & 0xFFFFFFFF, 15) * 0x1B873593) & 0xFFFFFFFF


def _rotated(value: int, bits: int) -> int:
    return (value << bits | value >> (32 - bits)) & 0xFFFFFFFF


def _varint(value: int) -> bytes:
    found = bytearray()
    while value >= 128:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)
