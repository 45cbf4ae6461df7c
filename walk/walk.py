"""The walk of somebody who is new: a file of their own, the commands of README's "Your own data", and nothing else.

A semicolon CSV in Latin-1 with US dates, decimal commas, Y and N, and ids with leading zeros is made; then what the
README says is done, word for word: inspect, train with the suggested detector, serve, and send what `/docs` shows. The
stopwatch stands beside each step, and the walk fails above ten minutes, or where something is not as the README says.
"""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from make_history import write_history

README = Path(__file__).parents[1] / "README.md"
MOST_SECONDS = 600.0
ROWS = 20_000
_STARTS_WITHIN_S = 60.0


class Walk:
    """One walk, in a folder of its own, with a stopwatch."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._folder = folder
        self._begun = time.monotonic()
        home = {"SENTINEL_HOME": str(folder / "home"), "SENTINEL_PORT": str(self.port)}
        self._environment = {**os.environ, **home, "COLUMNS": "110"}

    def run(self, command: list[str]) -> str:
        """Run a command to its end; what it says. Ends the walk where it fails."""
        begun = time.monotonic()
        done = subprocess.run(
            command, cwd=self._folder, env=self._environment, capture_output=True, text=True, check=False,
            timeout=MOST_SECONDS,
        )  # fmt: skip
        self.tell(" ".join(command[:6]), time.monotonic() - begun)
        if done.returncode:
            sys.exit(f"{shlex.join(command)} ends with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    @contextmanager
    def serving(self, command: list[str]) -> Iterator[str]:
        """A server that is ready, as its address; stopped at the end."""
        begun, url = time.monotonic(), f"http://127.0.0.1:{self.port}"
        with (self._folder / "server.log").open("wb") as log, subprocess.Popen(
            command, cwd=self._folder, env=self._environment, stdout=log, stderr=log
        ) as server:  # fmt: skip
            try:
                while not _is_ready(url):
                    if server.poll() is not None or time.monotonic() - begun > _STARTS_WITHIN_S:
                        sys.exit(f"the server is not ready:\n{(self._folder / 'server.log').read_text()[-2000:]}")
                    time.sleep(0.1)
                self.tell("serve", time.monotonic() - begun)
                yield url
            finally:
                server.send_signal(signal.SIGTERM)
                server.wait(30)

    def tell(self, what: str, took_s: float) -> None:
        """A line of the stopwatch. Ends the walk where it took too long."""
        passed = time.monotonic() - self._begun
        sys.stdout.write(f"{passed:7.1f} s  {took_s:6.1f} s  {what}\n")
        sys.stdout.flush()
        if passed > MOST_SECONDS:
            sys.exit(f"after {passed:.0f} s the walk is not at its end; {MOST_SECONDS:.0f} s are enough for it")


def commands_of(readme: str) -> list[list[str]]:
    """The commands of the first block under "Your own data", run as a module of this Python."""
    section = readme.split("\n## Your own data\n", 1)[1]
    block = section.split("```", 2)[1]
    lines = [line for line in block.splitlines() if line.startswith(".venv/bin/sentinel ")]
    return [[sys.executable, "-m", *shlex.split(line.removeprefix(".venv/bin/"))] for line in lines]


def output_of(readme: str) -> list[str]:
    """The lines that the README shows of `inspect`: its second block."""
    return readme.split("\n## Your own data\n", 1)[1].split("```", 4)[3].strip().splitlines()


def curl_of(url: str) -> list[str]:
    """The command with which `/docs` shows how a transaction is sent."""
    with urllib.request.urlopen(f"{url}/openapi.json", timeout=10) as answer:
        shown = json.load(answer)["paths"]["/v1/score"]["post"]["description"]
    found = re.search(r"```\n(curl .*)\n```", shown)
    if found is None:
        sys.exit("/docs shows no curl that sends a transaction")
    return shlex.split(found[1])


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health/ready", timeout=1):
            return True
    except OSError:
        return False


def main() -> None:
    """Walk."""
    with tempfile.TemporaryDirectory(prefix="sentinel-walk-") as folder:
        frauds = write_history(Path(folder) / "history.csv", ROWS)
        walk = Walk(Path(folder))
        walk.tell(f"history.csv: {ROWS:,} rows, {frauds:,} frauds", 0.0)
        *offline, serve = commands_of(README.read_text())
        said = [walk.run(command) for command in offline]
        if f"{frauds:,} of them fraud" not in said[0] or not (Path(folder) / "my_detector.py").exists():
            sys.exit(f"inspect has not found what is there:\n{said[0]}")
        told = {line.rstrip() for line in said[0].splitlines()}
        strange = [line for line in output_of(README.read_text()) if line not in told]
        if strange:
            sys.exit(f"inspect does not say what the README shows, but\n{said[0]}\nwhich lacks {strange}")
        with walk.serving(serve) as url:
            answer = json.loads(walk.run(["curl", "--silent", "--show-error", *curl_of(url)[1:]]))
            if answer.get("decision") not in ("approve", "review", "block") or answer.get("degraded"):
                sys.exit(f"what /docs shows is answered with {answer}")
            walk.tell(f"decided: {answer['decision']}, fraud probability {answer['fraud_probability']:.4f}", 0.0)


if __name__ == "__main__":
    main()
