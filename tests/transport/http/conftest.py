"""Servers to talk to, and a connection on which every byte of an answer can be looked at."""

import contextlib
import json
import re
import shutil
import socket
import ssl
import struct
import urllib.request
from typing import NamedTuple

import pytest
import trustme

from sentinel.commands.server_process import ServerProcess, free_port

HOST = "127.0.0.1"
_MEASURED = re.compile(rb'"latency_us":\d+|"batch_size":\d+')


@pytest.fixture(scope="module")
def start_server(tmp_path_factory):
    """Starts servers over a copy of a home folder; all of them end with the module, and none may have broken down."""
    started = []

    def start(home, environment=None, kind=ServerProcess):
        copy = tmp_path_factory.mktemp("served") / "home"
        shutil.copytree(home, copy)
        server = kind(copy, HOST, free_port(HOST), environment=environment)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.stop()
        assert "Traceback" not in (server.home / "server.log").read_text()


@pytest.fixture(scope="session")
def authority():
    return trustme.CA()


@pytest.fixture(scope="session")
def trusting(authority):
    """What a client trusts who knows our authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(scope="module")
def start_secure(start_server, authority, trusting, tmp_path_factory):
    """Starts servers that speak TLS."""
    folder = tmp_path_factory.mktemp("certificate")
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    with (folder / "certificate.pem").open("wb") as file:
        for pem in certificate.cert_chain_pems:
            file.write(pem.bytes())
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    files = {"TLS_CERTIFICATE": "certificate.pem", "TLS_KEY": "key.pem"}
    ours = {f"SENTINEL_{name}": str(folder / file) for name, file in files.items()}

    class Secure(ServerProcess):
        certificates = folder

        def _is_ready(self):
            with contextlib.suppress(OSError):
                address = f"https://{self.host}:{self.port}/health/ready"
                with urllib.request.urlopen(address, timeout=1, context=trusting) as reply:
                    return reply.status == 200

    return lambda home, environment: start_server(home, {**ours, **environment}, Secure)


class Answer(NamedTuple):
    """One response: its head as it came, and its body."""

    head: bytes
    body: bytes

    @property
    def status(self):
        return int(self.head.split(b" ", 2)[1])

    @property
    def headers(self):
        pairs = [line.split(b": ", 1) for line in self.head.split(b"\r\n")[1:-2]]
        return {name.decode(): value.decode("latin-1") for name, value in pairs}

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def comparable(self):
        """All of it but what is measured; the length is checked instead, as it counts the digits of that."""
        body = _MEASURED.sub(b"", self.body)
        return re.sub(rb"content-length: \d+", b"content-length", self.head), body


class Wire:
    """A connection."""

    def __init__(self, port, tls=None):
        self._socket = socket.create_connection((HOST, port), timeout=10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self._socket = tls.wrap_socket(self._socket, server_hostname="localhost")
        self._rest = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def send(self, data):
        self._socket.sendall(data)

    def reset(self):
        """Close it as a process that was killed does."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def answer(self, *, bodyless=False):
        """The next response, whole."""
        while b"\r\n\r\n" not in self._rest:
            self._read()
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        head += b"\r\n\r\n"
        length = re.search(rb"\r\ncontent-length: (\d+)\r\n", head, re.IGNORECASE)
        wanted = int(length[1]) if length and not bodyless else 0
        while len(self._rest) < wanted:
            self._read()
        body, self._rest = self._rest[:wanted], self._rest[wanted:]
        return Answer(head, body)

    def _read(self):
        data = self._socket.recv(65_536)
        assert data, f"closed after {self._rest!r}"
        self._rest += data

    def is_closed(self, within_s):
        """Whether the server closes it within so many seconds, saying nothing more."""
        self._socket.settimeout(within_s)
        with contextlib.suppress(TimeoutError):
            try:
                return self._socket.recv(1) == b"" and not self._rest
            except ConnectionResetError:
                return True
        return False


@pytest.fixture(scope="session")
def wire():
    """Opens a connection."""
    return Wire


@pytest.fixture(scope="session")
def ask(wire):
    """Sends one request on a connection of its own; its answer. A body is JSON
    unless a header says otherwise; a header that is None is left out."""

    def asking(port, method, path, body=b"", **headers):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        named = {"content-type": "application/json"} if body else {}
        named |= {"host": f"localhost:{port}"} | {name.replace("_", "-"): one for name, one in headers.items()}
        lines = "".join(f"{name}: {value}\r\n" for name, value in named.items() if value is not None)
        length = f"content-length: {len(body)}\r\n" if body or method == "POST" else ""
        with wire(port) as connection:
            connection.send(f"{method} {path} HTTP/1.1\r\n{lines}{length}\r\n".encode("latin-1") + body)
            return connection.answer(bodyless=method == "HEAD")

    return asking
