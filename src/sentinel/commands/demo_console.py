"""The console of the demo: with one admin, whose password is shown; left out where the extra is not installed."""

import contextlib
import importlib.util
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from sentinel.commands.server_process import OtherSettings, ServerProcess, free_port, port_is_free
from sentinel.config import Settings

NEEDED = ("argon2", "jinja2", "python_multipart")
HOST = "127.0.0.1"


class Shown(NamedTuple):
    """What people are told: where it is, and how one logs in; or why there is none."""

    told: str
    is_there: bool


class ConsoleProcess(ServerProcess):
    """`sentinel console` as a process of ours; its log is `console.log` in the home folder."""

    command, log_name, ready_path = "console", "console.log", "/health/live"


@contextlib.contextmanager
def demo_console(settings: Settings, environment: OtherSettings) -> Iterator[Shown]:
    """The console of a server that runs, until the end of the block."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        yield Shown(f"none: {', '.join(missing)} is not installed (pip install 'sentinel-fraud[console]')", False)
        return
    from sentinel.commands.people import add_first_admin  # needs what was just looked for

    password = add_first_admin(msgspec.structs.replace(settings, database_url=None))
    port = settings.console_port if port_is_free(HOST, settings.console_port) else free_port(HOST)
    own = {"SENTINEL_SERVER_URL": settings.url, "SENTINEL_CONSOLE_URL": ""}
    process = ConsoleProcess(settings.home, HOST, port, environment={**environment, **own})
    try:
        process.start()
        yield Shown(f"http://{HOST}:{port}  log in as admin, password {password}", True)
    finally:
        process.stop()
