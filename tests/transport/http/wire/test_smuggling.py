"""Smuggling: no body is ever read as a request, straight and behind proxies that keep their connections.

Every attack is one request, or something that is none, with another request hidden in it.
"""

import contextlib
import itertools
import json
import os
import random
import socket
import subprocess
import time
from pathlib import Path

import pytest

from sentinel.commands.server_process import free_port

HOST = "127.0.0.1"
TRIED = int(os.environ.get("SENTINEL_SMUGGLED", "1000"))
HIDDEN = b"GET /v1/decisions/hidden HTTP/1.1\r\nHost: localhost\r\n\r\n"
LIVE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
HEADED = b"Host: localhost\r\nContent-Type: application/json\r\n"
PLAIN = b'POST /predict HTTP/1.1\r\n%sContent-Length: 15\r\n\r\n{"features":[]}' % HEADED
PATHS = (b"/v1/score", b"/predict", b"/admin/reload", b"/nowhere")
LONG = b"Content-Length: %d\r\n" % len(HIDDEN)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
IN_A_CHUNK = b"%x\r\n%s\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)
LAST = b"0\r\n\r\n"
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n"

HEADERS = {  # of a POST, and all that follows them
    "h2c": (H2C + LONG, HIDDEN),
    "websocket": (b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" + LONG, HIDDEN),
    "upgrade without connection": (b"Upgrade: h2c\r\n" + LONG, HIDDEN),
    "connection without upgrade": (b"Connection: upgrade\r\n" + LONG, HIDDEN),
    "upgrade in chunks": (H2C + CHUNKED, IN_A_CHUNK),
    "upgrade and an empty body": (H2C + b"Content-Length: 0\r\n", b""),
    "plain": (LONG, HIDDEN),
    "chunks": (CHUNKED, IN_A_CHUNK),
    "chunks in capitals": (b"TRANSFER-ENCODING: CHUNKED\r\n", IN_A_CHUNK),
    "expected": (b"Expect: 100-continue\r\n" + LONG, HIDDEN),
    "close": (b"Connection: close\r\n" + LONG, HIDDEN),
    "a hop-by-hop length": (b"Connection: Content-Length\r\n" + LONG, HIDDEN),
    "length and chunks": (LONG + CHUNKED, IN_A_CHUNK),
    "chunks and length": (CHUNKED + b"Content-Length: 5\r\n", LAST + HIDDEN),
    "length that covers the chunks' end": (b"Content-Length: %d\r\n" % len(LAST + HIDDEN) + CHUNKED, LAST + HIDDEN),
    "two lengths": (b"Content-Length: 0\r\n" + LONG, HIDDEN),
    "the same length twice": (LONG + LONG, HIDDEN),
    "a list of lengths": (b"Content-Length: %d, %d\r\n" % (len(HIDDEN), len(HIDDEN)), HIDDEN),
    "two codings": (CHUNKED + b"Transfer-Encoding: identity\r\n", LAST + HIDDEN),
    "a coding twice": (CHUNKED + CHUNKED, IN_A_CHUNK),
    "a fold": (LONG + b"X: a\r\n b: c\r\n", HIDDEN),
    "a folded coding": (b"Transfer-Encoding:\r\n chunked\r\n" + LONG, HIDDEN),
    "a fold first": (b" X: a\r\n" + LONG, HIDDEN),
    "a length under another name": (b"Content_Length: 0\r\n" + LONG, HIDDEN),
    "a line feed alone": (b"X: a\nContent-Length: 0\r\n" + LONG, HIDDEN),
    "a head that ends with line feeds": (b"X: a\n\n" + HIDDEN, b""),
    "a return alone": (b"X: a\rContent-Length: 0\r\n" + LONG, HIDDEN),
    "NUL in a value": (b"X: \x00\r\n" + LONG, HIDDEN),
    "NUL in a name": (b"X\x00: a\r\n" + LONG, HIDDEN),
    "NUL in the length": (b"Content-Length: 0\x00\r\n" + LONG, HIDDEN),
    "no colon": (b"Content-Length\r\n" + LONG, HIDDEN),
    "no name": (b": a\r\n" + LONG, HIDDEN),
    "two hosts": (b"Host: y\r\n" + LONG, HIDDEN),
}
for odd in (
    b"+%d",
    b"0%d",
    b"-%d",
    b"0x%x",
    b"%d.0",
    b"%de0",
    b"%d;",
    b"%d a",
    b'"%d"',
    b"%d\x0b",
    b"\x0c%d",
    b"%d_0",
    b"18446744073709551616%d",
):
    HEADERS[f"length {odd!r}"] = (b"Content-Length: " + odd % len(HIDDEN) + b"\r\n", HIDDEN)
for odd in (b"", b"xchunked", b"chunked, chunked", b"identity, chunked", b"chunked, identity", b"gzip, chunked", b"chunked;q=1",
            b"\x0bchunked", b"chunked\x00", b'"chunked"', b"chunked,", b", chunked", b"cow", b"identity"):  # fmt: skip
    HEADERS[f"coding {odd!r}"] = (b"Transfer-Encoding: " + odd + b"\r\n", LAST + HIDDEN)
    HEADERS[f"coding {odd!r} and a length"] = (b"Transfer-Encoding: " + odd + b"\r\n" + LONG, HIDDEN)
for odd in (b"Transfer-Encoding : chunked", b"Transfer-Encoding\t: chunked", b"\tTransfer-Encoding: chunked", b"Transfer Encoding: chunked",
            b"Content-Length : 0", b"Content-Length\x0b: 0", b"Content-Length\xa0: 0", b"(Content-Length): 0"):  # fmt: skip
    HEADERS[f"name {odd!r}"] = (odd + b"\r\n" + LONG, HIDDEN)
for odd in (b"1;a=b\r\n{\r\n0\r\n\r\n", b"1 \r\n{\r\n0\r\n\r\n", b" 1\r\n{\r\n0\r\n\r\n", b"+1\r\n{\r\n0\r\n\r\n", b"0x1\r\n{\r\n0\r\n\r\n", b"1\n{\n0\n\n",
            b"-1\r\n{\r\n0\r\n\r\n", b"\r\n1\r\n{\r\n0\r\n\r\n", b"00000000000000001\r\n{\r\n0\r\n\r\n", b"1\r\n{0\r\n\r\n", b"1\r\n{\n0\r\n\r\n", b"1\r\n{}\r\n0\r\n\r\n",
            b"1\r\n{\r\n0\r\nX: y\r\n\r\n", b"1\r\n{\r\n0\r\nContent-Length: 5\r\n\r\n", b"1;\n{\r\n0\r\n\r\n", b"1\r\n{\r\n0;a\r\n\r\n", b"FFFFFFFFFFFFFFFF1\r\n{\r\n0\r\n\r\n",
            b"1\r\r\n{\r\n0\r\n\r\n", b"\x001\r\n{\r\n0\r\n\r\n", b"1_0\r\n{\r\n0\r\n\r\n", b"1\r\n{\r\n0\r\n\n", b"1\r\n{\r\n-0\r\n\r\n"):  # fmt: skip
    HEADERS[f"chunk {odd!r}"] = (CHUNKED, odd + HIDDEN)

LINES = {  # first lines, of which HEADERS' "plain" follows
    "a whole address": b"POST http://localhost%s HTTP/1.1\r\n",
    "another's address": b"POST http://y%s HTTP/1.1\r\n",
    "two spaces": b"POST  %s HTTP/1.1\r\n",
    "a tab": b"POST\t%s\tHTTP/1.1\r\n",
    "a space at the end": b"POST %s HTTP/1.1 \r\n",
    "words in it": b"POST %s x HTTP/1.1\r\n",
    "small letters": b"POST %s http/1.1\r\n",
    "HTTP/0.9": b"POST %s\r\n",
    "HTTP/1.0": b"POST %s HTTP/1.0\r\n",
    "HTTP/1.0 kept": b"POST %s HTTP/1.0\r\nConnection: keep-alive\r\n",
    "HTTP/1.2": b"POST %s HTTP/1.2\r\n",
    "HTTP/2.0": b"POST %s HTTP/2.0\r\n",
    "HTTP/1.1.1": b"POST %s HTTP/1.1.1\r\n",
    "a line feed": b"POST %s HTTP/1.1\n",
    "lines before": b"\r\n\r\nPOST %s HTTP/1.1\r\n",
    "a line feed before": b"\nPOST %s HTTP/1.1\r\n",
    "a space before": b" POST %s HTTP/1.1\r\n",
    "GET with a body": b"GET %s HTTP/1.1\r\n",
    "HEAD with a body": b"HEAD %s HTTP/1.1\r\n",
    "DELETE with a body": b"DELETE %s HTTP/1.1\r\n",
    "OPTIONS with a body": b"OPTIONS %s HTTP/1.1\r\n",
    "TRACE with a body": b"TRACE %s HTTP/1.1\r\n",
    "CONNECT": b"CONNECT %s HTTP/1.1\r\n",
    "a fragment": b"POST %s#a HTTP/1.1\r\n",
    "NUL": b"POST %s\x00 HTTP/1.1\r\n",
    "a return": b"POST %s\rGET /health HTTP/1.1\r\n",
    "high bytes": b"POST %s\xff HTTP/1.1\r\n",
    "an escaped end of line": b"POST %s%%0d%%0aX:y HTTP/1.1\r\n",
}


def attacks():
    """Name, the request in two parts, and what the connection is used for before: different ones, as many as wanted."""
    plain = HEADERS["plain"]
    made = [(f"{name} {path.decode()}", line % path + HEADED, plain)
            for (name, line), path in itertools.product(LINES.items(), PATHS)]  # fmt: skip
    made += [(f"{name} {path.decode()}", b"POST %s HTTP/1.1\r\n" % path + HEADED, rest)
             for (name, rest), path in itertools.product(HEADERS.items(), PATHS)]  # fmt: skip
    every = [(name, first + headers + b"\r\n", body, before)
             for (name, first, (headers, body)), before in itertools.product(made, (b"", PLAIN, LIVE))]  # fmt: skip
    random.Random(15).shuffle(every)
    assert len(every) >= 1000
    return every[:TRIED]


@pytest.fixture(scope="module")
def server(start_server, shop_home):
    return start_server(shop_home, {"SENTINEL_LOG_LEVEL": "ERROR"})


def finals(data):
    """The statuses of the responses in these bytes, interim ones left out."""
    found = [int(part[:3]) for part in data.split(b"HTTP/1.1 ")[1:]]
    return [status for status in found if status != 100]


def test_a_thousand_odd_requests_have_one_answer_each(server, wire):
    """And what comes after them on the connection has its own, where the connection goes on."""
    wrong = []
    for n, (name, head, body, before) in enumerate(attacks()):
        with wire(server.port) as connection:
            if before:
                connection.send(before)
                connection.answer()
            with contextlib.suppress(ConnectionError):  # it may be refused before its body is sent
                if n % 2:
                    connection.send(head)
                    time.sleep(0.001)
                    connection.send(body)
                else:
                    connection.send(head + body)
                connection.send(
                    b"GET /v1/decisions/mine-%d HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % n
                )
            got = everything(connection)
            if (
                b"hidden" in got
                or len(finals(got)) > 2
                or (len(finals(got)) == 2 and b"mine-%d" % n not in got)
                or not finals(got)
            ):
                wrong.append((name, got[:300]))
    assert wrong == []


def everything(connection):
    got = connection._rest
    with contextlib.suppress(ConnectionResetError):
        while data := connection._socket.recv(65_536):
            got += data
    return got


def test_java_s_own_client_is_answered(server, program, tmp_path):
    """It asks for h2c with its first request, body and all."""
    java = program("java", "default-jdk-headless")
    (tmp_path / "Ask.java").write_text(JAVA)
    done = subprocess.run(
        [java, "-Xshare:auto", "-XX:TieredStopAtLevel=1", str(tmp_path / "Ask.java"), f"http://{HOST}:{server.port}/predict", '{"features":[1,2]}'],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    for line in lines:
        status, _, body = line.partition(" ")
        assert (status, json.loads(body)["status"]) == ("400", 400)
        assert "12" in json.loads(body)["error"]


JAVA = """
import java.net.URI;
import java.net.http.*;

public class Ask {
    public static void main(String[] given) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        for (int i = 0; i < 3; i++) {
            HttpRequest request = HttpRequest.newBuilder(URI.create(given[0])).header("Content-Type", "application/json")
                .timeout(java.time.Duration.ofSeconds(10)).POST(HttpRequest.BodyPublishers.ofString(given[1])).build();
            HttpResponse<String> answer = client.send(request, HttpResponse.BodyHandlers.ofString());
            System.out.println(answer.statusCode() + " " + answer.body());
        }
    }
}
"""

NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; keepalive_requests 100000;
  upstream sentinel {{ server 127.0.0.1:{upstream}; keepalive 1; keepalive_requests 100000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://sentinel; proxy_http_version 1.1; proxy_request_buffering off;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";
      proxy_set_header Host $http_host;
    }}
  }}
}}
"""

HAPROXY = """
global
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 5s
  timeout server 5s
  option http-keep-alive
