"""`python -m deploy.compose`: up, down, status, logs of the stack in deploy/compose.yaml. `make up` calls it."""

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from deploy.compose.addresses import addresses_of_services
from deploy.compose.door import make_door
from deploy.compose.engine import ROOT, find_engine
from deploy.compose.passwords import StackFailed, keep_passwords, read_private, read_settings
from deploy.compose.stack import PROFILES, Stack, first_log_in, missing_images

GIVEN = ROOT / "deploy" / ".env"
MADE = ROOT / "deploy" / ".env.generated"
_TRACES = "http://traces:4318"
_CONSOLE_LINES = 200


def main() -> int:
    """The exit code: 0, or 1 with what is wrong in one sentence."""
    given = _parser().parse_args()
    try:
        return _run(given)
    except StackFailed as problem:
        _tell(f"error: {problem}")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.compose", description=__doc__)
    parser.add_argument("--project", default=os.environ.get("STACK_PROJECT", "sentinel"), help="its name [sentinel]")
    parser.add_argument("--passwords", type=Path, default=MADE, help="the file that they are kept in")
    parser.add_argument("--services", action="store_true", help="against what `make services` runs on this machine")
    parser.add_argument("--profile", action="append", default=[], help=f"more of it: {', '.join(PROFILES)}")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start what does not run, and wait until all of it is well")
    down = commands.add_parser("down", help="end it; its data stay")
    down.add_argument("--volumes", action="store_true", help="delete its data, too; asks first")
    down.add_argument("--yes", action="store_true", help="do not ask")
    status = commands.add_parser("status", help="what runs and how it is; exit code 1 unless all of it is well")
    status.add_argument("--json", action="store_true", help="print one JSON object for machines")
    logs = commands.add_parser("logs", help="what the services say")
    logs.add_argument("names", nargs="*", metavar="NAME", help="all without one")
    logs.add_argument("--follow", action="store_true", help="go on until Ctrl-C")
    return parser


def _run(given: argparse.Namespace) -> int:
    if given.command != "up" and not given.passwords.exists():
        raise StackFailed("no stack was started from this folder yet: make up")
    settings = {**read_settings(GIVEN), **os.environ}
    find_engine(settings, given.project)  # before passwords are made for nothing
    made = keep_passwords(given.passwords) if given.command == "up" else read_private(given.passwords)
    addresses = addresses_of_services() if given.services else {}
    tracing = {"STACK_OTLP_ENDPOINT": _TRACES} if "tracing" in given.profile else {}
    settings = {**made, **tracing, **addresses, **settings}
    stack = Stack(find_engine(settings, given.project), given.profile, on_host=given.services)
    if given.command == "up":
        _up(stack, settings, given)
    elif given.command == "down":
        return _down(stack, given)
    elif given.command == "status":
        return _status(stack, as_json=given.json)
    else:
        stack.logs(given.names, follow=given.follow)
    return 0


def _up(stack: Stack, settings: Mapping[str, str], given: argparse.Namespace) -> None:
    absent = missing_images(stack.engine, settings)
    if absent:
        raise StackFailed(
            f"there is no image {' and no image '.join(absent)} here: make image; or name others with "
            "STACK_SERVING_IMAGE and STACK_TRAINING_IMAGE"
        )
    if given.services and "STACK_DOOR_IMAGE" not in settings:
        make_door(stack.engine, settings, _tell)
    stack.up(_tell)
    console = settings.get("STACK_CONSOLE_URL") or f"http://127.0.0.1:{settings.get('STACK_CONSOLE_PORT', '8080')}"
    _tell(f"decisions  http://127.0.0.1:{settings.get('STACK_PORT', '8000')}  key STACK_ADMIN_KEY of {given.passwords}")
    _tell(f"console    {console}")
    if not given.services:
        for name, port in (("grafana", "3000"), ("prometheus", "9090"), ("mlflow", "5000")):
            _tell(f"{name:<10} http://127.0.0.1:{settings.get(f'STACK_{name.upper()}_PORT', port)}")
    said = first_log_in(stack.engine.said_by(stack.engine.containers()["console"], _CONSOLE_LINES))
    if said is not None:
        _tell(said)


def _down(stack: Stack, given: argparse.Namespace) -> int:
    if given.volumes and not given.yes:
        _tell("the log, the models, the view, and what people wrote are deleted. Type yes to go on: ")
        if sys.stdin.readline().strip() != "yes":
            _tell("nothing is ended, nothing is deleted")
            return 1
    stack.down(volumes=given.volumes)
    _tell("it is ended, and its data are deleted" if given.volumes else "it is ended; its data stay")
    return 0


def _status(stack: Stack, *, as_json: bool) -> int:
    rows = stack.status()
    if as_json:
        sys.stdout.write(json.dumps({"services": rows}) + "\n")
    else:
        for row in rows:
            sys.stdout.write(f"{row['service']:<12} {row['state']:<10} {row['health']}\n")
    return 0 if all(row["health"] in ("healthy", "done") for row in rows) else 1


def _tell(said: str) -> None:
    sys.stderr.write(f"{said}\n")


if __name__ == "__main__":
    sys.exit(main())
