"""A cluster of Flink of our own: a job manager and task managers, each a process that can be killed."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import time
import urllib.request

import yaml
from topics_of_a_job import QUICK

from sentinel.commands.server_process import free_port

HOST = "127.0.0.1"
MAIN = "org.apache.flink.runtime."


class FlinkCluster:
    """Made of the jars that come with PyFlink."""

    def __init__(self, environment, sources, folder):
        self.folder, self.port = folder / "cluster", free_port(HOST)
        self.folder.mkdir()
        (pyflink,) = environment.glob("lib/python3*/site-packages/pyflink")
        given = yaml.safe_load((pyflink / "conf" / "config.yaml").read_text())
        self._java = [
            shutil.which("java"), "-Xmx320m", *QUICK.split(), *given["env"]["java"]["opts"]["all"].split(),
            f"-Dlog4j.configurationFile={pyflink / 'conf' / 'log4j-console.properties'}",
            "-cp", f"{pyflink / 'lib'}/*:{pyflink / 'opt'}/flink-python-2.3.0.jar",
        ]  # fmt: skip
        self._environment = {
            **os.environ, "PYTHONPATH": f"{sources}:{pyflink.parent}", "FLINK_HOME": str(pyflink),
        }  # fmt: skip
        settings = {
            "jobmanager.rpc.address": HOST, "jobmanager.rpc.port": free_port(HOST), "rest.address": HOST,
            "rest.port": self.port, "rest.bind-address": HOST, "taskmanager.host": HOST,
            "jobmanager.memory.process.size": "900m", "taskmanager.cpu.cores": "1",
            "taskmanager.memory.task.heap.size": "160m", "taskmanager.memory.task.off-heap.size": "64m",
            "taskmanager.memory.network.min": "64m", "taskmanager.memory.network.max": "64m",
            "taskmanager.memory.framework.heap.size": "96m", "taskmanager.memory.framework.off-heap.size": "64m",
            "taskmanager.memory.jvm-metaspace.size": "256m", "taskmanager.memory.jvm-overhead.min": "128m",
            "taskmanager.memory.jvm-overhead.max": "128m", "taskmanager.memory.managed.size": "64m", "taskmanager.numberOfTaskSlots": 1,
            "heartbeat.interval": 1000, "heartbeat.timeout": 10_000, "io.tmp.dirs": str(self.folder),
            "blob.server.port": "0", "python.executable": str(environment / "bin" / "python"),
        }  # fmt: skip
        (self.folder / "config.yaml").write_text(yaml.safe_dump(settings))
        self._manager = self._start("entrypoint.StandaloneSessionClusterEntrypoint", "manager")
        self.tasks = []

    def _start(self, name, log):
        with (self.folder / f"{log}.log").open("ab") as output:
            return subprocess.Popen(
                [*self._java, f"{MAIN}{name}", "--configDir", str(self.folder)],
                stdout=output, stderr=output, env=self._environment, start_new_session=True,
            )  # fmt: skip

    def add_task_manager(self):
        """One more, with room for one task of each operator."""
        self.tasks.append(self._start("taskexecutor.TaskManagerRunner", f"tasks-{secrets.token_hex(2)}"))

    def wait_for_slots(self, n, patience_s=180):
        """Until so many tasks find room."""
        until = time.monotonic() + patience_s
        while time.monotonic() < until:
            try:
                with urllib.request.urlopen(f"http://{HOST}:{self.port}/overview", timeout=5) as answer:
                    if json.load(answer)["slots-total"] >= n:
                        return
            except OSError:
                pass
            ended = [one.poll() for one in (self._manager, *self.tasks) if one.poll() is not None]
            if ended:
                break
            time.sleep(0.3)
        raise AssertionError([one.read_text()[-1500:] for one in self.folder.glob("*.log")])

    def kill_task_manager(self):
        """The oldest, at once."""
        victim = self.tasks.pop(0)
        victim.send_signal(signal.SIGKILL)
        victim.wait()

    def close(self):
        for one in [*self.tasks, self._manager]:
            one.kill()
            one.wait()
