"""The command line: every command, its options, its help, and how it prints. What they do is elsewhere.

What a command does, with its libraries, is imported when it is called: no command waits for another's, and `serve`
starts without those that train.
"""

from sentinel.cli.root import app, main

__all__ = ["app", "main"]
