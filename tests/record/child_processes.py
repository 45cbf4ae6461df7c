"""Processes that end with the one that has started them."""

import subprocess
import sys
import time

import pytest


def parent_of(module, home, *options):
    """A process that has started this module as its child for a home folder, and the child's number."""
    code = (
        "import os, subprocess, sys;"
        "child = subprocess.Popen([sys.executable, '-m', *sys.argv[1:], '--parent', str(os.getpid())]);"
        "print(child.pid, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, module, "--home", str(home), *options],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return parent, int(parent.stdout.readline())


def running(pid):
    """Whether there is such a process that has not ended."""
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().split()[2] != "Z"
    except FileNotFoundError:
        return False


def wait_until(reached):
    """Half a minute at most."""
    for _ in range(3_000):
        if reached():
            return
        time.sleep(0.01)
    pytest.fail("it never came to that")
