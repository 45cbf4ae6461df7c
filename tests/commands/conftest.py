"""A client of the servers that commands are tried on."""

import json
import urllib.request

import pytest


@pytest.fixture(scope="session")
def post():
    """Sends a body as JSON to a server of this machine; its answer."""

    def posting(port, path, body, **headers):
        named = {"content-type": "application/json", **headers}
        asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), named)
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return json.load(answer)

    return posting
