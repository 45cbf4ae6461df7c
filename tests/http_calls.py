"""Asks a server over HTTP as a caller does, and waits for what comes true by itself."""

import json
import time
import urllib.error
import urllib.request

HOST, PATIENCE_S = "127.0.0.1", 60


def call(server, path, body=None, **headers):
    """The status and the JSON of an answer; `_` in the names of headers is `-`."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    data = None if body is None else json.dumps(body).encode()
    if data is not None:
        named = {"content-type": "application/json"} | named
    request = urllib.request.Request(f"http://{HOST}:{server.port}{path}", data, named)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def until(what, patience_s=PATIENCE_S):
    """Wait until it is true."""
    end = time.monotonic() + patience_s
    while not what():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.05)
