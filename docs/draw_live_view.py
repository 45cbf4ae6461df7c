"""Draw the picture of the README: run the demo for some seconds and save its live view as SVG.

.venv/bin/python docs/draw_live_view.py docs/live-view.svg
"""

import re
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from sentinel.commands.demo import run_demo
from sentinel.commands.server_process import free_port
from sentinel.config import Settings


def main() -> None:
    """Run, draw, save."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder), port=free_port("127.0.0.1"))
        view = run_demo(settings, "payments", None, {}, seconds=30, rate=1000, transactions=250_000)
    console = Console(record=True, width=92, file=tempfile.TemporaryFile("w"))  # noqa: SIM115
    view.address, view.state = "http://127.0.0.1:8000", "streaming"
    console.print(view)
    svg = console.export_svg(title="make demo")
    Path(sys.argv[1]).write_text(re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL))


if __name__ == "__main__":
    main()
