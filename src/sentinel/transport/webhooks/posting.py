"""Posting a webhook: one request on one connection to one address, bounded in time and in what is read."""

import contextlib
import http.client
import socket
import ssl
import struct
import threading
from collections.abc import Iterator, Mapping

from sentinel.transport.webhooks.addresses import Target

_LONGEST_CONNECT_S = 5.0


class PostFailed(Exception):
    """The receiver did not take it; `is_gone` when it says that it never will (410)."""

    def __init__(self, why: str, *, is_gone: bool = False) -> None:
        super().__init__(why)
        self.is_gone = is_gone


class _Straight(http.client.HTTPConnection):
    """A connection to an IP address that was looked up before; a name is for TLS and the Host header alone."""

    def __init__(self, target: Target, address: str, tls: ssl.SSLContext | None) -> None:
        super().__init__(target.host, target.port, timeout=_LONGEST_CONNECT_S)
        self._address, self._tls = address, tls
        self.is_over = False

    def connect(self) -> None:
        """Connect to the address, with TLS for the name."""
        self.sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._tls is not None:
            secured = self._tls.wrap_socket(self.sock, server_hostname=self.host, do_handshake_on_connect=False)
            self.sock = secured
            secured.do_handshake()
        if self.is_over:
            raise TimeoutError

    def cut(self) -> None:
        """End it from another thread, whatever it waits for."""
        self.is_over = True
        if self.sock is not None:
            with contextlib.suppress(OSError):
                # Closed, it is reset: one that sends without an end would else be heard out by the kernel for a minute.
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.sock.shutdown(socket.SHUT_RDWR)


def post(
    target: Target, address: str, body: bytes, headers: Mapping[str, str], within_s: float,
    tls: ssl.SSLContext | None = None,
) -> int:  # fmt: skip
    """The status of a receiver that has taken it, 200 to 299. Raises PostFailed.

    The whole takes `within_s` at most, however slowly the receiver speaks. Redirects are not followed, and of the
    answer nothing but the status is used.
    """
    context = None
    if target.scheme == "https":
        context = tls or ssl.create_default_context()
    connection = _Straight(target, address, context)
    try:
        with _bounded(connection, within_s):
            connection.request("POST", target.path, body, dict(headers))
            status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        if connection.is_over:
            raise PostFailed(f"no whole answer within {within_s:g} s") from None
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise PostFailed(f"the connection failed: {said}") from None
    finally:
        connection.close()
    if connection.is_over:
        raise PostFailed(f"no whole answer within {within_s:g} s")
    if not 200 <= status < 300:
        raise PostFailed(f"it answered {status}", is_gone=status == http.HTTPStatus.GONE)
    return status


@contextlib.contextmanager
def _bounded(connection: _Straight, within_s: float) -> Iterator[None]:
    """Cut the connection when the time is over: a timeout of the socket begins anew with every byte."""
    timer = threading.Timer(within_s, connection.cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
