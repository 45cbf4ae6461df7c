"""One caller against all others: floods, slow senders, huge heads, clients that do not read."""

import contextlib
import json
import resource
import select
import socket
import ssl
import statistics
import threading
import time

import trustme

from attacks.arena import HOST, Arena, Target, payment, read_all, request
from attacks.attack import Attack, Tried


def _post(name: str) -> bytes:
    return request(b"POST", b"/v1/score", json.dumps(payment(name)).encode())


def _alone(target: Target, seconds: float) -> tuple[list[float], int]:
    """Seconds that a lone caller's requests took, and how many were not decided by the model."""
    took, degraded, end = [], 0, time.monotonic() + seconds
    with contextlib.closing(target.connect(60)) as wire:
        while time.monotonic() < end:
            begun = time.monotonic()
            wire.sendall(_post(f"lone-{time.time_ns()}"))
            answered = wire.recv(65_536)
            took.append(time.monotonic() - begun)
            degraded += b'"degraded":null' not in answered
            time.sleep(0.002)
    return took, degraded


def _p99_ms(took: list[float]) -> float:
    return 1000 * statistics.quantiles(took, n=100)[98]


def pipelining(arena: Arena) -> Tried:
    """One connection sends without waiting for answers."""
    broken = []
    with arena.server() as target:
        _alone(target, 1)
        quiet, _ = _alone(target, 3)
        ended = threading.Event()

        def flood() -> None:
            data, at = memoryview(_post("same") * 400), 0
            with contextlib.closing(target.connect()) as wire:
                wire.setblocking(False)
                while not ended.is_set():
                    readable, writable, _ = select.select([wire], [wire], [], 0.1)
                    with contextlib.suppress(OSError):
                        if readable and not wire.recv(1 << 20):
                            return
                    with contextlib.suppress(OSError):
                        if writable:
                            at = (at + wire.send(data[at:])) % len(data)

        flooding = threading.Thread(target=flood)
        flooding.start()
        time.sleep(0.5)
        loud, degraded = _alone(target, 4)
        ended.set()
        flooding.join()
        # the flood runs in this process, on the same two cores, so a lone request may wait for the interpreter too
        if _p99_ms(loud) > 2 * _p99_ms(quiet) + 10:
            broken.append(
                f"p99 of a lone caller {_p99_ms(quiet):.1f} ms alone, {_p99_ms(loud):.1f} ms beside the flood"
            )
        if degraded > len(loud) // 100:
            broken.append(f"{degraded} of {len(loud)} decisions of the lone caller were made without the model")
    return Tried(len(loud), broken)


def heads(arena: Arena) -> Tried:
    """Heads without end, with thousands of fields, and thousands of large ones that differ."""
    broken = []
    with arena.server() as target:
        for name, part, times in (("one field", b"a" * 65_536, 200), ("many fields", b"X: y\r\n" * 8_192, 200)):
            before, begun, sent = target.memory_mb(), time.monotonic(), 0
            with contextlib.closing(target.connect(30)) as wire:
                wire.sendall(b"GET /health/live HTTP/1.1\r\nHost: a\r\nX: ")
                with contextlib.suppress(OSError):
                    for _ in range(times):
                        wire.sendall(part)
                        sent += len(part)
                answered = read_all(wire, 1)
            if sent == times * len(part) and not answered.startswith(b"HTTP/1.1 4"):
                broken.append(f"{name}: {sent >> 20} MB of head were taken")
            if target.memory_mb() > before + 32 or time.monotonic() - begun > 10:
                broken.append(f"{name}: {target.memory_mb() - before} MB and {time.monotonic() - begun:.1f} s")
        before = target.memory_mb()
        many = 1_000 * arena.scale
        wire = target.connect()
        for n in range(many):
            with contextlib.suppress(OSError):
                wire.sendall(
                    b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
                    b"X-Request-Id: %06d%b\r\n\r\n{}" % (n, b"a" * 15_000)
                )
                answered = wire.recv(65_536)
                if answered:
                    continue
            wire.close()
            wire = target.connect()
        wire.close()
        if target.memory_mb() > before + 16:
            broken.append(f"{many} heads of 15 kB that differ: {target.memory_mb() - before} MB are kept")
        if not target.is_well():
            broken.append("the server does not decide any more")
    return Tried(2 + many, broken)


