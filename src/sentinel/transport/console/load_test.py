"""The load test: sends made-up transactions at an even pace, and measures how long each answer takes.

It is an open loop: a transaction is due at its moment whether the ones before it are answered or not, and its latency
counts from that moment. A server that is slow is seen to be (no coordinated omission).
"""

import asyncio
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from sentinel.errors import Conflict, InvalidInput, SentinelError
from sentinel.events.times import clock_us, iso
from sentinel.transport.console.server import Server

MOST_RATE, SHORTEST_S, LONGEST_S = 200, 5, 60
SETTLES_S = 2.0
"""How long answers are waited for after the last transaction was sent."""

_CONNECTIONS = 32
_LOOK_S = 1.0
_PACE_S = 0.002
_KEYS = 50


class Example(msgspec.Struct, frozen=True):
    """A transaction of the detector, and which of its fields are made anew for each that is sent."""

    transaction: dict[str, Any]
    id_field: str
    time_field: str
    amount_field: str | None
    keys: tuple[str, ...]

    def made(self, run: str, n: int, chance: random.Random, now_us: int) -> dict[str, Any]:
        """The n-th one of a run: an id and keys that begin with `load-`, so that they are nobody's; another amount."""
        made = self.transaction | {self.id_field: f"load-{run}-{n}", self.time_field: iso(now_us)}
        made |= {name: f"load-{name}-{chance.randrange(_KEYS)}" for name in self.keys if name in made}
        amount = made.get(self.amount_field or "")
        if isinstance(amount, int | float):
            made[self.amount_field or ""] = round(amount * chance.uniform(0.5, 1.5), 2)
        return made


class Plan(msgspec.Struct, frozen=True):
    """How many a second for how long, and who asked for it. Raises InvalidInput for more or less than there may be."""

    rate: int
    seconds: int
    who: str

    def __post_init__(self) -> None:
        if not 1 <= self.rate <= MOST_RATE:
            raise InvalidInput(f"Expected 1 to {MOST_RATE} transactions a second, got {self.rate}", "$.rate")
        if not SHORTEST_S <= self.seconds <= LONGEST_S:
            raise InvalidInput(f"Expected {SHORTEST_S} to {LONGEST_S} seconds, got {self.seconds}", "$.seconds")


class LoadRun:
    """One load test. `state` may be asked for from any thread."""

    def __init__(self, server: Server, plan: Plan, example: Example, may_go_on: Callable[[], bool]) -> None:
        self.plan, self.name = plan, f"{clock_us() // 1_000_000:x}"
        self.is_over = False
        self._server, self._example, self._may_go_on = server, example, may_go_on
        self._chance = random.Random(self.name)  # noqa: S311 - amounts, no secrets
        self._stopped = threading.Event()
        self._began_s = time.monotonic()
        self._ended_s: float | None = None
        self._why = "done"
        self._sent = 0
        self._answers: deque[tuple[float, float]] = deque()  # when it was due, and after how long it was answered
        self._actions: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._unanswered = 0

    def stop(self, why: str) -> None:
        """Send no more."""
        if not self._stopped.is_set() and not self.is_over:
            self._why = why
            self._stopped.set()

    def run(self) -> None:
        """Send and measure, until all is sent or it is stopped."""
        try:
            asyncio.run(self._run())
        except SentinelError as error:
            self._why = str(error)
        finally:
            self._ended_s = time.monotonic()
            self.is_over = True

    def state(self) -> dict[str, Any]:
        """How it goes: counts, latencies in milliseconds over all that was answered, and by second of the test."""
        answers = list(self._answers)
        elapsed_s = (self._ended_s or time.monotonic()) - self._began_s
        took = np.array([ms for _, ms in answers])
        return {
            "name": self.name, "is_over": self.is_over, "why": self._why if self.is_over else None,
            "who": self.plan.who, "rate": self.plan.rate, "seconds": self.plan.seconds, "elapsed_s": elapsed_s,
            "sent": self._sent, "received": len(answers), "errors": sum(self._errors.values()),
            "said": [said for said, _ in self._errors.most_common(3)], "unanswered": self._unanswered,
            "in_flight": 0 if self.is_over else self._sent - len(answers) - sum(self._errors.values()),
            "actual_rate": self._sent / min(max(elapsed_s, 1.0), self.plan.seconds), "actions": dict(self._actions),
            **_latencies(took), "series": _series(answers, self.plan.seconds),
        }  # fmt: skip

    async def _run(self) -> None:
        looking = asyncio.create_task(self._look())
        sending: set[asyncio.Task[None]] = set()
        try:
            async with (
                asyncio.timeout(self.plan.seconds + SETTLES_S + 10),
                self._server.connections(_CONNECTIONS) as client,
            ):
                self._began_s = time.monotonic()
                path = self._server.at("/v1/score")
                for n in range(self.plan.rate * self.plan.seconds):
                    due_s = self._began_s + n / self.plan.rate
                    while (wait_s := due_s - time.monotonic()) > 0 and not self._stopped.is_set():
                        await asyncio.sleep(max(min(wait_s, _LOOK_S / 4), _PACE_S))
                    if self._stopped.is_set():
                        break
                    body = msgspec.json.encode(self._example.made(self.name, n, self._chance, clock_us()))
                    task = asyncio.create_task(self._send(client.post(path, body), due_s))
                    self._sent += 1
                    sending.add(task)
                    task.add_done_callback(sending.discard)
                if sending:
                    await asyncio.wait(set(sending), timeout=SETTLES_S)
        except TimeoutError:
            self._why = "the server took too long to connect"
        finally:
            looking.cancel()
            for task in list(sending):
                task.cancel()
            await asyncio.gather(looking, *sending, return_exceptions=True)
            self._unanswered = self._sent - len(self._answers) - self._errors.total()

    async def _send(self, answer: Any, due_s: float) -> None:
        try:
            status, body, _ = await answer
        except SentinelError as error:
            self._errors[str(error)] += 1
            return
        if status != 200:
            self._errors[f"{status}: {_said(body)}"] += 1
            return
        self._answers.append((due_s - self._began_s, (time.monotonic() - due_s) * 1000))
        self._actions[str(msgspec.json.decode(body).get("decision"))] += 1

    async def _look(self) -> None:
        """End it with the session of whoever began it, or with their right to send."""
        while True:
            await asyncio.sleep(_LOOK_S)
            if not await asyncio.to_thread(self._may_go_on):
                self.stop("whoever began it is logged out, or may not send any more")


