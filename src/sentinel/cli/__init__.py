"""The command line: every command, its options, its help, and how it prints. What they do is elsewhere.

Training and its libraries are imported by the commands that train, so that `serve` starts without them.
"""

from sentinel.cli.root import app, main

__all__ = ["app", "main"]
