"""Decisions of a real server, computed again from what the log has of them: `python benchmarks/replays.py`.

Random transactions are decided over HTTP by 200 trees with 10 window features, then the server is stopped and `sentinel
replay` computes score and action of each from its stored features. Seconds are those of the whole command.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from report import publish
from sentinel.bench.load_generator import Target, closed_loop
from sentinel.bench.serving_workloads import prepare
from sentinel.commands.server_process import ServerProcess, free_port

HOST = "127.0.0.1"


def main() -> None:
    """Decide, and replay."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=1_000_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = prepare(Path(folder), given.decisions, lambda *_: None)
        server = ServerProcess(work.score_home, HOST, free_port(HOST))
        server.start()
        try:
            load = closed_loop(Target(HOST, server.port, 64), work.score_requests, given.decisions)
        finally:
            server.stop()
        sent = load.figures()
        assert not sent["errors"], sent
        began_s = time.monotonic()
        command = [sys.executable, "-m", "sentinel", "replay", "--all", "--json", "--home", str(work.score_home)]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        took_s = time.monotonic() - began_s
    publish("replays", "decided over HTTP, then `sentinel replay --all`", found | {"seconds": round(took_s, 1)})


if __name__ == "__main__":
    main()
