"""How it is seen that a server answers: an open port, or a page over HTTP."""

import contextlib
import secrets
import socket
import urllib.request

HOST = "127.0.0.1"
_NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


_PORTS = range(15_000, 32_000)
"""Below those that the system gives to clients: one that calls a server that is away may be given its port."""


def free_port() -> int:
    """A port that nothing listens on."""
    while True:
        port = secrets.choice(_PORTS)
        with contextlib.closing(socket.socket()) as one, contextlib.suppress(OSError):
            one.bind((HOST, port))
            return port


def port_opens(port: int) -> bool:
    """Whether something listens there."""
    try:
        with socket.create_connection((HOST, port), 0.5):
            return True
    except OSError:
        return False


def page_opens(url: str) -> bool:
    """Whether a GET is answered with 200."""
    try:
        with _NO_PROXY.open(url, timeout=2.0) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def says(port: int, send: bytes, expect: bytes) -> bool:
    """Whether what is sent to a port is answered by bytes that begin so."""
    try:
        with socket.create_connection((HOST, port), 0.5) as connection:
            connection.settimeout(1.0)
            connection.sendall(send)
            return connection.recv(len(expect)) == expect
    except OSError:
        return False
