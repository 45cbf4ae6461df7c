"""Plain bodies are read as msgspec reads them, bit for bit; everything else is left to it."""

import json
import struct
from decimal import Decimal, localcontext
from functools import cache

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sentinel.errors import BadBody, InvalidInput
from sentinel.serve.vectors.reader import Vector, VectorReader

NAMES = ("amount", "age", "risk")
SPACE = st.text(" \t\n\r", max_size=2)
SIGN = st.sampled_from(["", "-"])
DIGITS = st.text("0123456789", min_size=1, max_size=40) | st.text("09", min_size=1, max_size=40)


@cache
def reader_of(width: int) -> VectorReader:
    return VectorReader([f"f{n}" for n in range(width)], "v1")


@pytest.fixture(scope="module", autouse=True)
def _compiled():
    """The first reader takes seconds, and no example has so long."""
    reader_of(1)


def body_of(texts) -> bytes:
    return b'{"features":[' + ",".join(texts).encode() + b"]}"


def plain(bodies, width=1) -> list[bool]:
    """Which of them are plain; every one that is has the bits that msgspec gives."""
    reader = reader_of(width)
    rows, strange = reader.rows(bodies)
    assert rows.shape == (len(bodies), width)
    assert rows.dtype == np.float32
    others = set(strange)
    assert strange == sorted(others)
    found = [place not in others for place in range(len(bodies))]
    for body, row, is_plain in zip(bodies, rows, found, strict=True):
        assert not is_plain or row.tobytes() == reader.one(body).bits, body
    return found


def is_plain(text: str) -> bool:
    return plain([body_of([text])]) == [True]


@st.composite
def any_number(draw) -> str:
    """JSON numbers of any length, many of them out of range."""
    whole = draw(st.just("0") | st.builds(str, st.integers(1, 10**40)))
    fraction = draw(st.just("") | st.builds(".{}".format, DIGITS))
    power = draw(st.just("") | st.builds("{}{}{}".format, st.sampled_from(["e", "E", "e+", "e-", "E-"]), st.sampled_from(["", "0", "000"]), st.integers(0, 400)))  # fmt: skip
    return draw(SIGN) + whole + fraction + power


@st.composite
def near_boundary(draw) -> str:
    """Between two float32 of which either could be meant: the middle, written with so many digits, or next to it."""
    low = draw(st.integers(0, 0x7F7FFFFE).map(lambda bits: np.uint32(bits).view(np.float32)))
    high = np.nextafter(low, np.float32(np.inf))
    with localcontext() as context:
        context.prec = 400
        middle = (Decimal(float(low)) + Decimal(float(high))) / 2
        middle *= 1 + draw(st.sampled_from([-1, 0, 0, 1])) * Decimal(10) ** draw(st.integers(-40, -14))
        context.prec = draw(st.integers(15, 40))
        rounded = +middle
    return draw(SIGN) + (f"{rounded:f}" if draw(st.booleans()) else f"{rounded:e}")


NUMBER = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr),
    st.floats(-(2.0**-120), 2.0**-120, width=32).map(repr),
    st.floats(-1e6, 1e6).map(lambda number: f"{number:.20g}"),
    st.floats(-1e6, 1e6).map(lambda number: f"{number:.25f}"),
    st.integers().map(str),
    st.integers(-(2**70), 2**70).map(str),
    st.just("null"),
    st.just("-0"),
    any_number(),
    near_boundary(),
)


@st.composite
def spaced_bodies(draw, texts=NUMBER) -> tuple[bytes, int]:
    """A body with white space wherever JSON has room for it, and how many values it holds."""
    values = draw(st.lists(texts, min_size=1, max_size=4))
    marks = ["{", '"features"', ":", "["]
    for place, value in enumerate(values):
        marks += [value] if place == 0 else [",", value]
    return "".join(draw(SPACE) + mark for mark in [*marks, "]", "}", ""]).encode(), len(values)


@settings(max_examples=400)
@given(spaced_bodies())
def test_a_plain_body_has_the_bits_of_the_slow_way(drawn):
    body, width = drawn
    plain([body], width)


