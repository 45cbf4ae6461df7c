"""A proxy before an object store that refuses, or goes away, after so many writes."""

import http.client
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

REFUSED = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>no</Message></Error>"


class CuttingProxy(http.server.ThreadingHTTPServer):
    """`writes_left` is how many PUTs still go through, None for all; then `how` says what becomes of the next ones.

    `cut` takes half of the body and closes the connection, `refuse` answers 403. `how = "away"` closes each connection,
    `cut-reads` sends half of a `model.onnx`, and `deny` answers 403 to everything. With `refused_posts` no upload of several parts is completed.
    """

    daemon_threads = True

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = urlsplit(target)
        self.writes_left: int | None = None
        self.how = "cut"
        self.refused_posts = False
        self.writes: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        """Connections that are cut are what this is for."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: CuttingProxy

    def _pass(self) -> None:
        proxy, length = self.server, int(self.headers.get("content-length", 0))
        if proxy.how == "away":
            self._close()
            return
        if proxy.how == "deny":
            self._refuse(length)
            return
        if self.command == "POST" and proxy.refused_posts and "uploadId" in self.path:
            self._close()
            return
        if self.command == "PUT":
            if proxy.writes_left == 0:
                self._stop(length)
                return
            if proxy.writes_left is not None:
                proxy.writes_left -= 1
            proxy.writes.append(self.path)
        body = self.rfile.read(length)
        there = http.client.HTTPConnection(proxy.target.hostname, proxy.target.port, timeout=30)
        named = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
        there.request(self.command, self.path, body, named)
        answer = there.getresponse()
        data = answer.read()
        is_cut = proxy.how == "cut-reads" and self.command == "GET" and self.path.endswith("model.onnx")
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in ("transfer-encoding", "connection", "server", "date", "content-length"):
                self.send_header(name, value)
        self.send_header("content-length", answer.headers.get("content-length") or str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if is_cut else data)
        there.close()
        if is_cut:
            self._close()

    def __getattr__(self, name: str) -> object:
        """Every method of HTTP is passed on."""
        if name.startswith("do_"):
            return self._pass
        raise AttributeError(name)

    def _stop(self, length: int) -> None:
        if self.server.how == "cut":
            self.rfile.read(length // 2)
            self._close()
            return
        self._refuse(length)

    def _refuse(self, length: int) -> None:
        self.rfile.read(length)
        self.send_response(403)
        self.send_header("content-length", str(len(REFUSED)))
        self.end_headers()
        self.wfile.write(REFUSED)

    def _close(self) -> None:
        self.close_connection = True
        self.connection.close()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def cutting_proxy(target: str) -> Iterator[CuttingProxy]:
    """A proxy before this address, until the end."""
    proxy = CuttingProxy(target)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    yield proxy
    proxy.shutdown()
    proxy.server_close()
    thread.join()