def slow(arena: Arena) -> Tried:
    """Connections that begin a head or a body and go on for ever, a byte at a time."""
    broken, many = [], 100
    limits = {"SENTINEL_HEAD_TIMEOUT_S": "2", "SENTINEL_BODY_TIMEOUT_S": "2"}
    with arena.server(limits) as target:
        wires = [target.connect() for _ in range(many)]
        for n, wire in enumerate(wires):
            wire.sendall(
                b"POST /v1/score HTTP/1.1\r\nHost: a\r\n" + (b"" if n % 2 else b"Content-Length: 400\r\n\r\n{")
            )
        end = time.monotonic() + 6
        while time.monotonic() < end:
            for wire in wires:
                with contextlib.suppress(OSError):
                    wire.sendall(b"a")
            time.sleep(0.2)
        still = 0
        for wire in wires:
            wire.setblocking(False)
            try:
                still += wire.recv(65_536) != b""
                still -= wire.recv(65_536) == b""  # an answer, then the end
            except BlockingIOError:
                still += 1
            except OSError:
                pass
            wire.close()
        if still > 0:
            broken.append(f"{still} of {many} slow connections are still open after three times their deadline")
        if not target.is_well():
            broken.append("the server does not decide any more")
    return Tried(many, broken)


def unread(arena: Arena) -> Tried:
    """A client that asks a thousand times and never reads."""
    broken = []
    with arena.server() as target:
        before = target.memory_mb()
        wires = []
        body = json.dumps([payment(f"u{n}") for n in range(200)]).encode()
        for _ in range(4):
            wire = target.connect()
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            wire.settimeout(0.5)
            with contextlib.suppress(OSError):
                for _ in range(400):
                    wire.sendall(request(b"POST", b"/v1/score", body))
            wires.append(wire)
        if not target.is_well():
            broken.append("others are not answered")
        if target.memory_mb() > before + 64:
            broken.append(f"answers that nobody reads hold {target.memory_mb() - before} MB")
        for wire in wires:
            wire.close()
    return Tried(4 * 400, broken)


def connections(arena: Arena) -> Tried:
    """More connections than there may be, then the others again."""
    broken: list[str] = []
    many = 600
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    with arena.server({"SENTINEL_MAX_CONNECTIONS": "200"}) as target:
        wires = []
        for _ in range(many):
            with contextlib.suppress(OSError):
                wires.append(target.connect(5))
        time.sleep(0.5)
        refused = 0
        for wire in wires:
            wire.setblocking(False)
            with contextlib.suppress(OSError):
                refused += wire.recv(100).startswith(b"HTTP/1.1 503") or 0
        if refused < many - 300:
            broken.append(f"{many} connections at a limit of 200: {refused} were refused with 503")
        for wire in wires:
            wire.close()
        time.sleep(0.5)
        if not target.is_well():
            broken.append("it does not decide when they are gone")
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return Tried(many, broken)


def greetings(arena: Arena) -> Tried:
    """A crowd that begins a TLS handshake and goes no further, and one that has greeted and stays when refused."""
    broken, many, most = [], 600, 200
    authority = trustme.CA()
    certificate, trusting = authority.issue_cert(HOST), ssl.create_default_context()
    authority.configure_trust(trusting)
    settings = {"SENTINEL_MAX_CONNECTIONS": str(most), "SENTINEL_HEAD_TIMEOUT_S": "3"}
    for name, blobs in (("CERTIFICATE", certificate.cert_chain_pems), ("KEY", [certificate.private_key_pem])):
        path = arena.folder / f"greetings-{name}.pem"
        path.write_bytes(b"".join(blob.bytes() for blob in blobs))
        settings[f"SENTINEL_TLS_{name}"] = str(path)

    def wire() -> socket.socket:
        return trusting.wrap_socket(socket.create_connection((HOST, target.port), timeout=5), server_hostname=HOST)

    def is_well() -> bool:
        with contextlib.suppress(OSError), wire() as secured:
            secured.sendall(_post(f"greeted-{time.time_ns()}"))
            return secured.recv(65_536).startswith(b"HTTP/1.1 200")
        return False

    with arena.server(settings, trusting=trusting) as target:
        before = target.descriptors()
        for what, come in (("begin to greet", target.connect), ("have greeted", wire)):
            with contextlib.ExitStack() as crowd:
                for n in range(many):
                    with contextlib.suppress(OSError):
                        crowd.enter_context(come()).sendall(b"\x16\x03\x01" if n % 2 and come != wire else b"")
                if target.descriptors() > before + most + 160:  # 64 to spare, and files of a server that has just begun
                    broken.append(f"{many} that {what} took {target.descriptors() - before} file descriptors")
                if come != wire and not is_well():
                    broken.append(f"{many} that {what} keep an honest client out")
            time.sleep(4)
            if not is_well():
                broken.append(f"it does not decide after {many} that {what}")
    return Tried(2 * many, broken)


ATTACKS = [
    Attack("pipelining", "one connection takes all the time", pipelining),
    Attack("heads", "memory and time by endless heads", heads),
    Attack("slow", "connections that never finish", slow),
    Attack("unread", "memory by answers that nobody reads", unread),
    Attack("connections", "all connections for oneself", connections),
    Attack("greetings", "all places by TLS handshakes", greetings),
]