@settings(max_examples=1000)
@given(NUMBER)
@example("8388608.5000000000000001")
@example("5e-324")
@example("1e-45")
@example("7.006492321624085e-46")
@example("7.006492321624086e-46")
@example("340282356779733661637539395458142568447")
@example("340282356779733642748073463979561713663")
@example("0." + "0" * 70 + "1e80")
def test_a_number_has_the_bits_of_the_slow_way(text):
    is_plain(text)


@given(spaced_bodies(st.floats(-1e6, 1e6).map("{:.6f}".format) | st.just("null")))
def test_white_space_is_plain(drawn):
    body, width = drawn
    assert plain([body], width) == [True]


def test_ordinary_numbers_are_plain():
    rng = np.random.default_rng(1)
    doubles = np.concatenate([rng.normal(size=10_000), rng.lognormal(sigma=10, size=10_000)]).tolist()
    floats = rng.normal(size=10_000).astype(np.float32)
    written = [*map(repr, doubles), *map(str, floats), *map(repr, floats.tolist()), *map(repr, range(-5000, 5000))]
    written += [f"{number:.6f}" for number in doubles[:10_000]] + [f"{number:.15e}" for number in doubles]
    assert plain([body_of([text]) for text in written]).count(False) <= 2


@pytest.mark.parametrize(
    "text",
    ["0", "7", "-7", "0.0", "-0.0", "-0", "-0e5", "0e9", "1e5", "1E5", "1e+05", "1e-05", "16777217", "16777219", "null",
     "0.00000000000000000000001234567890123456", "9007199254740993", "123456789012345678", "1e-45", "-1.5e-44", "1e-60",
     "3.4028234663852886e+38", "1e0000000005", "1e38", "-0.000000000000000000000000000000"],
)  # fmt: skip
def test_these_are_plain(text):
    assert is_plain(text)


@pytest.mark.parametrize(
    "text",
    ["1e39", "-1e39", "3.5e38", "1e400", "1e65", "1e-65", "12345678901234567890", "9999999999999999999",
     "9.999999999999999999", "18446744073709551617", "1e18446744073709551616", "1e-18446744073709551616"],
)  # fmt: skip
def test_what_overflows_or_is_too_long_is_not_plain(text):
    assert not is_plain(text)


def test_numbers_next_to_a_boundary_of_float32_are_left_to_msgspec():
    rng = np.random.default_rng(2)
    low = np.abs(rng.integers(1, 0x7F000000, 20_000, np.int32)).view(np.float32)
    middle = (low.astype(np.float64) + np.nextafter(low, np.float32(np.inf)).astype(np.float64)) / 2
    middle = np.concatenate([middle, np.nextafter(middle, 0.0), np.nextafter(middle, np.inf)])
    for digits, most in ((16, 0.8), (17, 0.1), (18, 0.1)):  # 16 are exact, but not all of their powers of ten
        written = [f"{number:.{digits - 1}e}" for number in middle.tolist()]
        assert plain([body_of([text]) for text in written]).count(True) < most * len(written)


def test_missing_values_and_zeros_have_their_bits():
    rows, strange = reader_of(4).rows([body_of(["null", "-0.0", "-0", "0"])])
    assert strange == []
    assert rows.tobytes().hex() == "0000c07f000000800000000000000000"


MUTATION = st.tuples(
    st.sampled_from(["delete", "insert", "replace"]),
    st.floats(0, 1, exclude_max=True),
    st.sampled_from(b' \t\n\r\v\f{}[],:.+-0123456789eE"nul\\\0\x80\xff') | st.integers(0, 255),
)


def mutated(body: bytes, mutations) -> bytes:
    changed = bytearray(body)
    for kind, where, byte in mutations:
        place = int(where * len(changed))
        changed[place : place + (kind != "insert")] = [] if kind == "delete" else [byte]
    return bytes(changed)


@settings(max_examples=400)
@given(spaced_bodies(), st.lists(MUTATION, min_size=1, max_size=3))
def test_what_is_read_of_a_broken_body_is_what_msgspec_reads(drawn, mutations):
    body, width = drawn
    plain([mutated(body, mutations)], width)


