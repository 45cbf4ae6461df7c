"""The files of a home folder: bundles and logs that somebody has touched, card numbers in them, processes that die."""

import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from attacks.arena import HOST, Arena, payment
from attacks.attack import Attack, Tried
from sentinel.commands.server_process import ServerFailed, ServerProcess, free_port

CARD = "4111 1111 1111 1111"
_DIGITS = re.compile(rb"4111[ -]?1111[ -]?1111[ -]?1111")


def _refuses(home: Path, settings: dict[str, str] | None = None) -> str | None:
    """What a server over this home says that does not start, or does not get ready; None when it decides."""
    port = free_port(HOST)
    command = [sys.executable, "-m", "sentinel", "serve", "--home", str(home), "--port", str(port)]
    with (home / "server.log").open("ab") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **(settings or {})})
    begun, said = time.monotonic(), "it did not get ready"
    try:
        while time.monotonic() - begun < 60 and server.poll() is None:
            time.sleep(0.1)
            try:
                with urllib.request.urlopen(f"http://{HOST}:{port}/health/ready", timeout=5):
                    return None
            except urllib.error.HTTPError as error:
                said = error.read().decode()
                if "still loading" not in said:
                    return said
            except OSError:
                continue
        return (home / "server.log").read_text()[-2_000:] if server.poll() is not None else said
    finally:
        server.terminate()
        server.wait()


