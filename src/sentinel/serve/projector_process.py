"""The projector's process: keeps it running, and knows how far behind its view is."""

import logging
import os
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

from sentinel.errors import SentinelError
from sentinel.record.log import LogReader
from sentinel.record.views.sqlite import FILE, SqliteView

_LOOK_S = 0.5
_LONGEST_WAIT_S = 30.0
_logger = logging.getLogger(__name__)


class ProjectorProcess:
    """Starts the projector of a home folder, and starts it again when it dies. No decision waits for it."""

    def __init__(self, home: Path, log: LogReader) -> None:
        self._home = home
        self._log = log
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="projector", daemon=True)

    def start(self) -> None:
        """Have the view follow the log; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End the process."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def lag(self) -> int | None:
        """How many entries the view is behind, or None while it cannot be read; may wait for a disk."""
        try:
            with closing(SqliteView(self._home / FILE)) as view:
                return max(self._log.durable - max(view.position.position, self._log.first), 0)
        except SentinelError:
            return None

    def _run(self) -> None:
        wait_s = _LOOK_S
        while not self._stopping.is_set():
            process = self._start()
            lived_s = 0.0
            while process.poll() is None and not self._stopping.wait(_LOOK_S):
                lived_s += _LOOK_S
            if self._stopping.is_set():
                process.terminate()
                process.wait()
                return
            _logger.warning("the projector ended with exit code %s and is started again", process.returncode)
            wait_s = _LOOK_S if lived_s > _LONGEST_WAIT_S else min(2 * wait_s, _LONGEST_WAIT_S)
            self._stopping.wait(wait_s)

    def _start(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "sentinel.record.projector", "--home", str(self._home)]
        return subprocess.Popen(  # noqa: S603
            [*command, "--parent", str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            process_group=0,  # no Ctrl-C for it
        )
