"""Bodies that come again: what is kept of them is bounded, also in bytes."""

from sentinel.policy.breaker import Circuit
from sentinel.serve.vectors.repeats import LONGEST_REPEAT, MOST_REPEATED_BYTES, MOST_REPEATS, Repeat, Repeats


def kept_of(bodies):
    """The most bytes that were kept at once."""
    repeats, most = Repeats(), 0
    repeat = Repeat(2**62, 0, next(iter(Circuit)), b"", b"")
    for body in bodies:
        repeats.keep(body, repeat, 0)
        most = max(most, sum(map(len, repeats)))
        assert len(repeats) <= MOST_REPEATS
    return most


def test_long_bodies_take_no_more_room_than_all_may():
    bodies = (b"%08d" % n + b" " * (LONGEST_REPEAT - 8) for n in range(1_500))
    assert MOST_REPEATED_BYTES // 2 < kept_of(bodies) <= MOST_REPEATED_BYTES + LONGEST_REPEAT
