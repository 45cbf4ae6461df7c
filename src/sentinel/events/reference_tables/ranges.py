"""Ranges of whole numbers: which of them hold a number, however many there are.

A range is kept at the node of a binary trie where the paths to its two ends part. All ranges of one node hold the same
number, so at most one of them is in force at a time, and a number is in ranges of the nodes on its own path only: one
for each length of a path that there is. No range is moved when another one comes.
"""

import socket
from bisect import bisect_left, insort
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import NamedTuple

from sentinel.errors import InvalidInput
from sentinel.events.card_numbers import quoted
from sentinel.events.reference_tables.declaration import FIRST, LAST

_DIGITS = 19  # of the longest card number; as whole numbers they have 64 bits
_NUMBER_BITS = 64
_MAPPED = b"\0" * 10 + b"\xff\xff"  # an IPv4 address within IPv6
_BLOCK = 512
BETWEEN = "-"
"""Between the two ends of a range in its one spelling."""


class Span(NamedTuple):
    """The whole numbers from `low` to `high`, both included, of so many bits: what differs in them never meets."""

    bits: int
    low: int
    high: int


def span_of(kind: str, first: str, last: str | None) -> tuple[str, Span]:
    """A range of rows of this kind in its one spelling, and what it spans. Raises InvalidInput.

    >>> span_of("networks", "10.0.0.0/8", None)[0], span_of("digits", "4111", "4119")[0]
    ('10.0.0.0-10.255.255.255', '4111-4119')
    """
    low, begin = _end_of(kind, first, f"$.{FIRST}", begins=True)
    high, end = _end_of(kind, first if last is None else last, f"$.{FIRST if last is None else LAST}", begins=False)
    if last is not None and "/" in first + last:
        raise InvalidInput(f"Expected none beside the network {quoted(first, 80)}", f"$.{LAST}")
    if kind == "digits" and last is not None and len(first) != len(last):
        raise InvalidInput(f"Expected as many digits as in {FIRST}", f"$.{LAST}")
    if low.bits != high.bits or low.low > high.high:
        raise InvalidInput(f"Expected none below {FIRST}, {quoted(first, 80)}", f"$.{LAST}")
    return f"{begin}{BETWEEN}{end}", Span(low.bits, low.low, high.high)


def span_of_key(kind: str, key: str) -> Span:
    """What a range in its one spelling spans. Raises InvalidInput for another text."""
    first, _, last = key.partition(BETWEEN)
    low, high = span_of_value(kind, first), span_of_value(kind, last)
    if low is None or high is None or low.bits != high.bits or low.low > high.high:
        raise InvalidInput(f"Expected a range of {kind}, got {quoted(key, 80)}")
    return Span(low.bits, low.low, high.high)


def span_of_value(kind: str, text: str) -> Span | None:
    """What the text of a transaction spans; None where it is of another kind. Digits stand for all that follow them."""
    if kind == "networks":
        packed = _packed(text)
        if packed is None:
            return None
        number = int.from_bytes(packed)
        return Span(8 * len(packed), number, number)
    if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS):
        return None
    if kind == "digits":
        return _digits(text)
    return Span(_NUMBER_BITS, int(text), int(text))


def _end_of(kind: str, text: str, path: str, *, begins: bool) -> tuple[Span, str]:
    """What an end of a range spans, and its one spelling."""
    if kind == "networks" and "/" in text:
        try:
            network = ip_network(text)
        except ValueError as error:
            raise InvalidInput(f"Expected a network or an address: {quoted(str(error), 120)}", path) from None
        end = network[0] if begins else network[-1]
        return Span(network.max_prefixlen, int(network[0]), int(network[-1])), str(end)
    span = span_of_value(kind, text)
    if span is None:
        wanted = "an IP address or network" if kind == "networks" else f"1 to {_DIGITS} digits"
        raise InvalidInput(f"Expected {wanted}, got {quoted(text, 80)}", path)
    if kind == "networks":
        return span, str((IPv4Address if span.bits == 32 else IPv6Address)(span.low))
    return span, text if kind == "digits" else str(span.low)


def _digits(text: str) -> Span:
    rest = 10 ** (_DIGITS - len(text))
    low = int(text) * rest
    return Span(_NUMBER_BITS, low, low + rest - 1)