class LoadTester:
    """The one load test of a console that may run; its last one stays to be looked at."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._turn = threading.Lock()
        self._run: LoadRun | None = None
        self._thread: threading.Thread | None = None

    def begin(self, plan: Plan, example: Example, may_go_on: Callable[[], bool]) -> LoadRun:
        """Begin one; `may_go_on` is asked each second. Raises Conflict while another one runs."""
        with self._turn:
            if self._run is not None and not self._run.is_over:
                raise Conflict(f"A load test of {self._run.plan.who} is running; stop it, or wait until it is done")
            self._run = LoadRun(self._server, plan, example, may_go_on)
            self._thread = threading.Thread(target=self._run.run, name="load test", daemon=True)
            self._thread.start()
            return self._run

    def stop(self, why: str) -> None:
        """End the one that runs, if one does; answers on their way may take two seconds more."""
        run = self._run
        if run is not None:
            run.stop(why)

    def close(self) -> None:
        """End it, and wait until it has ended."""
        self.stop("the console ends")
        if self._thread is not None:
            self._thread.join()

    def state(self) -> dict[str, Any] | None:
        """How it goes or went; None before the first."""
        return None if self._run is None else self._run.state()


def _latencies(took_ms: Any) -> dict[str, float | None]:
    if len(took_ms) == 0:
        return dict.fromkeys(("average", "p50", "p95", "p99"))
    p50, p95, p99 = np.percentile(took_ms, [50, 95, 99])
    return {"average": float(took_ms.mean()), "p50": float(p50), "p95": float(p95), "p99": float(p99)}


def _series(answers: list[tuple[float, float]], seconds: int) -> dict[str, list[float | None]]:
    """By second in which they were due: how many were answered, and how long half and 99 of 100 took at most."""
    by_second: list[list[float]] = [[] for _ in range(seconds)]
    for due_s, ms in answers:
        by_second[min(int(due_s), seconds - 1)].append(ms)
    found = [_latencies(np.array(one)) for one in by_second]
    return {
        "at": [float(n) for n in range(seconds)], "answered": [float(len(one)) for one in by_second],
        "p50": [one["p50"] for one in found], "p99": [one["p99"] for one in found],
    }  # fmt: skip


def _said(body: bytes) -> str:
    try:
        return str(msgspec.json.decode(body)["error"])[:200]
    except (msgspec.MsgspecError, KeyError, TypeError):
        return "what it said is no JSON"
