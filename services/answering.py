"""How it is seen that a server answers: an open port, or a page over HTTP."""

import contextlib
import socket
import urllib.request

HOST = "127.0.0.1"
_NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def free_port() -> int:
    """A port that nothing listens on."""
    with contextlib.closing(socket.socket()) as one:
        one.bind((HOST, 0))
        return int(one.getsockname()[1])


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
