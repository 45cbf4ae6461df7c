"""The bodies of POST /predict: many are read in one compiled call.

To read the JSON of a vector by itself costs more than to score it. Nearly all bodies are plain, a list of numbers and
nothing else, and a plain one is read here in a pass over its bytes. Any other one is left to msgspec, and so is
whatever is doubtful: nothing is accepted here that msgspec refuses, and the bits are the same.

A number is its digits times a power of ten. With digits below 2**53 and a power up to 10**22 both are exact, and their
product or quotient is the nearest double (Clinger, PLDI 1990). Otherwise it is only close to the number, and taken
where everything so close to it has the same nearest float32.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.errors import BadBody, InvalidInput
from sentinel.events.wire import read_json
from sentinel.features.jit import entry, inlined

_POWERS: Final = np.array([float(f"1e{power}") for power in range(65)])
_EXACT_MANTISSA, _EXACT_POWER = 2**53, 22
_MOST_DIGITS = 18
"""Fit into 63 bits."""

_BELOW, _ABOVE = 1 - 2.0**-49, 1 + 2.0**-49
"""A mantissa, a power and their product are rounded: an error of less than 2**-51."""

_NAME: Final = np.frombuffer(b'"features"', np.uint8)
_NULL: Final = np.frombuffer(b"null", np.uint8)
_OPEN, _CLOSE, _OPEN_LIST, _CLOSE_LIST, _COMMA, _COLON, _POINT, _PLUS, _MINUS, _ZERO, _E = b"{}[],:.+-0e"
_END = 0
"""Follows every body: JSON holds no such byte, so that nothing is read past it."""

_MOST_NAMED, _LONGEST_NAME = 8, 64
_FLOAT, _INT = np.dtype(np.float32), np.dtype(np.int64)  # NumPy would look them up for every batch
_MISSING = float("nan")


class Question(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The body: values in the order of the model's features, or by name; null is missing.

    `key` (a card, say) keeps to one variant during an experiment; without it the vector itself does.
    """

    features: list[float | None] | dict[str, float | None]
    key: str | None = None


_decode = msgspec.json.Decoder(Question).decode


class Vector(NamedTuple):
    """A vector as float32, little endian, in the order of the model; and the key that came with it."""

    bits: bytes
    key: str | None


class VectorReader:
    """Reads the bodies of POST /predict for a model with these features."""

    def __init__(self, names: Sequence[str], version: str) -> None:
        self._names = tuple(names)
        self._version = version
        self._pack = struct.Struct(f"<{len(self._names)}f").pack
        self.rows([b""])  # compiles the reader

    def rows(self, bodies: Sequence[bytes]) -> tuple[NDArray[np.float32], list[int]]:
        """Rows (n, features) of plain bodies, and the places of those that are not plain, whose rows mean nothing."""
        out = np.empty((len(bodies), len(self._names)), _FLOAT)
        unusual = np.empty(len(bodies), _INT)
        count = _read(b"\0".join([*bodies, b""]), out, unusual)
        if count < 0:
            return self.rows([b"" if _END in body else body for body in bodies])
        return out, unusual[:count].tolist() if count else []

    def one(self, body: bytes) -> Vector:
        """Any body. Raises BadBody, InvalidInput."""
        question = read_json(_decode, body)
        return Vector(vector_bits(question.features, self._names, self._version, self._pack), question.key)


def vector_bits(features: Any, names: tuple[str, ...], version: str, pack: Callable[..., bytes]) -> bytes:
    """A vector as float32, in the order of the names.

    Raises BadBody for another number of values or other names, InvalidInput for a value that float32 cannot hold.
    """
    is_named = isinstance(features, dict)
    if is_named:
        strangers, absent = features.keys() - set(names), [name for name in names if name not in features]
        if strangers or absent:
            problems = [f"unknown {_named(sorted(strangers))}"] if strangers else []
            problems += [f"missing {_named(absent)} (null where a value is not known)"] if absent else []
            raise BadBody(f"expected the {len(names)} features of model {version}: {'; '.join(problems)}")
        features = [features[name] for name in names]
    elif len(features) != len(names):
        raise BadBody(f"expected {len(names)} features, got {len(features)}")
    try:
        return pack(*features)
    except (struct.error, OverflowError):
        with np.errstate(over="ignore"):  # to infinity, which no body can say
            found = np.array([_MISSING if value is None else value for value in features], np.float32)
        if np.isinf(found).any():
            place = int(np.isinf(found).argmax())
            path = f"$.features.{names[place]}" if is_named else f"$.features[{place}]"
            raise InvalidInput(f"Expected a number that float32 can hold, got {features[place]}", path) from None
        return found.tobytes()


def _named(names: Sequence[str]) -> str:
    """Some names, for people: as long and as many as they like."""
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(name[:_LONGEST_NAME] for name in names[:_MOST_NAMED]) + more


