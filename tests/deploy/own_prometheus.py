"""A Prometheus of a test's own, with the configuration and the rules of deploy/observability."""

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from sentinel.commands.server_process import free_port

FILES = Path(__file__).parents[2] / "deploy" / "observability"
_HOST, _PATIENCE_S = "127.0.0.1", 120.0


class OwnPrometheus:
    """Prometheus in a folder of its own; it asks the server at a port of this machine every `every_s` seconds."""

    def __init__(self, program: str, folder: Path, port: int, every_s: int = 1) -> None:
        self._program, self._folder, self._port = program, folder, free_port(_HOST)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(FILES / "alerts.yml", folder)
        told = yaml.safe_load((FILES / "prometheus.yml").read_text())
        told["global"] = {"scrape_interval": f"{every_s}s", "evaluation_interval": f"{every_s}s"}
        told["scrape_configs"][0]["scrape_timeout"] = f"{min(every_s, 10)}s"
        told["scrape_configs"][0]["static_configs"] = [{"targets": [f"{_HOST}:{port}"]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(told))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [
            self._program, f"--config.file={self._folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._folder / 'data'}", f"--web.listen-address={_HOST}:{self._port}",
        ]  # fmt: skip
        with (self._folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder)
        end = time.monotonic() + _PATIENCE_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((self._folder / "prometheus.log").read_text()[-2000:])
            time.sleep(0.1)

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)

    def ask(self, path: str, **given: str) -> Any:
        """The `data` of a call of its API."""
        asked = f"http://{_HOST}:{self._port}/api/v1/{path}?{urllib.parse.urlencode(given)}"
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return json.load(answer)["data"]

    def alerts(self) -> dict[str, str]:
        """The alerts that are pending or firing, by name; one that does both for different instances is firing."""
        found: dict[str, str] = {}
        for one in self.ask("alerts")["alerts"]:
            name = one["labels"]["alertname"]
            found[name] = "firing" if "firing" in (one["state"], found.get(name)) else one["state"]
        return found

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{_HOST}:{self._port}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False
