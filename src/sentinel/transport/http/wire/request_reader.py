"""Requests, one after the other, from the bytes of a connection. No byte of a body is ever read as a request."""

from sentinel.errors import TooLarge
from sentinel.transport.http.wire.chunks import ChunkedBody
from sentinel.transport.http.wire.heads import (
    BLANK,
    CHUNKED,
    LONGEST_HEAD,
    LONGEST_LINE,
    Head,
    check_first_line,
    read_head,
)


class RequestReader:
    """The bytes of one connection that belong to no whole request yet."""

    def __init__(self, most_bytes: int) -> None:
        """`most_bytes` of a body are read."""
        self._most_bytes = most_bytes
        self._buffer = bytearray()
        self._searched = 0  # bytes of the buffer in which no head ends
        self._may_be_blank = True  # the first line of the next request: old clients end a body with one
        self._chunks: ChunkedBody | None = None
        self.head: Head | None = None
        """Of a request whose body is not whole."""

    @property
    def is_clean(self) -> bool:
        """Whether nothing is here: the next byte begins a request."""
        return self.head is None and not self._buffer

    @property
    def kept(self) -> int:
        """Bytes that are kept."""
        return len(self._buffer) + (self._chunks.kept if self._chunks else 0)

    def feed(self, data: bytes) -> None:
        """Add what came in."""
        self._buffer += data

    def next(self) -> tuple[Head, bytes] | None:
        """Take the next whole request, its head and its body.

        Raises Malformed, LongHead, TooLarge; what comes after that is no request.
        """
        if self.head is None:
            self.head = self._next_head()
            if self.head is None:
                return None
            if self.head.length > self._most_bytes:
                raise TooLarge(f"The body has more than {self._most_bytes} bytes; send smaller batches")
            if self.head.length == CHUNKED:
                self._chunks = ChunkedBody(self._most_bytes)
        body = self._next_body(self.head)
        if body is None:
            return None
        head, self.head, self._chunks = self.head, None, None
        return head, body

    def _next_head(self) -> Head | None:
        buffer = self._buffer
        if self._may_be_blank and buffer.startswith(b"\r"):
            if len(buffer) == 1:
                return None
            if buffer[1:2] == b"\n":
                del buffer[:2]
                self._may_be_blank = False
        end = buffer.find(BLANK, max(self._searched - 3, 0)) + 4
        if end < 4:
            check_first_line(bytes(buffer[: LONGEST_LINE + 1]))
            if len(buffer) <= LONGEST_HEAD:
                self._searched = len(buffer)
                return None
            end = LONGEST_HEAD + 1  # more than is read: the same words as for one that came in whole
        raw = bytes(buffer[:end])
        del buffer[:end]
        self._searched, self._may_be_blank = 0, True
        return read_head(raw)

    def _next_body(self, head: Head) -> bytes | None:
        if self._chunks is not None:
            return self._chunks.take(self._buffer)
        if len(self._buffer) < head.length:
            return None
        body = bytes(self._buffer[: head.length])
        del self._buffer[: head.length]
        return body
