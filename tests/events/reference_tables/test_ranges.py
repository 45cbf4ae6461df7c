"""Ranges: how they are written, and the index against a scan of all of them."""

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.errors import InvalidInput
from sentinel.events.reference_tables.ranges import RangeIndex, span_of, span_of_key, span_of_value


@pytest.mark.parametrize(
    ("kind", "first", "last", "key"),
    [
        ("networks", "10.0.0.0/8", None, "10.0.0.0-10.255.255.255"),
        ("networks", "10.1.2.3", None, "10.1.2.3-10.1.2.3"),
        ("networks", "10.1.2.3", "10.1.3.0", "10.1.2.3-10.1.3.0"),
        ("networks", "2001:DB8::/32", None, "2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("networks", "::ffff:10.0.0.1", None, "10.0.0.1-10.0.0.1"),
        ("digits", "0012", None, "0012-0012"),
        ("digits", "41111100", "41111199", "41111100-41111199"),
        ("numbers", "0012", "34", "12-34"),
    ],
)
def test_a_range_has_one_spelling(kind, first, last, key):
    spelt, span = span_of(kind, first, last)
    assert spelt == key
    assert span_of_key(kind, key) == span
    assert span_of(kind, *key.split("-"))[0] == key


@pytest.mark.parametrize(
    ("kind", "first", "last", "path"),
    [
        ("networks", "10.0.0.1/8", None, "$.first"),
        ("networks", "10.0.0", None, "$.first"),
        ("networks", "10.0.0.2", "10.0.0.1", "$.last"),
        ("networks", "10.0.0.2", "::1", "$.last"),
        ("networks", "10.0.0.0/8", "10.0.0.0/8", "$.last"),
        ("networks", "fe80::1%eth0", None, "$.first"),
        ("networks", "1.2.3.4", "never", "$.last"),
        ("digits", "4111x", None, "$.first"),
        ("digits", "4111", "41112", "$.last"),
        ("digits", "1" * 20, None, "$.first"),
        ("digits", "\u0664\u0661", None, "$.first"),
        ("numbers", "-1", None, "$.first"),
        ("numbers", "", None, "$.first"),
    ],
)
def test_what_is_no_range_is_refused(kind, first, last, path):
    with pytest.raises(InvalidInput) as refused:
        span_of(kind, first, last)
    assert refused.value.path == path


def test_digits_stand_for_all_that_follow_them():
    index = RangeIndex("digits")
    for first, last in (("4111", None), ("51000000", "51000099"), ("0012", "0013")):
        index.add(span_of("digits", first, last)[0])
    texts = ("411199", "4111", "411", "510000", "51000", "51000042", "0012345", "12")
    found = {text: list(index.holding(text)) for text in texts}
    assert found == {
        "411199": ["4111-4111"], "4111": ["4111-4111"],
        "411": [],  # not all numbers that begin so are in the range
        "510000": ["51000000-51000099"], "51000": [], "51000042": ["51000000-51000099"], "0012345": ["0012-0013"], "12": [],
    }  # fmt: skip


def test_what_is_of_another_kind_is_in_no_range():
    index = RangeIndex("networks")
    index.add(span_of("networks", "::/0", None)[0])
    assert list(index.holding("2001:db8::1"))
    for text in ("10.0.0.1", "card", "", "10.0.0.0/8", "\u0661.\u0661.\u0661.\u0661", "\ud800", "1.2.3.4\0"):
        assert not list(index.holding(text))
    assert span_of_value("numbers", "12.0") is None


SMALL = st.integers(0, 40)
"""Numbers that meet often."""
EDGES = st.sampled_from((0, 1, 2**32 - 1, 2**31, 2**31 - 1, 10**18, 10**19 - 1))
RANGES = st.tuples(SMALL | EDGES, SMALL | EDGES).map(sorted)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(RANGES, st.booleans()), max_size=40), st.lists(SMALL | EDGES, max_size=10))
def test_the_index_finds_what_a_scan_finds(steps, asked):
    """Ranges come and go in any order, and may overlap as they like."""
    index, there = RangeIndex("numbers"), set()
    for (low, high), removes in steps:
        key = f"{low}-{high}"
        if removes and there:
            key = sorted(there)[(low + high) % len(there)]
            index.remove(key)
            there.discard(key)
        elif key not in there:
            index.add(key)
            there.add(key)
    spans = {key: tuple(map(int, key.split("-"))) for key in there}
    for number in asked:
        assert sorted(index.holding(str(number))) == sorted(
            k for k, (low, high) in spans.items() if low <= number <= high
        )
    for (low, high), _ in steps:
        touching = sorted(key for key, (first, last) in spans.items() if first <= high and low <= last)
        assert sorted(index.touching(f"{low}-{high}")) == touching


ADDRESSES = st.ip_addresses()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(ADDRESSES, st.integers(0, 128)), max_size=10), st.lists(ADDRESSES, max_size=5))
def test_networks_hold_the_addresses_in_them(made, others):
    networks = []
    for address, length in made:
        networks.append(ipaddress.ip_network((address, min(length, address.max_prefixlen)), strict=False))
    mapped = ipaddress.ip_network("::ffff:0:0/96")
    networks = [one for one in dict.fromkeys(networks) if one.version == 4 or not one.overlaps(mapped)]
    index = RangeIndex("networks")
    for one in networks:
        index.add(span_of("networks", str(one), None)[0])
    for address in (*others, *(one[-1] for one in networks)):
        if address.version == 4 or address.ipv4_mapped is None:
            holding = sorted(span_of("networks", str(one), None)[0] for one in networks if address in one)
            assert sorted(index.holding(str(address))) == holding


def test_many_ranges_are_kept_in_blocks():
    index = RangeIndex("numbers")
    keys = [f"{n}-{n + 1}" for n in range(0, 9_000, 3)]
    for key in sorted(keys):  # not in the order of the numbers
        index.add(key)
    assert list(index.touching("100-300")) == [f"{n}-{n + 1}" for n in range(99, 301, 3)]
    for key in keys[:-1]:
        index.remove(key)
    assert list(index.touching("0-100000")) == [keys[-1]]
    assert list(index.holding("8997")) == [keys[-1]]
