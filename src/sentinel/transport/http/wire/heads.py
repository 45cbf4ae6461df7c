"""Heads: what the first lines of a request say. All lanes go by this one reading, and what is doubtful is refused.

The grammar is RFC 9112 without what it tolerates: lines end with CRLF, a name is followed by its colon, nothing is
folded, a body has one length or comes in chunks. Two readers in a row, a proxy and this one, then agree on where a
request ends.
"""

import re
from functools import lru_cache
from urllib.parse import unquote

import msgspec

from sentinel.errors import LongHead, Malformed
from sentinel.transport.access.claims import Claims
from sentinel.transport.http.addresses import address_of
from sentinel.transport.http.calls import FAST, Call, Route, asked_of

LONGEST_HEAD, LONGEST_LINE, MOST_FIELDS = 32_768, 8_192, 128
"""Bytes of a whole head, bytes of one of its lines, and lines after the first."""

LONGEST_REMEMBERED, MOST_REMEMBERED = 1_024, 1_024
"""Heads that are remembered: their bytes, and how many. A client sends the same few again and again."""

BLANK = b"\r\n\r\n"
CHUNKED = -1
"""As the length of a body: it comes in chunks."""

_FIRST_LINE = re.compile(rb"([A-Z]{1,16}) ([!-~]+) HTTP/1\.([01])\r\n")
_FIELD = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t -~\x80-\xff]*"
_FIELDS = re.compile(rb"(?:%s\r\n)*\r\n" % _FIELD)
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,14}")
_WHOLE_ADDRESS = re.compile(rb"https?://([!-.0->@-~]+)(/.*)?")
_ONCE = (b"host", b"content-length", b"transfer-encoding", b"content-type", b"content-encoding", b"authorization",
         b"origin", b"sec-fetch-site", b"expect", b"upgrade", b"x-sentinel-tenant")  # fmt: skip
_WITHOUT_BODY = {b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"TRACE"}
_OF_THE_APPLICATION = {b"expect", b"content-encoding", b"origin"}
_NEVER_OF_CONNECTION = {b"content-length", b"transfer-encoding", b"host", b"authorization", b"origin"}
_ROUTES = {route.value.encode(): route for route in FAST}
_COMMON_LINES = {b"POST %s HTTP/1.1" % path: (b"POST", path, "1.1") for path in _ROUTES}


class Head(msgspec.Struct, frozen=True, gc=False):
    """A head that was understood. `fields` are its lines in their order, names in lower case.

    `length` counts the bytes of the body, or is CHUNKED. `call` is what a POST to a scoring route says, whoever
    answers it; `plain` is the same where the fast lane does. `expects` says that the client waits for 100 Continue
    before it sends the body, `keeps` that another request may follow on the connection.
    """

    method: bytes
    target: bytes
    version: str
    fields: tuple[tuple[bytes, bytes], ...]
    length: int
    call: Call | None
    plain: Call | None
    expects: bool
    keeps: bool

    @property
    def claims(self) -> Claims:
        """What it says of its caller."""
        if self.call is not None:
            return self.call.claims
        headers = {name.decode(): value.decode("latin-1") for name, value in self.fields}
        return asked_of(self.method.decode(), unquote(self.target.partition(b"?")[0].decode()), headers)[2]


def read_head(raw: bytes) -> Head:
    """The head in these bytes, which end with its empty line. Raises Malformed, LongHead."""
    return read_short_head(raw) if len(raw) <= LONGEST_REMEMBERED else _read(raw)


def check_first_line(begin: bytes) -> None:
    """Look at the beginning of a head that is not whole. Raises Malformed, LongHead when it cannot become one."""
    end = begin.find(b"\n") + 1
    if end:
        _first_line(begin[:end])
    elif len(begin) > LONGEST_LINE:
        raise LongHead(f"A line of the request's head has more than {LONGEST_LINE} bytes; send less")
    elif begin[:1] and not b"A" <= begin[:1] <= b"Z":
        raise Malformed("The request does not begin with a method, such as POST; speak HTTP/1.1 to this port")


