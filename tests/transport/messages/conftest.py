"""Receivers of messages: real servers on this machine that take, refuse, stall, or speak very slowly."""

import contextlib
import json
import socket
import threading
import time

import pytest


class Receiver:
    """Answers each connection as it is told to (`how`), and keeps what it was sent."""

    def __init__(self, host="127.0.0.1", port=0):
        self.how, self.requests, self.faults = "ok", [], []
        self.connections = 0
        self._ending = threading.Event()
        self._listener = socket.create_server((host, port))
        self.host, self.port = self._listener.getsockname()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def url(self):
        return f"http://{self.host}:{self.port}/hook?key=secret"

    @property
    def messages(self):
        return [json.loads(body) for _, body in self.requests]

    def close(self):
        self._ending.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._threads:
            one.join(60)
        assert not self.faults, self.faults

    def _accept(self):
        while not self._ending.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._threads.append(threading.Thread(target=self._serve, args=(connection, self.how)))
            self._threads[-1].start()

    def _serve(self, connection, how):
        with connection:
            try:
                self._answer(connection, how)
            except (OSError, ValueError) as fault:
                if how in {"ok", "500", "410", "redirect"}:
                    self.faults.append(fault)

    def _answer(self, connection, how):
        if how == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            return
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(65_536)
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:])}
        while len(body) < int(headers["content-length"]):
            body += connection.recv(65_536)
        if how == "silent":
            self._ending.wait(60)
        elif how == "drip":
            for one in b"HTTP/1.1 200 OK\r\nx-slow: " + b"x" * 100_000:
                connection.sendall(bytes((one,)))
                if self._ending.wait(0.05):
                    return
        elif how == "endless":
            while not self._ending.is_set():
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
        elif how == "long":
            connection.sendall(b"HTTP/1.1 200 OK\r\nx-long: " + b"x" * 10_000_000)
        else:
            self.requests.append((headers | {"path": lines[0].split(" ")[1]}, body))
            status = {"ok": "204 No Content", "redirect": "302 Found\r\nlocation: http://127.0.0.1:1/"}.get(
                how, f"{how} x"
            )
            connection.sendall(f"HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n".encode())


@pytest.fixture
def receivers():
    """Makes receivers, and ends them: `receivers()`."""
    made = []

    def make(**where):
        made.append(Receiver(**where))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def until():
    """Waits until something holds."""

    def wait(holds, patience_s=60):
        end = time.monotonic() + patience_s
        while not (found := holds()):
            assert time.monotonic() < end, "it did not happen"
            time.sleep(0.02)
        return found

    return wait
