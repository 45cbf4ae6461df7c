"""Has Numba compile what a server runs, for a level of processors: the product runs once, on simulated payments.

Usage: NUMBA_CPU_NAME=<level> NUMBA_CPU_FEATURES= warm.py FOLDER, with the `sentinel` of the image. FOLDER/<level> is
what start.py looks for.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

PORT = 18_765
PATIENCE_S = 600.0
TRANSACTIONS = 20_000
URL = f"http://127.0.0.1:{PORT}"


def warm(place: Path) -> int:
    """Fill a folder; how many functions are in it. Raises CalledProcessError, or TimeoutError."""
    place.mkdir(parents=True, exist_ok=True)
    told = {**os.environ, "NUMBA_CACHE_DIR": str(place), "SENTINEL_DEADLINE_MS": "5000",
            "SENTINEL_CIRCUIT_THRESHOLD_MS": "5000", "SENTINEL_REASONS": "true"}  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        home = Path(name) / "home"
        sentinel = [sys.executable, "-m", "sentinel"]
        run([*sentinel, "demo", "--home", str(home), "--seconds", "8", "--transactions", str(TRANSACTIONS),
             "--port", str(PORT)], told)  # fmt: skip
        for _ in range(2):  # the second start reads the snapshot that the first has written
            served([*sentinel, "serve", "--home", str(home), "--port", str(PORT)], told)
        run([*sentinel, "replay", "--all", "--home", str(home)], told)
    kept = sorted(place.rglob("*.nb[ci]"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in kept)).hexdigest()
    (place / "BUILD").write_text(digest[:16] + "\n")
    return sum(path.suffix == ".nbi" for path in kept)


def run(command: list[str], environment: dict[str, str]) -> None:
    """Run a command of Sentinel; what it says goes to standard error."""
    subprocess.run(command, env=environment, stdout=sys.stderr, check=True, timeout=PATIENCE_S)


def served(command: list[str], environment: dict[str, str]) -> None:
    """Start a server, ask it what an installation is asked, and end it."""
    server = subprocess.Popen(command, env=environment, stdout=sys.stderr)
    try:
        wait_until_ready(server)
        (newest,) = json.loads(ask("/v1/decisions?limit=1"))["decisions"]
        features = json.loads(ask(f"/v1/decisions/{newest['transaction_id']}"))["features"]
        for asked in (features, list(features.values())):
            ask("/predict", {"features": asked})
    finally:
        server.terminate()
        server.wait(PATIENCE_S)


def wait_until_ready(server: subprocess.Popen[bytes]) -> None:
    """Wait for /health/ready. Raises TimeoutError, or RuntimeError when the server has ended."""
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        if server.poll() is not None:
            raise RuntimeError(f"the server ended with {server.returncode}")
        try:
            ask("/health/ready")
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise TimeoutError(f"not ready within {PATIENCE_S:g} s")


def ask(path: str, body: object = None) -> bytes:
    """What the server answers to a GET, or to a POST of a body."""
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(URL + path, data, {"content-type": "application/json"})
    with urllib.request.urlopen(asked, timeout=60) as answer:
        found: bytes = answer.read()
    return found


def main() -> None:
    """Warm the level that Numba is told to compile for."""
    folder, level = Path(sys.argv[1]), os.environ["NUMBA_CPU_NAME"]
    shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.write(f"{warm(folder / level)} functions compiled for {level}\n")


if __name__ == "__main__":
    main()
