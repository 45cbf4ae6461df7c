"""A proxy before a port of this machine whose connections are cut, held up, or slow, when a test says so."""

import contextlib
import socket
import threading
import time


class TcpProxy:
    """`delay_s` holds up every piece on its way, and `passes` all of them while it is not set.

    `cut` ends all connections, and none is taken while `is_away`.
    """

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self.delay_s = 0.0
        self.is_away = False
        self.passes = threading.Event()
        self.passes.set()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._begin(self._accept)

    def cut(self) -> None:
        """End what is under way."""
        for one in list(self._open):
            self._end(one)

    def close(self) -> None:
        """Take no more, and end."""
        self.is_away = True
        self.passes.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for one in self._threads:
            one.join()

    def _begin(self, call, *given) -> None:
        self._threads.append(threading.Thread(target=call, args=given, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.is_away:
                client.close()
                continue
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            self._open |= {client, server}
            self._begin(self._pass, client, server)
            self._begin(self._pass, server, client)

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self.passes.wait()
                if self.delay_s:
                    time.sleep(self.delay_s)
                target.sendall(data)
        for one in (source, target):
            self._end(one)

    def _end(self, one: socket.socket) -> None:
        self._open.discard(one)
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
