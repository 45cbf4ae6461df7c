"""How long `sentinel demo` takes to be live after a `pip install` of the wheel, in an empty environment.

Live is the moment at which it says where server and console are: history simulated, model trained and certified, both
answering. The first run compiles the features and keeps that; the second is what everybody sees after it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from report import publish
from sentinel.commands.server_process import free_port

ROOT = Path(__file__).parents[1]
UV = Path(sys.executable).with_name("uv")
HOST = "127.0.0.1"


def run(*command: object, cwd: Path = ROOT) -> None:
    """Run a command to its end, without what the path of this process would lend it."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(list(map(str, command)), cwd=cwd, env=environment, check=True)


def installed(folder: Path, python: str) -> tuple[Path, float]:
    """The program of a fresh environment with the wheel, and how many seconds its installation took."""
    run(UV, "build", "--quiet", "--wheel", "--out-dir", folder / "wheel")
    wheel = next((folder / "wheel").glob("*.whl"))
    run(UV, "venv", "--quiet", "--python", python, folder / "venv")
    begun = time.monotonic()
    wanted = f"sentinel-fraud[train,console] @ {wheel.as_uri()}"
    run(UV, "pip", "install", "--quiet", "--compile-bytecode", "--python", folder / "venv", wanted)
    return folder / "venv" / "bin" / "sentinel", time.monotonic() - begun


def live_after_s(sentinel: Path, folder: Path) -> float:
    """Seconds from the command to the line that says where the console is; the demo is ended then."""
    command = [sentinel, "demo", "--home", folder / "home", "--port", free_port(HOST), "--seconds", 2]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    begun, live = time.monotonic(), None
    with subprocess.Popen(
        list(map(str, command)), cwd=folder, env=environment | {"PYTHONUNBUFFERED": "1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if live is None and line.startswith("console "):
                live = time.monotonic() - begun
    if live is None:
        raise RuntimeError(f"the demo ended with {process.returncode} before it was live")
    return live


def main() -> None:
    """Install, run it cold, run it warm."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--repeats", type=int, default=3, help="warm runs")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        sentinel, install_s = installed(Path(name), given.python)
        cold_s = live_after_s(sentinel, Path(name))
        warm = sorted(live_after_s(sentinel, Path(name)) for _ in range(given.repeats))
    figures = {
        "installed_s": round(install_s, 1),
        "live_cold_s": round(cold_s, 1),
        "live_warm_s": [round(one, 1) for one in warm],
        "load_average": round(os.getloadavg()[0], 1),
    }
    publish("installed demo", "from the command to the line that says where the console is", figures)


if __name__ == "__main__":
    main()
