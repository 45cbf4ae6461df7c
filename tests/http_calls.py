"""Asks a server over HTTP as a caller does, and waits for what comes true by itself."""

import json
import time
import urllib.error
import urllib.request
from http.client import HTTPException

HOST, PATIENCE_S = "127.0.0.1", 60


def call(server, path, body=None, patience_s=PATIENCE_S, **headers):
    """The status and the JSON of an answer; `_` in the names of headers is `-`.

    Where the server dies meanwhile, an `OSError`, also in the middle of its answer.
    """
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    data = None if body is None else json.dumps(body).encode()
    if data is not None:
        named = {"content-type": "application/json"} | named
    request = urllib.request.Request(f"http://{HOST}:{server.port}{path}", data, named)
    try:
        with urllib.request.urlopen(request, timeout=patience_s) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
    except HTTPException as cut:
        raise ConnectionError(f"the answer was cut off: {cut!r}") from cut


def until(what, patience_s=PATIENCE_S):
    """Wait until it is true."""
    end = time.monotonic() + patience_s
    while not what():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.05)