@inlined
def _at(text: bytes, p: int) -> Any:
    """The byte at a place, as int64. An unsigned place spares the question whether it counts from the end."""
    return np.int64(text[np.uint64(p)])


@inlined
def _past_space(text: bytes, p: int) -> int:
    """The place behind the white space."""
    byte = _at(text, p)
    while byte <= 32 and (byte == 32 or byte == 10 or byte == 13 or byte == 9):
        p += 1
        byte = _at(text, p)
    return p


@inlined
def _past(text: bytes, p: int, mark: int) -> int:
    """The place behind `mark` and the white space around it; -1 where there is no mark, or `p` is -1 already."""
    if p < 0:
        return -1
    p = _past_space(text, p)
    return _past_space(text, p + 1) if _at(text, p) == mark else -1


@inlined
def _past_word(text: bytes, p: int, word: NDArray[np.uint8]) -> int:
    """The place behind a word; -1 where there is none, or `p` is -1 already."""
    if p < 0:
        return -1
    for k in range(len(word)):
        if _at(text, p + k) != word[k]:
            return -1
    return p + len(word)


@inlined
def _past_digits(text: bytes, p: int, number: int) -> tuple[int, int]:
    """The place behind the digits, and the number with them at its end: nonsense where they are too many."""
    digit = _at(text, p) - _ZERO
    while 0 <= digit <= 9:
        number = 10 * number + digit
        p += 1
        digit = _at(text, p) - _ZERO
    return p, number


@inlined
def _zeros(text: bytes, p: int) -> int:
    """How many zeros a number begins with: they take no room in its mantissa."""
    count = 0
    while _at(text, p) == _ZERO or _at(text, p) == _POINT:
        count += _at(text, p) == _ZERO
        p += 1
    return count


@inlined
def _past_number(text: bytes, p: int, out: NDArray[np.float32], row: int, column: int) -> int:
    """The place behind a number, which goes to `out`; -1 where there is none, or its float32 is not certain."""
    negative = _at(text, p) == _MINUS
    first = p + negative
    p, mantissa = _past_digits(text, first, 0)
    digits, exponent, is_whole = p - first, 0, True
    if digits == 0 or (digits > 1 and _at(text, first) == _ZERO):
        return -1
    if _at(text, p) == _POINT:
        begin, is_whole = p + 1, False
        p, mantissa = _past_digits(text, begin, mantissa)
        if p == begin:
            return -1
        digits += p - begin
        exponent = begin - p
    if _at(text, p) | 32 == _E:
        sign = _at(text, p + 1)
        begin, is_whole = p + 1 + (sign in (_PLUS, _MINUS)), False
        p, power = _past_digits(text, begin, 0)
        if p == begin or p - begin > _MOST_DIGITS:
            return -1
        exponent += -power if sign == _MINUS else power
    if digits > _MOST_DIGITS and digits - _zeros(text, first) > _MOST_DIGITS:
        return -1
    if not -len(_POWERS) < exponent < len(_POWERS):
        return -1
    value = mantissa * _POWERS[exponent] if exponent >= 0 else mantissa / _POWERS[-exponent]
    rounded = np.float32(value)
    if mantissa > _EXACT_MANTISSA or not -_EXACT_POWER <= exponent <= _EXACT_POWER:
        rounded = np.float32(value * _BELOW)
        if rounded != np.float32(value * _ABOVE):
            return -1
    if rounded == np.inf:
        return -1
    if negative and not (is_whole and mantissa == 0):  # -0 is read as a whole number: it has no sign
        rounded = -rounded
    out[row, column] = rounded
    return p


@inlined
def _past_body(text: bytes, p: int, out: NDArray[np.float32], row: int) -> int:
    """The place behind a plain body, its values in a row of `out`; -1 where the body is not plain."""
    p = _past(text, _past_word(text, _past(text, p, _OPEN), _NAME), _COLON)
    for column in range(out.shape[1]):
        p = _past(text, p, _COMMA if column else _OPEN_LIST)
        if p < 0:
            return -1
        if _at(text, p) == _NULL[0]:
            out[row, column] = np.nan
            p = _past_word(text, p, _NULL)
        else:
            p = _past_number(text, p, out, row, column)
    return _past(text, _past(text, p, _CLOSE_LIST), _CLOSE)


@entry
def _read(text: bytes, out: NDArray[np.float32], unusual: NDArray[np.int64]) -> int:
    """Read bodies, of which each is followed by an end. How many are not plain; `unusual` takes their places.

    -1 when a body has an end inside.
    """
    begin, count = 0, 0
    for row in range(len(out)):
        end = _past_body(text, begin, out, row)
        if end < 0 or _at(text, end) != _END:
            unusual[count] = row
            count += 1
            end = begin
            while _at(text, end) != _END:
                end += 1
        begin = end + 1
    return count if begin == len(text) else -1