def _packed(text: str) -> bytes | None:
    try:
        packed = socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except (OSError, ValueError):
        return None
    return packed[12:] if packed.startswith(_MAPPED) else packed


class RangeIndex:
    """The ranges of a table by their keys. Ranges may overlap here: who is in force when is not its business."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._nodes: dict[int, dict[int, list[tuple[Span, str]]]] = {}  # by bits: by node
        self._levels: dict[int, dict[int, int]] = {}  # by bits: how many nodes of each height there are
        self._order: dict[int, _Ordered] = {}

    def add(self, key: str) -> None:
        """Take a range, in its one spelling, that is not here."""
        span = span_of_key(self.kind, key)
        height, node = _node_of(span)
        nodes = self._nodes.setdefault(span.bits, {})
        if node not in nodes:
            levels = self._levels.setdefault(span.bits, {})
            levels[height] = levels.get(height, 0) + 1
        nodes.setdefault(node, []).append((span, key))
        self._order.setdefault(span.bits, _Ordered()).add((span.low, key))

    def remove(self, key: str) -> None:
        """Give up a range that is here."""
        span = span_of_key(self.kind, key)
        height, node = _node_of(span)
        nodes, levels = self._nodes[span.bits], self._levels[span.bits]
        left = [one for one in nodes[node] if one[1] != key]
        if left:
            nodes[node] = left
        else:
            del nodes[node]
            levels[height] -= 1
            if not levels[height]:
                self._levels[span.bits] = {one: n for one, n in levels.items() if n}
        self._order[span.bits].remove((span.low, key))

    def holding(self, text: str) -> Iterator[str]:
        """The keys of the ranges that hold the text of a transaction."""
        span = span_of_value(self.kind, text)
        return iter(()) if span is None else self._around(span)

    def touching(self, key: str) -> Iterator[str]:
        """The keys of the ranges that have anything in common with this one, and its own."""
        span = span_of_key(self.kind, key)
        yield from self._around(Span(span.bits, span.low, span.low))
        if span.bits in self._order:
            yield from self._order[span.bits].within(span.low + 1, span.high)

    def _around(self, span: Span) -> Iterator[str]:
        """The keys of the ranges that hold all of this."""
        bits, low, high = span
        nodes = self._nodes.get(bits)
        if nodes is None:
            return
        for height in list(self._levels[bits]):  # another thread may take ranges meanwhile
            for (_, first, last), key in nodes.get(1 << (bits - height) | low >> height, ()):
                if first <= low and high <= last:
                    yield key


def _node_of(span: Span) -> tuple[int, int]:
    """How high above single numbers a range is kept, and at which node."""
    height = (span.low ^ span.high).bit_length()
    return height, 1 << (span.bits - height) | span.low >> height


class _Ordered:
    """Numbers with their keys in order, in blocks, so that to take one moves only a few."""

    def __init__(self) -> None:
        self._blocks: list[list[tuple[int, str]]] = [[]]
        self._begins: list[tuple[int, str]] = [(0, "")]

    def add(self, one: tuple[int, str]) -> None:
        """Take one."""
        n = self._block_of(one)
        block = self._blocks[n]
        insort(block, one)
        if len(block) > 2 * _BLOCK:
            self._blocks[n : n + 1] = [block[:_BLOCK], block[_BLOCK:]]
            self._begins.insert(n + 1, block[_BLOCK])

    def remove(self, one: tuple[int, str]) -> None:
        """Give up one that is here."""
        n = self._block_of(one)
        block = self._blocks[n]
        del block[bisect_left(block, one)]
        if not block and n:
            del self._blocks[n], self._begins[n]

    def within(self, low: int, high: int) -> Iterator[str]:
        """The keys of the numbers from `low` to `high`."""
        n = self._block_of((low, ""))
        at = bisect_left(self._blocks[n], (low, ""))
        while n < len(self._blocks):
            for number, key in self._blocks[n][at:]:
                if number > high:
                    return
                yield key
            n, at = n + 1, 0

    def _block_of(self, one: tuple[int, str]) -> int:
        n = bisect_left(self._begins, one)
        return n if n < len(self._begins) and self._begins[n] == one else max(n - 1, 0)
