"""A packed state: what it may hold is checked before it is used, since whoever changes it can make its hashes too."""

import contextlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streams import PLAN, as_columns, payment

from sentinel.errors import StorageProblem
from sentinel.features.packed import MOST_PARTS, pack, unpack
from sentinel.features.store import MemoryStore

STATE = {"received": np.array([5]), "0.profiles": np.arange(90, dtype=np.uint8)}


def test_what_was_packed_is_unpacked():
    found = unpack(pack(STATE))
    assert found.keys() == STATE.keys()
    assert all(found[name].dtype == one.dtype and found[name].tolist() == one.tolist() for name, one in STATE.items())


def zipped(**parts):
    """An archive of arrays, written in another way than ours."""
    buffer = io.BytesIO()
    np.savez(buffer, **parts)
    return buffer.getvalue()


def bomb():
    """A thousand times as large as the file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.profiles.npy", pack({"a": np.zeros(50_000_000, np.uint8)}))
    return buffer.getvalue()


def overlapping():
    """Two names for the same bytes."""
    data = bytearray(pack({"a": np.zeros(100_000, np.uint8), "b": np.zeros(1, np.uint8)}))
    with zipfile.ZipFile(io.BytesIO(bytes(data))) as archive:
        first, second = archive.infolist()
    directory = data.rindex(b"PK\x01\x02")
    for at, value in ((16, first.CRC), (20, first.compress_size), (24, first.file_size), (42, first.header_offset)):
        data[directory + at : directory + at + 4] = value.to_bytes(4, "little")
    assert second.filename == "b.npy"
    return bytes(data)


REFUSED = {
    "nothing": (b"", "damaged"),
    "no archive": (b"PK\x03\x04" + bytes(100), "damaged"),
    "a pickle": (zipped(a=np.array([{}], object)), "no array"),
    "a compressed part": (bomb(), "none compressed"),
    "the same part twice": (overlapping(), "overlap"),
    "too many parts": (zipped(**{f"p{i}": np.zeros(1, np.uint8) for i in range(MOST_PARTS + 1)}), "up to 256 parts"),
    "a part with a long name": (zipped(**{"a" * 100: np.zeros(1, np.uint8)}), "up to 256 parts"),
    "numbers that are no whole numbers": (zipped(a=np.zeros(3)), "no array"),
    "a table": (zipped(a=np.zeros((3, 3), np.uint8)), "no array"),
    "one number": (zipped(a=np.array(3, np.uint8)), "no array"),
    "records": (zipped(a=np.zeros(3, [("x", np.uint8)])), "no array"),
    "another byte order": (zipped(a=np.zeros(3, ">i8")), "no array"),
    "more than there is": (pack(STATE).replace(b"(90,)", b"(99,)"), "damaged|says it is"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_packed_state_is_refused_before_it_is_read(data, said):
    with pytest.raises(StorageProblem, match=said):
        unpack(data)


def test_a_header_that_says_more_than_there_is_takes_no_memory():
    """The size comes from the bytes, not from what stands before them."""
    part = io.BytesIO()
    np.lib.format.write_array_header_1_0(part, {"descr": "|u1", "fortran_order": False, "shape": (1 << 60,)})
    raw = part.getvalue() + bytes(8)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.npy", raw)
    with pytest.raises(StorageProblem, match="says it is"):
        unpack(buffer.getvalue())


@pytest.fixture(scope="module")
def snapshot():
    store = MemoryStore(PLAN)
    store.advance(as_columns([payment(i, i * 1_000_000, card=f"c{i % 3}", shop="s") for i in range(9)]))
    return store.snapshot()


@pytest.mark.parametrize(
    "parts",
    [
        {"_0.profiles": np.zeros(3, np.uint8)},
        {"0.profiles": np.zeros(3, np.int64)},
        {"0.profiles": np.zeros((3, 3), np.uint8)},
        {"0.plan": np.zeros(1, np.uint64)},
        {"0.plan": np.array([[1, 2]], np.uint64)},
        {"received": np.array([1.0])},
        {"received": np.array([], np.int64)},
        {"received": np.array(1)},
        {"received": np.array([2**63 - 1])},
        {"received": np.array([-(2**63)])},
        {"9.profiles": np.zeros(3, np.uint8)},
    ],
    ids=str,
)
def test_parts_of_another_shape_type_or_name_change_nothing(snapshot, parts):
    store = MemoryStore(PLAN)
    store.restore(snapshot)
    with pytest.raises(StorageProblem):
        store.restore({**snapshot, **parts})
    assert pack(store.snapshot()) == pack(snapshot)


@pytest.mark.parametrize("name", ["received", "0.plan", "0.profiles", "1.plan", "1.profiles"])
def test_a_part_that_is_missing_is_said(snapshot, name):
    with pytest.raises(StorageProblem):
        MemoryStore(PLAN).restore({one: array for one, array in snapshot.items() if one != name})


def test_a_profile_whose_clock_no_clock_can_show_is_refused():
    """A key that was last heard of at the mark of free rows would be in use and free at once."""
    store = MemoryStore(PLAN)
    store.advance(as_columns([payment(0, 0)]))
    taken = store.snapshot()
    profiles = taken["0.profiles"].tobytes()
    for clock in (2**62, -(2**62), 2**63 - 1, -(2**63)):
        forged = profiles[:8] + _number(clock) + profiles[9:]
        with pytest.raises(StorageProblem, match="damaged"):
            MemoryStore(PLAN).restore({**taken, "0.profiles": np.frombuffer(forged, np.uint8)})


def _number(value):
    rest, out = (value << 1 ^ value >> 63) & (1 << 64) - 1, bytearray()
    while rest >= 128:
        out.append(rest & 127 | 128)
        rest >>= 7
    return bytes([*out, rest])


FUZZ = """
import random, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from streams import PLAN, as_columns, payment
from test_packed import _number
from sentinel.errors import StorageProblem
from sentinel.features.packed import pack, unpack
from sentinel.features.store import MemoryStore