def test_what_is_read_of_many_broken_bodies_is_what_msgspec_reads():
    rng = np.random.default_rng(3)
    kinds, bytes_ = ["delete", "insert", "replace"], b' \n{}[],:.+-0123456789eE"nul\0\xff'
    bodies = []
    for _ in range(30_000):
        body = body_of([("-1.5e+3", "0.25", "null", "-0", "1E-2")[one] for one in rng.integers(0, 5, 2)])
        n = int(rng.integers(1, 3))
        drawn = zip(rng.integers(0, 3, n), rng.random(n), rng.integers(0, len(bytes_), n), strict=True)
        bodies.append(mutated(body, [(kinds[kind], where, bytes_[byte]) for kind, where, byte in drawn]))
    found = plain([body for body in bodies if 0 not in body], 2)
    assert 1000 < found.count(True) < len(found) - 1000
    for body in bodies:
        if 0 in body:
            assert plain([body], 2) == [False]


@pytest.mark.parametrize(
    "text",
    ["", " ", "-", "+1", "01", "-01", "00", "-00", "1.", ".5", "-.5", "1.e5", "1e", "1e+", "1e-", "1e5.0", "1 2", "- 1",
     "1 .5", "1. 5", "1 e5", "1e 5", "0x1", "1_0", "1f", "NaN", "nan", "Infinity", "-Infinity", "inf", "nul", "nulll",
     "Null", "-null", "+null", "true", "false", '"1"', "[1]", "{}", "1,", ",1", ",", "\v1", "1\f", "\xa01", "--1", "1-",
     "1..5", "1.5.5", "1ee5", "1e5e5", "1e++5", "\uff11", "//1\n2", "1/**/"],
)  # fmt: skip
def test_no_number_is_refused(text):
    assert not is_plain(text)
    with pytest.raises((BadBody, InvalidInput)):
        reader_of(1).one(body_of([text]))


@pytest.mark.parametrize(
    "body",
    [b"", b" ", b"{", b"{}", b"[1]", b"1", b"null", b'"features"', b'{"features"}', b'{"features":}', b'{"features":1}',
     b'{"features":null}', b'{"features":[1]', b'{"features":[1}', b'{"features":[1]]}', b'{"features":[1]}}',
     b'{"features":[1]},', b'{"features":[1],}', b'{"features":[1]}x', b'{"features":[1]}\0', b'\0{"features":[1]}',
     b'\xef\xbb\xbf{"features":[1]}', b'{"features" [1]}', b'{"features"::[1]}', b'{features:[1]}', b'{"feature":[1]}',
     b'{"features ":[1]}', b'{"Features":[1]}', b"{'features':[1]}", b'{"features":[1]}{"features":[1]}',
     b'{"features":[1]}\x0b', b'{"features":[1],"other":1}', b'{"features":[\xff]}', b'[{"features":[1]}]',
     b'{"features":{"f0":1,}}', b'{"features":[1],"key":1}', b'\0', b'\0\0', b'{"features":[1\0]}', b'{"features":[1]\0}',
     b'{"features":[', b'{"features":[}', b'{"features":[]', b'{"feat', b"{" * 5000, b'{"features":' + b"[" * 5000],
)  # fmt: skip
def test_what_is_no_vector_is_refused(body):
    assert plain([body]) == [False]
    with pytest.raises((BadBody, InvalidInput)):
        reader_of(1).one(body)


@pytest.mark.parametrize(
    "body",
    [b'{"features":{"f0":2.5}}', b'{"features":[2.5],"key":null}', b'{"key":null,"features":[2.5]}',
     b'{"features":[1],"features":[2.5]}', b'{"f\\u0065atures":[2.5]}', b'{"features":[25e400,2],"features":[2.5]}'],
)  # fmt: skip
def test_other_ways_to_say_the_same_are_left_to_msgspec(body):
    assert plain([body]) == [False]
    if b"400" not in body:
        assert reader_of(1).one(body) == Vector(struct.pack("<f", 2.5), None)


def test_bodies_do_not_read_into_each_other():
    body, other = b' {"features": [1.5, -2e3]} ', body_of(["3", "4"])
    for cut in range(len(body) + 1):
        first, second = body[:cut], body[cut:]
        assert plain([other, first, second, other], 2) == [True, not second.strip(), not first.strip(), True]