def _read(raw: bytes) -> Head:
    lines = raw[:-4].split(b"\r\n")
    if len(raw) > LONGEST_LINE or len(lines) > MOST_FIELDS:
        _check_lengths(lines, len(raw))
    method, target, version = _COMMON_LINES.get(lines[0]) or _first_line(lines[0] + b"\r\n")
    if not _FIELDS.fullmatch(raw, len(lines[0]) + 2):
        raise _no_field(lines[1:])
    parts = [line.partition(b":") for line in lines[1:]]
    fields = tuple([(name.lower(), value.strip(b" \t")) for name, _, value in parts])
    given = dict(fields)
    is_simple = len(given) == len(fields)
    if not is_simple:
        _check_once([name for name, _ in fields])
    path = target if target[:1] == b"/" and b"#" not in target else _path_of(target, given.get(b"host"))
    length = _length_of(given, version)
    keeps = path is target and version == "1.1" and b"upgrade" not in given
    keeps = keeps and (length == 0 or method not in _WITHOUT_BODY)
    if b"connection" in given:
        keeps = b"close" not in _asked_of_connection(given, fields) and keeps
    call = plain = None
    if method == b"POST" and (asked := _asked(path)) is not None:
        headers = {name.decode(): value.decode("latin-1") for name, value in given.items()}
        call = Call.of(asked[1], headers, asked[0])
        if keeps and is_simple and _OF_THE_APPLICATION.isdisjoint(given):
            plain = call
    expects = b"expect" in given and given[b"expect"].lower() == b"100-continue" and version == "1.1" and length != 0
    return Head(method, path, version, fields, length, call, plain, expects, keeps)


read_short_head = lru_cache(maxsize=MOST_REMEMBERED)(_read)
"""`read_head` for heads of at most LONGEST_REMEMBERED bytes."""


def _asked(path: bytes) -> tuple[str, Route] | None:
    """The detector and the call of a scoring route's path."""
    known = _ROUTES.get(path)
    if known is not None:
        return "", known
    if path[:4] != b"/v1/" or not path.isascii():
        return None
    detector, inner = address_of(path.decode())
    known = _ROUTES.get(inner.encode()) if detector else None
    return None if known is None else (detector, known)


def _first_line(line: bytes) -> tuple[bytes, bytes, str]:
    found = _FIRST_LINE.fullmatch(line)
    if found is None or found[1] == b"CONNECT":
        hint = "send exactly that" if line.isascii() else "write what is not ASCII in a path as %C3%BC"
        raise Malformed(f"The request's first line is not `METHOD /path HTTP/1.1` and CRLF; {hint}")
    return found[1], found[2], "1.1" if found[3] == b"1" else "1.0"


def _check_lengths(lines: list[bytes], whole: int) -> None:
    if whole > LONGEST_LINE and max(map(len, lines)) > LONGEST_LINE:
        raise LongHead(f"A line of the request's head has more than {LONGEST_LINE} bytes; send less")
    if whole > LONGEST_HEAD:
        raise LongHead(f"The request's head has more than {LONGEST_HEAD} bytes; send less")
    if len(lines) - 1 > MOST_FIELDS:
        raise LongHead(f"The request has more than {MOST_FIELDS} header fields; send fewer")


def _no_field(lines: list[bytes]) -> Malformed:
    number = next(n for n, line in enumerate(lines) if not re.fullmatch(_FIELD, line)) + 2
    return Malformed(
        f"Line {number} of the request's head is no header field; send `Name: value` in one line, without control "
        "characters"
    )


def _check_once(names: list[bytes]) -> None:
    for name in _ONCE:
        if names.count(name) > 1:
            raise Malformed(f"The header {name.decode()} is there {names.count(name)} times; send it once")


def _path_of(target: bytes, host: bytes | None) -> bytes:
    """The path, with its query, of a target; it may be a whole address of the host that is asked."""
    path = target
    if target[:1] != b"/":
        whole = _WHOLE_ADDRESS.fullmatch(target)
        if whole is None or host is None or whole[1].lower() != host.lower():
            raise Malformed("The request's target is no path; send one that begins with /")
        path = whole[2] or b"/"
    if b"#" in path:
        raise Malformed("The request's target has a #; leave out what begins there")
    return path


def _length_of(given: dict[bytes, bytes], version: str) -> int:
    length, coding = given.get(b"content-length"), given.get(b"transfer-encoding")
    if coding is not None:
        if length is not None or version == "1.0" or coding.lower() != b"chunked":
            raise Malformed("Transfer-Encoding is understood as `chunked`, in HTTP/1.1, without a Content-Length")
        return CHUNKED
    if length is None:
        return 0
    if not _LENGTH.fullmatch(length):
        raise Malformed("Content-Length is no plain number; send the bytes of the body in decimal digits")
    return int(length)


def _asked_of_connection(given: dict[bytes, bytes], fields: tuple[tuple[bytes, bytes], ...]) -> set[bytes]:
    """What the client asks of the connection: close it, keep it."""
    values = [value for name, value in fields if name == b"connection"]
    asked = {one.strip(b" \t").lower() for value in values for one in value.split(b",")}
    lost = _NEVER_OF_CONNECTION & asked & given.keys()
    if lost:
        raise Malformed(f"Connection lists {min(lost).decode()}, which a proxy would then take out; leave it out there")
    return asked
