"""Draw the picture of the README: run `sentinel demo` in a terminal, and save what it showed while it ran as SVG.

.venv/bin/python docs/draw_live_view.py docs/live-view.svg
"""

import os
import pty
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

from sentinel.commands.server_process import free_port

COLUMNS, SECONDS, RATE = 92, 40, 1000
_REDRAWN = re.compile(r"(?:\r?\x1b\[[12]?[AK])+")
"""What the terminal is told between two pictures: up a line, and clear it."""

_STEADY = 0.8
"""The picture is of this share of the run: outcomes are told by then, and transactions still sent."""


def main() -> None:
    """Run, draw, save."""
    frames = [one for one in _REDRAWN.split(_seen()) if "decisions" in one and "streaming" in one]
    console = Console(record=True, width=COLUMNS, file=tempfile.TemporaryFile("w"))  # noqa: SIM115
    shown = frames[int(len(frames) * _STEADY)].replace("\r\n", "\n").strip("\n")
    console.print(Text.from_ansi(shown))
    svg = console.export_svg(title="make demo")
    Path(sys.argv[1]).write_text(re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL))


def _seen() -> str:
    """Everything that the demo wrote to its terminal."""
    with tempfile.TemporaryDirectory() as folder:
        ours, its = pty.openpty()
        command = [sys.executable, "-m", "sentinel", "demo", "--home", folder, "--port", str(free_port("127.0.0.1"))]
        command += ["--seconds", str(SECONDS), "--rate", str(RATE)]
        environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": "40"}
        demo = subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=environment)  # noqa: S603
        os.close(its)
        written = b""
        while True:
            try:
                some = os.read(ours, 65_536)
            except OSError:  # the other end is closed
                break
            written += some
        if demo.wait() != 0:
            sys.exit(written.decode(errors="replace"))
    return written.decode(errors="replace")


if __name__ == "__main__":
    main()
