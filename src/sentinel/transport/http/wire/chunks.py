"""Bodies that come in chunks, put together. Extensions and trailers are refused: nobody here has a use for them."""

import re

from sentinel.errors import Malformed, TooLarge

MOST_CHUNKS = 4_096
_LONGEST_SIZE = 8
_SIZE = re.compile(rb"[0-9a-fA-F]{1,8}")


class ChunkedBody:
    """One body, as far as it has come in."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._body = bytearray()
        self._chunks = 0

    @property
    def kept(self) -> int:
        """Bytes that are kept."""
        return len(self._body)

    def take(self, buffer: bytearray) -> bytes | None:
        """Take whole chunks from the beginning of the buffer; the body, once its last chunk was there.

        Raises Malformed, TooLarge.
        """
        begin = 0
        while (size_end := self._size_end(buffer, begin)) is not None:
            size = self._size(bytes(buffer[begin:size_end]))
            end = size_end + 2 + size
            if len(buffer) < end + 2:
                break
            if buffer[end : end + 2] != b"\r\n":
                raise Malformed("A chunk of the body is longer than its size, or trailers follow; send neither")
            self._body += buffer[size_end + 2 : end]
            self._chunks += 1
            begin = end + 2
            if size == 0:
                del buffer[:begin]
                return bytes(self._body)
        del buffer[:begin]
        return None

    def _size_end(self, buffer: bytearray, begin: int) -> int | None:
        end = buffer.find(b"\r\n", begin, begin + _LONGEST_SIZE + 2)
        if end >= 0:
            return end
        if len(buffer) - begin >= _LONGEST_SIZE + 2 or b"\n" in buffer[begin:]:
            raise Malformed("A chunk of the body does not begin with its size in hexadecimal digits and CRLF")
        return None

    def _size(self, digits: bytes) -> int:
        if not _SIZE.fullmatch(digits):
            raise Malformed("A chunk of the body does not begin with its size in hexadecimal digits and CRLF")
        size = int(digits, 16)
        if len(self._body) + size > self._most_bytes:
            raise TooLarge(f"The body has more than {self._most_bytes} bytes; send smaller batches")
        if self._chunks >= MOST_CHUNKS:
            raise TooLarge(f"The body has more than {MOST_CHUNKS} chunks; send larger ones")
        return size