def bundles(arena: Arena) -> Tried:
    """A bundle whose thresholds, certificate, state or model were changed, hashes made anew where that is possible."""
    broken, tried = [], 0

    def with_manifest(home: Path, name: str, value: object) -> None:
        path = home / "models" / "v1" / "manifest.json"
        manifest = json.loads(path.read_bytes())
        manifest[name] = value
        path.write_text(json.dumps(manifest))

    def with_file(home: Path, name: str, data: bytes) -> None:
        path = home / "models" / "v1" / name
        path.write_bytes(data)
        manifest = json.loads((home / "models" / "v1" / "manifest.json").read_bytes())
        manifest["files"][name] = hashlib.sha256(data).hexdigest()
        (home / "models" / "v1" / "manifest.json").write_text(json.dumps(manifest))

    def damaged(home: Path, name: str) -> bytes:
        data = bytearray((home / "models" / "v1" / name).read_bytes())
        data[len(data) // 2] ^= 0xFF
        return bytes(data)

    def behind_a_link(home: Path) -> None:
        model = home / "models" / "v1" / "model.onnx"
        model.rename(home / "elsewhere")
        model.symlink_to(home / "elsewhere")

    tricks: dict[str, Callable[[Path], None]] = {
        "thresholds": lambda home: with_manifest(home, "thresholds", {"review": 1.0, "block": None}),
        "detector": lambda home: with_manifest(home, "detector", "other"),
        "model": lambda home: with_file(home, "model.onnx", damaged(home, "model.onnx")),
        "state": lambda home: with_file(home, "state.npz", damaged(home, "state.npz")),
        "link": behind_a_link,
    }
    for name, trick in tricks.items():
        tried += 1
        home = arena.folder / f"bundle-{name}"
        shutil.copytree(arena.home, home)
        trick(home)
        said = _refuses(home)
        if said is None:
            broken.append(f"{name}: the altered bundle was served")
        elif "Traceback" in said:
            broken.append(f"{name}: refused with a traceback")
    return Tried(tried, broken)


def damage(arena: Arena) -> Tried:
    """A flipped byte in the log, a log that vanished: named, and nothing decided on top of it unasked."""
    broken, tried, chance = [], 0, random.Random(3)
    with arena.server() as target:
        for n in range(30):
            target.ask("POST", "/v1/score", [payment(f"damage-{n}-{i}") for i in range(100)])
        target.process.stop()
        for turn in range(6 * arena.scale):
            tried += 1
            home = arena.folder / f"damaged-{turn}"
            shutil.copytree(target.home, home)
            path = max((home / "log").glob("*.segment*"), key=lambda one: one.stat().st_size)
            data = bytearray(path.read_bytes())
            written = len(bytes(data).rstrip(b"\0"))  # what follows is room for more
            data[chance.randrange(100, written)] ^= 1 << chance.randrange(8)
            path.write_bytes(data)
            said = _refuses(home)
            if said is None:
                broken.append(f"a flipped byte in {path.name} was not seen")
            elif "Traceback" in said:
                broken.append(f"a flipped byte in {path.name} ended in a traceback")
            shutil.rmtree(home)
        tried += 1
        shutil.rmtree(target.home / "log")
        if _refuses(target.home) is None:
            broken.append("a home whose log vanished was served as a fresh one")
        target.process.start = lambda: 0.0  # type: ignore[method-assign] # it has ended for good
    return Tried(tried, broken)


def modes(arena: Arena) -> Tried:
    """What a neighbour on the machine may read."""
    broken, tried = [], 0
    with arena.server() as target:
        target.ask("POST", "/v1/score", payment("modes"))
        time.sleep(2)
        for path in target.home.rglob("*"):
            if path.name == "server.log":
                continue  # this test's own
            tried += 1
            mode = stat.S_IMODE(path.lstat().st_mode)
            if mode & 0o077:
                broken.append(f"{path.relative_to(target.home)} has the mode {mode:o}")
    return Tried(tried, broken[:10])


def cards(arena: Arena) -> Tried:
    """A card number in any text must not be found in any file, log, answer or metric."""
    broken, places = [], ("card_id", "merchant_id", "merchant_category", "country")
    with arena.server() as target:
        answers = [
            target.ask("POST", "/v1/score", payment(f"c-{n}", **{name: text})).body
            for n, (name, text) in enumerate((name, text) for name in places for text in (CARD, CARD.replace(" ", "")))
        ]
        answers.append(target.ask("POST", "/v1/score", payment(CARD)).body)
        answers.append(target.ask("POST", "/v1/score", {**payment("c-bad"), CARD: 1, "amount": CARD}).body)
        answers.append(target.ask("POST", "/v1/outcomes", {"transaction_id": CARD, "is_fraud": True}).body)
        answers.append(target.ask("GET", "/metrics/prom").body)
        answers.append(target.ask("GET", "/v1/decisions?limit=100").body)
        time.sleep(2)
        target.process.stop()
        shown = json.dumps(answers).encode()
        if found := _DIGITS.search(shown):
            broken.append(f"an answer shows a card number: {shown[max(0, found.start() - 80) :][:160]!r}")
        broken += [
            f"{path.relative_to(target.home)} has a card number"
            for path in target.home.rglob("*")
            if path.is_file() and _DIGITS.search(path.read_bytes())
        ]
        target.process.start = lambda: 0.0  # type: ignore[method-assign]
    return Tried(len(answers), broken[:10])


def orphans(arena: Arena) -> Tried:
    """kill -9 of the parent: its children end, and a new server listens on the port at once."""
    broken = []
    for workers in ("1", "2"):
        home = arena.folder / f"orphans-{workers}"
        shutil.copytree(arena.home, home)
        server = ServerProcess(home, HOST, free_port(HOST), environment={"SENTINEL_WORKERS": workers})
        server.start()
        time.sleep(1)
        children = _descendants(server.pid)
        os.kill(server.pid, signal.SIGKILL)
        server.kill()
        end = time.monotonic() + 5
        while time.monotonic() < end and any(Path(f"/proc/{one}").exists() for one in children):
            time.sleep(0.1)
        left = [one for one in children if Path(f"/proc/{one}").exists()]
        if left:
            broken.append(f"{len(left)} of {len(children)} children of {workers} worker(s) outlive their parent")
        again = ServerProcess(home, HOST, server.port, environment={"SENTINEL_WORKERS": workers})
        try:
            again.start()
            again.stop()
        except ServerFailed as failed:
            broken.append(f"with {workers} worker(s) it does not start again: {str(failed)[-200:]}")
        for one in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
    return Tried(2, broken)


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    for line in subprocess.run(
        ["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True
    ).stdout.splitlines()[1:]:
        child, parent = map(int, line.split())
        if parent == pid:
            found += [child, *_descendants(child)]
    return found


ATTACKS = [
    Attack("bundles", "decisions by a model that nobody has certified", bundles),
    Attack("damage", "a log that was changed and is believed", damage),
    Attack("modes", "files that a neighbour may read", modes),
    Attack("cards", "card numbers at rest", cards),
    Attack("orphans", "processes that outlive their parent", orphans),
]
