"""`python -m services`: up NAMES, status, stop [NAMES], clean. `make services` calls it."""

import argparse
import json
import sys
import time

import msgspec
from rich.console import Console

from services.catalog import CATALOG, JARS, PACKAGES
from services.keeper import Keeper
from services.service import Running, ServiceFailed

_console = Console(stderr=True, highlight=False, soft_wrap=True)


def main() -> int:
    """The exit code: 0, or 1 with what is wrong in one sentence."""
    parser = argparse.ArgumentParser(prog="python -m services", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start services and wait until they answer")
    up.add_argument("names", nargs="+", metavar="NAME", help=f"any of {', '.join(CATALOG)}")
    install = commands.add_parser(
        "install", help="make the environments of services, or of programs, and start nothing"
    )
    install.add_argument("names", nargs="+", metavar="NAME", choices=list(PACKAGES), help=", ".join(PACKAGES))
    status = commands.add_parser("status", help="what runs, and where")
    status.add_argument("--json", action="store_true", help="print one JSON object for machines")
    stop = commands.add_parser("stop", help="end services; their data stay")
    stop.add_argument("names", nargs="*", metavar="NAME", help="all without one")
    clean = commands.add_parser("clean", help="stop all, and delete environments, data and passwords")
    clean.add_argument("--yes", action="store_true", help="do not ask")
    given, keeper = parser.parse_args(), Keeper(CATALOG)
    try:
        return _run(given, keeper)
    except ServiceFailed as problem:
        _console.print(f"error: {problem}", markup=False)
        return 1


def _run(given: argparse.Namespace, keeper: Keeper) -> int:
    if given.command == "up":
        for name in dict.fromkeys(given.names):
            begun = time.monotonic()
            with _console.status(f"{name}: until it answers"):
                found = keeper.up(name, lambda said: _console.print(said, markup=False))
            _show(keeper, found)
            _console.print(f"  answers after {time.monotonic() - begun:.1f} s")
    elif given.command == "install":
        for name in dict.fromkeys(given.names):
            folder = keeper.install(
                name, PACKAGES[name], lambda said: _console.print(said, markup=False), JARS.get(name, ())
            )
            _console.print(f"{name:<10} {folder}", markup=False)
    elif given.command == "status":
        _status(keeper, as_json=given.json)
    elif given.command == "stop":
        _stop(keeper, given.names)
    else:
        return _clean(keeper, is_sure=given.yes)
    return 0


def _show(keeper: Keeper, found: Running) -> None:
    access = f"  user {found.user}, password in {found.password_file}" if found.password_file else "  no password"
    _console.print(f"{found.name:<10} {found.url}{access}  process {found.pid}", markup=False)
    _console.print(f"  after a stop it keeps {keeper.catalog[found.name].keeps}")


def _status(keeper: Keeper, *, as_json: bool) -> None:
    found = keeper.all_running()
    if as_json:
        shown = [{**msgspec.to_builtins(one), "environment": sorted(one.environment)} for one in found]
        sys.stdout.write(json.dumps({"services": shown}) + "\n")
        return
    for one in found:
        _show(keeper, one)
    absent = [name for name in keeper.catalog if name not in {one.name for one in found}]
    if absent:
        _console.print(f'not running: {", ".join(absent)}; make services NAMES="{" ".join(absent)}"')


def _stop(keeper: Keeper, names: list[str]) -> None:
    for name in names or reversed(list(keeper.catalog)):
        if keeper.stop(name):
            _console.print(f"{name} is stopped; it keeps {keeper.catalog[name].keeps}")


def _clean(keeper: Keeper, *, is_sure: bool) -> int:
    parts = keeper.parts()
    if not parts:
        _console.print(f"there is nothing in {keeper.folder}")
        return 0
    for path in parts:
        _console.print(str(path), markup=False)
    if not is_sure:
        _console.print("all of this is deleted, data too. Type yes to go on (YES=1 does not ask): ", end="")
        if sys.stdin.readline().strip() != "yes":
            _console.print("nothing is deleted")
            return 1
    keeper.clean()
    _console.print(f"{keeper.folder} is deleted")
    return 0


if __name__ == "__main__":
    sys.exit(main())
