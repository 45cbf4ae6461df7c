"""The seal of a front: who has the key can tell that a front has handed over a message, to this topic, and as it is."""

import hmac
from collections.abc import Sequence

from sentinel.errors import BadBody

_BEGIN, _END = b',"seal":"', b'"}'
_DIGITS = 64  # of HMAC-SHA256 in hexadecimal
_LENGTH = len(_BEGIN) + _DIGITS + len(_END)


class Seal:
    """Seals what fronts hand over to one topic with the first of some keys, and takes what any of them has sealed.

    The seal is the last field of the message: the HMAC-SHA256 of the topic's name, a zero byte, and all of the message
    before that field. What is sealed for one topic, and so one detector and tenant, is nothing in another one.
    """

    def __init__(self, keys: Sequence[str], topic: str) -> None:
        self._keys, self._topic = [one.encode() for one in keys], topic.encode() + b"\0"

    def sealed(self, message: bytes) -> bytes:
        """A JSON object with the seal as its last field.

        >>> Seal(["k" * 32], "transactions").sealed(b'{"given":{}}')[:31]
        b'{"given":{},"seal":"c2befd1c6e2'
        """
        begin = message[:-1]
        return b"".join((begin, _BEGIN, self._of(self._keys[0], begin), _END))

    def opened(self, message: bytes) -> bytes:
        """The JSON object that was sealed. Raises BadBody for what nobody has sealed with one of the keys."""
        begin, rest = message[:-_LENGTH], message[-_LENGTH:]
        if not begin or not rest.startswith(_BEGIN) or not rest.endswith(_END):
            raise BadBody(
                "It claims to be the answer of a front and bears no seal: whoever may write this topic could say what "
                "was decided. Give every front the key that is given here, SENTINEL_FRONTS_KEY_FILE"
            )
        seal = rest[len(_BEGIN) : -len(_END)]
        if not any(hmac.compare_digest(self._of(key, begin), seal) for key in self._keys):
            raise BadBody(
                "It claims to be the answer of a front and has the seal of another key, topic or message. A front of "
                "yours has another SENTINEL_FRONTS_KEY_FILE than this process, or somebody makes up answers"
            )
        return begin + b"}"

    def _of(self, key: bytes, begin: bytes) -> bytes:
        return hmac.digest(key, self._topic + begin, "sha256").hex().encode()
