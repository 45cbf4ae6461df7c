"""A server of a few lines, in the place of those from wheels."""

import sys

from services.answering import HOST, page_opens
from services.service import Service, Started

SERVER = """
import http.server, os, sys
sys.stderr.write("about to listen\\n")
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def page_server(name: str, program: str = SERVER, **more) -> Service:
    """A service without packages that serves its folder."""

    def start(place):
        with place.folder.joinpath("starts").open("a") as file:
            file.write("x")
        return Started(
            command=(sys.executable, "-c", program, str(place.port)),
            ready=lambda: page_opens(f"http://{HOST}:{place.port}/"),
            url=f"http://{HOST}:{place.port}",
            has_password=True,
            client_environment={"SECRET": place.password(), "NEEDED": ",".join(place.needed)},
        )

    return Service(name=name, about=name, packages=(), start=start, **more)
