"""Requests from bytes: however these are cut, the same requests come out; what is doubtful comes out as no request."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.errors import LongHead, Malformed, TooLarge
from sentinel.transport.http.wire.chunks import MOST_CHUNKS
from sentinel.transport.http.wire.heads import (
    LONGEST_HEAD,
    LONGEST_LINE,
    LONGEST_REMEMBERED,
    MOST_FIELDS,
    MOST_REMEMBERED,
    read_head,
    read_short_head,
)
from sentinel.transport.http.wire.request_reader import RequestReader

MOST = 10_000
REFUSED = (Malformed, LongHead, TooLarge)
bodies = st.binary(max_size=200) | st.just(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n") | st.just(b"0\r\n\r\n")


def whole(body, path=b"/v1/score"):
    return b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (path, len(body), body)


def chunked(body, cuts):
    ends = sorted({min(cut, len(body)) for cut in cuts} | {len(body)})
    parts = [body[begin:end] for begin, end in zip([0, *ends], ends, strict=False) if end > begin]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%s0\r\n\r\n" % chunks


def read(pieces):
    """The requests in these pieces as (target, body), and the error that ended it."""
    reader, found = RequestReader(MOST), []
    for piece in pieces:
        reader.feed(piece)
        try:
            while (one := reader.next()) is not None:
                found.append((one[0].target, one[1]))
        except REFUSED as error:
            return found, error
    return found, None


def cut(data, places):
    ends = sorted({place % (len(data) + 1) for place in places})
    return [data[begin:end] for begin, end in zip([0, *ends], [*ends, len(data)], strict=True)]


@given(st.lists(st.tuples(bodies, st.none() | st.lists(st.integers(0, 200))), max_size=6), st.lists(st.integers(0)))
def test_the_same_requests_come_out_however_the_bytes_are_cut(asked, places):
    data = b"".join(whole(body) if cuts is None else chunked(body, cuts) for body, cuts in asked)
    wanted = [(b"/v1/score" if cuts is None else b"/predict", body) for body, cuts in asked]
    assert read(cut(data, places)) == (wanted, None)


@given(st.lists(st.sampled_from([b"POST /predict HTTP/1.1\r\n", b"\r\n", b"\n", b"\r", b"Content-Length: 5", b"Transfer-Encoding: chunked",
                                 b"5\r\n", b"0\r\n\r\n", b"hello", b": ", b" ", b"\x00", b"GET / HTTP/1.1\r\n", b"Host: x\r\n", b"X"])),
       st.lists(st.integers(0)))  # fmt: skip
def test_any_bytes_are_read_the_same_however_they_are_cut(parts, places):
    """But for how soon an error is found: what follows the requests before it is none either way."""
    data = b"".join(parts)
    at_once, error = read([data])
    in_parts, later = read(cut(data, places))
    assert at_once == in_parts
    assert (error is None) == (later is None)


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_else(data):
    read([data])
    read([b"POST / HTTP/1.1\r\n" + data])
    read([b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + data])


@pytest.mark.parametrize(
    ("bytes_", "kind"),
    [
        (b"POST / HTTP/1.1\r\nX: %s\r\n\r\n" % (b"a" * LONGEST_LINE), LongHead),
        (b"POST /%s" % (b"a" * LONGEST_LINE), LongHead),
        (b"POST / HTTP/1.1\r\n" + b"X: a\r\n" * (MOST_FIELDS + 1) + b"\r\n", LongHead),
        (b"POST / HTTP/1.1\r\n" + (b"X: %s\r\n" % (b"a" * 1000)) * 40, LongHead),
        (b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MOST + 1), TooLarge),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % (MOST + 1), TooLarge),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * (MOST_CHUNKS + 1), TooLarge),
    ],
    ids=["line", "first line", "fields", "head", "body", "chunk", "chunks"],
)
def test_what_is_too_long_is_refused_before_it_is_whole(bytes_, kind):
    assert type(read([bytes_])[1]) is kind
    assert type(read(cut(bytes_, range(0, len(bytes_), 997)))[1]) is kind


def test_as_much_as_is_allowed_is_read():
    line = b"X: %s\r\n" % (b"a" * (LONGEST_LINE - 3))
    head = b"POST / HTTP/1.1\r\n" + line * 3
    found, error = read([head + b"Y: %s\r\n\r\n" % (b"a" * (LONGEST_HEAD - len(head) - 7)), whole(b"a" * MOST)])
    assert error is None
    assert [len(body) for _, body in found] == [0, MOST]


def test_a_slow_head_costs_no_more_than_a_quick_one_to_keep():
    reader = RequestReader(MOST)
    for byte in whole(b"{}"):
        reader.feed(bytes([byte]))
        assert reader.kept <= LONGEST_HEAD
        found = reader.next()
    assert found is not None
    assert reader.kept == 0
    assert reader.is_clean


def test_what_is_remembered_is_bounded_in_bytes():
    assert LONGEST_REMEMBERED * MOST_REMEMBERED <= 2**20
    before = read_short_head.cache_info().currsize
    read_head(b"POST / HTTP/1.1\r\nX: %s\r\n\r\n" % (b"a" * LONGEST_REMEMBERED))
    assert read_short_head.cache_info().currsize == before


@pytest.mark.parametrize(
    ("lines", "keeps", "is_plain"),
    [
        (b"", True, True),
        (b"Connection: keep-alive\r\n", True, True),
        (b"Connection: upgrade\r\n", True, True),
        (b"Connection: close\r\n", False, False),
        (b"Connection: x, Close\r\n", False, False),
        (b"Connection: Upgrade\r\nUpgrade: h2c\r\n", False, False),
        (b"Origin: https://a.example\r\n", True, False),
        (b"Content-Encoding: gzip\r\n", True, False),
        (b"Cookie: a\r\nCookie: b\r\n", True, False),
    ],
)
def test_what_is_odd_ends_the_connection_and_what_needs_the_application_goes_there(lines, keeps, is_plain):
    head = read_head(b"POST /v1/score HTTP/1.1\r\nHost: x\r\n%sContent-Length: 5\r\n\r\n" % lines)
    assert (head.keeps, head.plain is not None) == (keeps, is_plain)
    assert head.call is not None
    assert head.length == 5
