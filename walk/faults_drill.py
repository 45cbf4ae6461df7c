"""Four faults of a server under load, and what a real Prometheus says of each: which alert is pending, and which fires.

With the configuration and the rules of deploy/observability as they are, a server of its own with a model of simulated
payments, a Valkey of its own (`.venv/bin/python -m services install redis`), and a proxy through which callers and
Prometheus reach the server. Each fault lasts `--hold` seconds. Prints a table; what is in it is what an operator sees.
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from paced_load import PacedLoad
from sentinel.commands.server_process import ServerProcess, free_port
from services.catalog import CATALOG
from services.keeper import Keeper
from trained_home import trained_home

prometheus, own_services, tcp_proxy = (
    import_module(f"tests.{one}") for one in ("deploy.own_prometheus", "own_services", "record.tcp_proxy")
)

_HOST, _DELAY_S, _LOOK_S = "127.0.0.1", 1.0, 2.0
_BUSY = "while True: pass"
FAULTS = ("killed", "delayed", "without_redis", "busy")


class Drill:
    """A server, what is around it, and the load on it."""

    def __init__(self, folder: Path, program: str, per_second: int) -> None:
        self.redis = own_services.OwnRedis(folder, Keeper(CATALOG).folder)
        self.redis.start()
        self.server = ServerProcess(
            trained_home(folder), _HOST, free_port(_HOST), environment={"SENTINEL_REDIS_URL": self.redis.url}
        )
        self.server.start()
        self.proxy = tcp_proxy.TcpProxy(self.server.port)
        self.prometheus = prometheus.OwnPrometheus(program, folder / "prometheus", self.proxy.port, every_s=15)
        self.prometheus.start()
        self._per_second = per_second

    def stop(self) -> None:
        """End all of it."""
        self.prometheus.stop()
        self.proxy.close()
        self.server.stop()
        self.redis.stop()

    def observed(self, fault: Callable[[], contextlib.AbstractContextManager[None]], hold_s: float) -> dict[str, Any]:
        """Have a fault for so long; when which alert changed, in seconds since it began, and what callers met."""
        load = PacedLoad(lambda: self.proxy.port, self._per_second, fault.__name__)
        load.start()
        time.sleep(2 * _LOOK_S)
        before, seen, said = self.prometheus.alerts(), [], ""
        answered, begun = len(load.answers), time.monotonic()
        with fault():
            known = dict(before)
            while (since := time.monotonic() - begun) < hold_s:
                time.sleep(_LOOK_S)
                now = self.prometheus.alerts()
                changed = {name: state for name, state in now.items() if known.get(name) != state}
                seen += [f"{name} {state} after {since:.0f} s" for name, state in changed.items()]
                known = now
            said = self._said()
            answered = len(load.answers) - answered
        load.end()
        return {
            "alerts": seen,
            "before": sorted(before),
            "answered a second": round(answered / hold_s),
            "longest gap s": round(load.longest_gap_s, 1),
            "sent again": load.retries,
            "online view": said,
        }

    def calm(self, most_s: float) -> None:
        """Wait until no alert fires or is pending, or so long."""
        end = time.monotonic() + most_s
        while self.prometheus.alerts() and time.monotonic() < end:
            time.sleep(_LOOK_S)

    @contextlib.contextmanager
    def killed(self) -> Iterator[None]:
        """The server is killed, and started again at the end."""
        self.server.kill()
        yield
        self.server.start()

    @contextlib.contextmanager
    def delayed(self) -> Iterator[None]:
        """Each way to the server and back takes a second longer."""
        self.proxy.delay_s = _DELAY_S
        yield
        self.proxy.delay_s = 0.0

    @contextlib.contextmanager
    def without_redis(self) -> Iterator[None]:
        """Redis is killed, and started again at the end."""
        self.redis.kill()
        yield
        self.redis.start()

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Four busy processes for each core."""
        started = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(4 * (os.cpu_count() or 1))]
        yield
        for one in started:
            one.kill()
            one.wait()

    def _said(self) -> str:
        try:
            with urllib.request.urlopen(f"http://{_HOST}:{self.server.port}/health", timeout=10) as answer:
                return str(json.load(answer).get("online", {}).get("status"))
        except OSError:
            return "no answer"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--per-second", type=int, default=200, help="transactions")
    parser.add_argument("--hold", type=float, default=180.0, help="seconds that each fault lasts")
    parser.add_argument("--calm", type=float, default=120.0, help="seconds that are waited for calm after each")
    parser.add_argument("--only", nargs="*", choices=FAULTS, default=FAULTS, help="which of them, in this order")
    given = parser.parse_args()
    program = shutil.which("prometheus")
    if program is None:
        sys.exit("prometheus is not installed: apt-get install prometheus")
    with tempfile.TemporaryDirectory(prefix="sentinel-faults-") as folder:
        drill = Drill(Path(folder), program, given.per_second)
        print(
            f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
            f"Python {platform.python_version()}; {given.hold:.0f} s each"
        )
        try:
            for name in given.only:
                fault = getattr(drill, name)
                found = drill.observed(fault, given.hold)
                print(f"\n{fault.__doc__}")
                for what, one in found.items():
                    print(f"  {what}: {'; '.join(one) if isinstance(one, list) else one}", flush=True)
                drill.calm(given.calm)
        finally:
            drill.stop()


if __name__ == "__main__":
    main()