def test_a_zero_byte_in_a_body_does_not_shift_the_others():
    body, other = body_of(["1"]), body_of(["2"])
    for cut in range(len(body) + 1):
        assert plain([other, body[:cut] + b"\0" + body[cut:], other, b"\0", b""]) == [True, False, True, False, False]
    assert plain([body + b"\0" + body, other]) == [False, True]
    assert plain([b"\0", b"\0" + body, other]) == [False, False, True]


@given(st.lists(st.integers(-9, 9).map(lambda n: body_of([str(n)])) | st.binary(max_size=5), max_size=20))
def test_every_row_is_in_its_place(bodies):
    assert plain(bodies) == [len(body) > 5 for body in bodies]


def test_no_bodies_are_no_rows():
    rows, strange = reader_of(3).rows([])
    assert rows.shape == (0, 3)
    assert strange == []
    assert plain([b"", b""]) == [False, False]


def test_a_model_without_features_has_no_plain_body():
    assert plain([b'{"features":[]}', b'{"features":[}', b'{"features":[1]}'], 0) == [False] * 3
    assert reader_of(0).one(b'{"features":[]}') == Vector(b"", None)


def test_values_come_by_name_in_any_order_and_with_a_key():
    reader = VectorReader(NAMES, "v7")
    bits = struct.pack("<3f", 1.0, float("nan"), 0.25)
    for body in (
        {"features": [1, None, 0.25]},
        {"features": {"risk": 0.25, "age": None, "amount": 1}},
    ):
        assert reader.one(json.dumps(body).encode()) == Vector(bits, None)
        keyed = json.dumps({**body, "key": "card-1"}).encode()
        assert reader.one(keyed) == Vector(bits, "card-1")
        assert reader.rows([keyed])[1] == [0]


@pytest.mark.parametrize(
    ("body", "fault", "told"),
    [
        ({"features": [1, 2]}, BadBody, "expected 3 features, got 2"),
        ({"features": [1, 2, 3, 4]}, BadBody, "expected 3 features, got 4"),
        ({"features": []}, BadBody, "expected 3 features, got 0"),
        (
            {"features": {"amount": 1, "b": 1, "a": 2}},
            BadBody,
            "expected the 3 features of model v7: unknown a, b; missing age, risk (null where a value is not known)",
        ),
        ({"features": {}}, BadBody, "expected the 3 features of model v7: missing amount, age, risk (null where a value is not known)"),
        ({"features": {**dict.fromkeys(NAMES, 1), "c": 2}}, BadBody, "expected the 3 features of model v7: unknown c"),
        ({"features": [1, "x", 3]}, InvalidInput, "Expected `float | null`, got `str` - at `$.features[1]`"),
        ({"features": [1, 2, 3], "id": 1}, InvalidInput, "Object contains unknown field `id` - at `$.id`"),
        ({"key": "card-1"}, InvalidInput, "Object missing required field `features` - at `$.features`"),
    ],
)  # fmt: skip
def test_a_body_that_does_not_fit_the_model_is_told_why(body, fault, told):
    reader = VectorReader(NAMES, "v7")
    written = json.dumps(body).encode()
    assert reader.rows([written])[1] == [0]
    with pytest.raises(fault) as raised:
        reader.one(written)
    assert str(raised.value) == told


@pytest.mark.parametrize("text", ["1e39", "-1e300", "3.4028235677973366e+38"])
def test_what_float32_cannot_hold_is_refused_by_its_name(text):
    for reader, body, path in (
        (reader_of(1), body_of([text]), "$.features[0]"),
        (reader_of(2), body_of(["null", text]), "$.features[1]"),
        (VectorReader(NAMES, "v7"), b'{"features": {"risk": 1, "age": %s, "amount": null}}' % text.encode(), "$.features.age"),
    ):  # fmt: skip
        assert reader.rows([body])[1] == [0]
        with pytest.raises(InvalidInput, match="float32") as raised:
            reader.one(body)
        assert raised.value.path == path


def test_the_largest_float32_is_read():
    assert reader_of(1).one(body_of(["3.4028235677973362e+38"])).bits == struct.pack("<f", 3.4028234663852886e38)