EXTREMES = (0, 1, -1, 2**62, 2**63 - 1, -(2**63), 2**31, -(2**31), 10**6, 10**9, -(10**9), 2**40)

def changed(chance, state):
    name = chance.choice([one for one in state if one.endswith("profiles")])
    data = state[name].tobytes()
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        i = chance.randrange(len(data) + 1)
        end = i
        while end < len(data) and data[end] >= 128:
            end += 1
        data = chance.choice((
            data[:i] + _number(chance.choice(EXTREMES)) + data[end + 1 :], data[:i] + bytes([chance.randrange(256)]) + data[i + 1 :],
            data[:i], data + data[i:],
        ))
    return {**state, name: np.frombuffer(data, np.uint8)}

def times(n, begin, step):
    return as_columns([
        payment(begin + i, begin * 1_000_000 + i * step, card=f"c{i % 5}", shop=f"s{i % 3}", channel="web", points=i,
                latitude=1.0 + i % 7, longitude=2.0)
        for i in range(n)
    ])

store = MemoryStore(PLAN)
store.advance(times(60, 0, 300_000))
state, later, taken, refused = store.snapshot(), times(80, 40, 900_000), 0, 0
for seed in range(int(sys.argv[2])):
    store = MemoryStore(PLAN)
    try:
        store.restore(unpack(pack(changed(random.Random(seed), state))))
        store.advance(later)
        store.snapshot()
        store.spare_bytes()
        for by in store.groups:
            store.export(by, store.keys_of(by))
            store.drop(by, store.keys_of(by))
        taken += 1
    except StorageProblem:
        refused += 1
print(taken, refused)
"""


def test_no_change_of_the_numbers_in_a_state_ends_the_process():
    here = Path(__file__).parent
    command = [sys.executable, "-c", FUZZ, str(here), "300"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    taken, refused = map(int, done.stdout.split())
    assert (taken + refused, taken > 30, refused > 100) == (300, True, True)


@given(
    cut=st.one_of(st.none(), st.integers(0, 600)),
    changes=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=12),
)
def test_whatever_is_changed_in_the_bytes_is_damage_that_is_named(cut, changes):
    data = bytearray(pack({"a": np.arange(9, dtype=np.int64), "b.c": np.arange(7, dtype=np.uint8)})[:cut])
    for place, byte in changes:
        if data:
            data[place % len(data)] = byte
    with contextlib.suppress(StorageProblem):
        unpack(bytes(data))


@pytest.mark.parametrize("header", [b"{[]: 1}", b"(" * 90, b"{'descr': '\xff'", b"\\\n" * 20, b"x y", b""])
def test_a_header_that_is_none_is_damage_though_its_checksum_is_right(header):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        text = header.ljust(118) + b"\n"
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
    with pytest.raises(StorageProblem, match="damaged"):
        unpack(buffer.getvalue())