frontend door
  bind 127.0.0.1:{port}
  default_backend sentinel
backend sentinel
  http-reuse always
  server one 127.0.0.1:{upstream} pool-max-conn 1
"""


@pytest.fixture(scope="module", params=["nginx", "haproxy"])
def proxy(request, server, program, tmp_path_factory):
    """The port of a real proxy that keeps its connections to the server."""
    path = program(request.param, request.param)
    folder, port = tmp_path_factory.mktemp(request.param), free_port(HOST)
    text = NGINX if request.param == "nginx" else HAPROXY
    configuration = Path(folder) / "proxy.conf"
    configuration.write_text(text.format(folder=folder, port=port, upstream=server.port))
    arguments = (
        ["-c", str(configuration), "-p", str(folder)] if request.param == "nginx" else ["-db", "-f", str(configuration)]
    )
    process = subprocess.Popen([path, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while True:
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
            break
        assert process.poll() is None, f"{request.param} did not start"
        assert time.monotonic() < until
        time.sleep(0.05)
    yield port
    process.terminate()
    process.wait()


def test_behind_a_proxy_nobody_gets_the_answer_to_another_s_request(proxy, wire):
    """The proxy has one connection to the server, which attacker and victim use in turn."""
    victim, wrong, answered = wire(proxy), [], 0
    for n, (name, head, body, _) in enumerate(attacks()):
        with wire(proxy) as attacker, contextlib.suppress(ConnectionError, TimeoutError):
            attacker._socket.settimeout(0.2)
            attacker.send(head + body)
            answered += bool(attacker._socket.recv(65_536))
        victim.send(b"GET /v1/decisions/mine-%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % n)
        answer = victim.answer()
        if answer.status != 404 or b"mine-%d" % n not in answer.body:
            wrong.append((name, answer))
        if answer.headers.get("connection") == "close" or answer.headers.get("Connection") == "close":
            victim.__exit__()
            victim = wire(proxy)
    victim.__exit__()
    assert wrong == []
    assert answered > TRIED // 2
