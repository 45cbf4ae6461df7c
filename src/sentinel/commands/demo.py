"""`sentinel demo`: history, model, server and live traffic, with a view of what happens."""

import asyncio
import contextlib
import shutil
import signal
import time
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import msgspec
import numpy as np
import uvloop
from numpy.typing import NDArray
from rich.console import Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from sentinel.commands.declared_events import check_events_given
from sentinel.commands.demo_console import demo_console
from sentinel.commands.live import LiveEvent, Traffic, moved_to_now, outcome_body, parts_of, traffic
from sentinel.commands.load_table import put_tables
from sentinel.commands.progress import Stage, stages
from sentinel.commands.server_process import ServerFailed, ServerProcess, apart, port_is_free
from sentinel.commands.tables_read import with_tables_read
from sentinel.commands.terminal import Terminal
from sentinel.config import Settings
from sentinel.detector import Detector
from sentinel.detectors import load_detector
from sentinel.errors import InvalidDefinition
from sentinel.events.columns import LABEL_UNKNOWN
from sentinel.events.context_files import read_whole_history, with_context_of_frame
from sentinel.events.files import History, history_of_frame
from sentinel.events.reading import Reading
from sentinel.events.times import iso
from sentinel.model.bundle import Manifest
from sentinel.model.registry import Registry
from sentinel.model.signing import signer
from sentinel.policy.policies import Policy
from sentinel.record.applied import HomeDeployment
from sentinel.record.entries import RevokedRow, revoked_rows
from sentinel.record.home_reader import open_log
from sentinel.record.log import Follower, Kind
from sentinel.review.average_precision import average_precision
from sentinel.simulate.names import named
from sentinel.simulate.payments import simulate_all
from sentinel.train.figures.evaluate import recall_at_fpr
from sentinel.train.pipeline import Making, train
from sentinel.transport.client import Client, Unreachable

LIVE_SHARE = 0.2
SHOW_SHARE = 0.7
"""Of the live traffic, what is sent at full speed; the rest comes calmly, for as long as somebody looks around."""

CALM_RATE, CALM_LEAST, SPREAD_S = 3.0, 0.2, 5_000.0
"""Transactions a second after the show, at most and at least; between, what is left is spread over so many seconds."""

CONNECTIONS = 32
_MARK = ".sentinel-demo"
_RECENT = 5_000
_LOOK_EVERY_S = 0.5
_TOLD_SHARE = 0.95
_DAY_US = 86_400_000_000
_POLICY = Policy(review_at_fpr=0.002, block_at_fpr=0.0001)
"""What is decided of simulated payments: one in 145 is fraud, and with these two in five cases are."""
_ENDS = (signal.SIGTERM, signal.SIGHUP)
_terminal = Terminal()


class Summary(msgspec.Struct, frozen=True):
    """The last line of the demo. Detection is measured on what was decided; null while only one kind was seen."""

    decisions: int
    errors: int
    decisions_per_s: float
    p50_ms: float
    p99_ms: float
    average_precision: float | None
    recall_at_1pct_fpr: float | None


def run_demo(
    settings: Settings,
    name: str,
    data: Path | None,
    reading: Reading,
    *,
    seconds: float | None,
    rate: float,
    transactions: int,
) -> "View":
    """Run it; returns what was seen when `seconds` of live traffic are over, or at Ctrl-C or SIGTERM.

    However it ends, the server and the console end with it.
    """
    if rate <= 0 or transactions < 1000 or (seconds is not None and seconds <= 0):
        raise InvalidDefinition("--rate and --seconds must be above 0, --transactions at least 1000")
    if not port_is_free(settings.host, settings.port):
        raise ServerFailed(f"port {settings.port} is taken; stop what uses it, or choose another with --port")
    detector = load_detector(name)
    if data is None and detector.policy == Policy():
        detector = msgspec.structs.replace(detector, policy=_POLICY)
    _fresh_home(settings.home)
    with stages() as stage:
        history = _history(settings, detector, data, reading, transactions, stage)
        history = with_tables_read(history, detector.schema, reading, settings.secrets())
        history = moved_to_now(detector.schema, history)
        older, newer = parts_of(detector.schema, history, int(len(history) * (1 - LIVE_SHARE)))
        registry = Registry(settings.models_folder)
        manifest = train(detector, older, registry, stage, Making(sign=signer(settings.signing_key_file)))
        HomeDeployment(settings.home).promote(manifest.version)
        put_tables(settings.home, detector.schema, history.tables)
    live = traffic(detector, newer)
    environment = apart() | {
        "SENTINEL_DATABASE_URL": None,
        "SENTINEL_CASES": "on",
    }  # its people and its view are no one else's
    server = ServerProcess(settings.home, settings.host, settings.port, environment=environment)
    view = View(manifest, live, f"http://{settings.host}:{settings.port}")
    try:
        ends_as_by_ctrl_c()
        server.start()
        with demo_console(settings, environment) as shown:
            view.console = shown.told
            if not _terminal.is_terminal:  # there the view is printed when all is over
                _terminal.print(f"server {settings.url}", f"console {shown.told}", sep="\n", soft_wrap=True)
            with (
                contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError),
                Live(view, console=_terminal, refresh_per_second=4),
            ):
                uvloop.run(_stream(settings, live, view, rate, seconds))
    finally:
        server.stop()
    return view


def ends_as_by_ctrl_c() -> None:
    """Have a request to end, and a terminal that is closed, become a Ctrl-C: what was started ends, too.

    A handler that raised would be lost where the loop of events happens to run it.
    """

    def end(_number: int, _frame: FrameType | None) -> None:
        for one in _ENDS:
            signal.signal(one, signal.SIG_IGN)  # a second one does not disturb what the first one began
        signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are begun without it
    for one in _ENDS:
        if signal.getsignal(one) != signal.SIG_IGN:  # as nohup has it
            signal.signal(one, end)


def due_s(n: int, rate: float, *, ends: bool) -> NDArray[np.float64]:
    """When each of `n` transactions is sent (n,), in seconds since the first, which is sent at once.

    At `rate` a second. Unless the demo `ends` by itself, the last of them come calmly: the show is over, and whoever
    looks around finds that something still happens.

    >>> due_s(3, 2.0, ends=True).tolist()
    [0.0, 0.5, 1.0]
    """
    gaps = np.full(n, 1.0 / rate)
    if not ends:
        show = int(n * SHOW_SHARE)
        left = np.arange(n - show, 0, -1)
        gaps[show:] = 1.0 / np.minimum(np.clip(left / SPREAD_S, CALM_LEAST, CALM_RATE), rate)
    found: NDArray[np.float64] = np.cumsum(gaps) - gaps[0]
    return found


def _fresh_home(home: Path) -> None:
    """An empty folder of the demo's own; what an earlier demo left there is removed."""
    if home.exists() and any(home.iterdir()):
        if not (home / _MARK).exists():
            raise InvalidDefinition(f"{home} holds something else; give the demo an empty folder with --home")
        shutil.rmtree(home)
    home.mkdir(parents=True, exist_ok=True)
    (home / _MARK).touch()


def _history(
    settings: Settings,
    detector: Detector,
    data: Path | None,
    reading: Reading,
    transactions: int,
    stage: Stage,
) -> History:
    if data is not None:
        check_events_given(detector, reading)
        return read_whole_history(data, detector.schema, reading, secrets=settings.secrets())
    if detector.name != "payments":
        raise InvalidDefinition(f"only `payments` can be simulated; give a file for {detector.name} with --data")
    stage("simulating", 0, transactions)
    made = named(simulate_all(transactions, seed=42))
    stage("simulating", transactions, transactions)
    history = history_of_frame(made.payments.drop("fraud_pattern"), detector.schema)
    return with_context_of_frame(history, made.events, detector.schema)


class View:
    """What has happened so far, and how it looks."""

    def __init__(self, manifest: Manifest, live: Traffic, address: str) -> None:
        self.manifest = manifest
        self.live = live
        self.address = address
        self.begun = time.monotonic()
        self.ended = 0.0
        self.scores = np.full(len(live.ids), np.nan, np.float32)
        self.actions: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.latencies_ms: list[float] = []
        self.finished: deque[tuple[float, int]] = deque(maxlen=40)
        self.outcomes = self.events = 0
        self.alarms = np.zeros(len(live.ids), bool)
        self.truths = np.full(len(live.ids), LABEL_UNKNOWN, np.int8)  # by the outcomes that count
        self._due_us = live.time_us + _delay_us(live)
        self._numbers = {transaction_id: i for i, transaction_id in enumerate(live.ids)}
        self.now_us = int(live.time_us[0])
        self.state = "streaming"
        self.console = "not yet"

    def decided(self, i: int, status: int, body: bytes, latency_ns: int) -> None:
        """Take note of one answer."""
        if status != 200:
            self.refused(body)
            return
        answer = msgspec.json.decode(body)
        self.scores[i] = answer["fraud_probability"]
        self.alarms[i] = answer["decision"] != "approve"
        self.actions[answer["decision"]] += 1
        self.latencies_ms.append(latency_ns / 1e6)
        self.now_us = max(self.now_us, int(self.live.time_us[i]))

    def taken_back(self, rows: Sequence[RevokedRow]) -> None:
        """Take note of outcomes that count no longer, and of what counts in their place."""
        for row in rows:
            i = self._numbers.get(row.transaction_id)
            if i is not None:
                self.truths[i] = row.standing[-1].is_fraud if row.standing else LABEL_UNKNOWN

    def refused(self, body: bytes) -> None:
        """Take note of an answer that says what is wrong."""
        self.errors[body[:120].decode(errors="replace")] += 1

    def summary(self) -> Summary:
        """The figures of the whole run."""
        decided = ~np.isnan(self.scores) & (self.live.labels >= 0)
        scores, labels = self.scores[decided], self.live.labels[decided]
        both = len(labels) > 0 and 0 < int(labels.sum()) < len(labels)
        spent = (self.ended or time.monotonic()) - self.begun
        p50, p99 = np.percentile(self.latencies_ms, [50, 99]) if self.latencies_ms else (0.0, 0.0)
        return Summary(
            decisions=len(self.latencies_ms),
            errors=sum(self.errors.values()),
            decisions_per_s=round(len(self.latencies_ms) / max(spent, 1e-9), 1),
            p50_ms=round(float(p50), 3),
            p99_ms=round(float(p99), 3),
            average_precision=round(average_precision(scores, labels), 4) if both else None,
            recall_at_1pct_fpr=round(recall_at_fpr(scores, labels, 0.01), 4) if both else None,
        )

    def __rich__(self) -> Panel:
        """The live view."""
        self.finished.append((time.monotonic(), len(self.latencies_ms)))
        (since, before), (now, done) = self.finished[0], self.finished[-1]
        speed = (done - before) / (now - since) if now > since else 0.0
        recent = self.latencies_ms[-_RECENT:] or [0.0]
        p50, p95, p99 = np.percentile(recent, [50, 95, 99])
        table = Table.grid(padding=(0, 3))
        table.add_row("decisions", f"[bold]{done:,}[/bold]  ({speed:,.0f}/s)")
        table.add_row("latency", f"p50 {p50:.2f} ms   p95 {p95:.2f} ms   p99 {p99:.2f} ms")
        table.add_row("decided", _bar(self.actions))
        if self.live.events:
            table.add_row("context events told", f"{self.events:,}")
        table.add_row("outcomes told", f"{self.outcomes:,}")
        table.add_row("precision, recall", self._quality())
        table.add_row("transaction time", iso(self.now_us)[:19].replace("T", " "))
        table.add_row("console", self.console)
        if self.errors:
            table.add_row("[red]errors[/red]", "; ".join(f"{n} x {text}" for text, n in self.errors.most_common(2)))
        title = f"Sentinel  {self.manifest.detector} {self.manifest.version}  {self.address}"
        hint = Text(f"{self.state}; Ctrl-C ends it", style="dim")
        return Panel(Group(table, hint), title=title, expand=False)

    def _quality(self) -> str:
        """Of transactions so old that what is legitimate is told too: frauds are told first."""
        due = (self._due_us <= self.now_us) & ~np.isnan(self.scores)
        known = due & (self.truths != LABEL_UNKNOWN)
        frauds = known & (self.truths == 1)
        caught = int(np.sum(self.alarms & frauds))
        if not due.any():
            return f"known {int(self._due_us[0] - self.live.time_us[0]) / _DAY_US:.0f} days after a transaction"
        if not frauds.any():
            return "no fraud known yet"
        raised = int(np.sum(self.alarms & known))
        n = int(frauds.sum())
        return f"{caught / max(raised, 1):.2f}, {caught / n:.2f} of {n} frauds known so far"


def _delay_us(live: Traffic) -> int:
    """After how long nearly all outcomes of legitimate transactions are told; 0 where there are none."""
    legitimate = live.labels == 0
    if not legitimate.any():
        return 0
    delays = live.outcome_us[legitimate] - live.time_us[legitimate]
    return int(np.quantile(delays, _TOLD_SHARE, method="higher"))


def _bar(actions: Counter[str]) -> Text:
    colours = {"approve": "green", "challenge": "cyan", "review": "yellow", "block": "red"}
    shown = [name for name in colours if name != "challenge" or actions[name]]
    parts = [(f"{name} {actions[name]:,}   ", colours[name]) for name in shown]
    return Text.assemble(*parts)


async def _stream(settings: Settings, live: Traffic, view: View, rate: float, seconds: float | None) -> None:
    """Send the transactions in their time whatever the answers do, and context and outcomes in theirs."""
    deadline = None if seconds is None else time.monotonic() + seconds
    view.begun = time.monotonic()
    watching = asyncio.create_task(_watch_revocations(settings.home, view))
    by_outcome = np.argsort(live.outcome_us, kind="stable")
    due = told = 0
    at_s, show = due_s(len(live.ids), rate, ends=seconds is not None), int(len(live.ids) * SHOW_SHARE)
    async with (
        Client(settings.host, settings.port, CONNECTIONS, settings.admin_key) as client,
        asyncio.TaskGroup() as tasks,
    ):
        for i in range(len(live.ids)):
            if deadline is None and i == show:
                view.state = "the show is over, and payments go on calmly"
            ahead = view.begun + float(at_s[i]) - time.monotonic()
            if ahead > 0:
                await asyncio.sleep(ahead)
            if deadline is not None and time.monotonic() >= deadline:
                break
            while told < len(live.events) and live.events[told].time_us <= live.time_us[i]:
                tasks.create_task(_report(client, live.events[told], view))
                told += 1
            tasks.create_task(_decide(client, live, view, i))
            while due < len(by_outcome) and live.outcome_us[by_outcome[due]] <= view.now_us:
                tasks.create_task(_tell(client, live, view, int(by_outcome[due])))
                due += 1
    view.ended = time.monotonic()
    view.state = "done" if deadline is not None else "all sent, the server stays up"
    await asyncio.sleep(86_400 * 365 if deadline is None else max(deadline - time.monotonic(), 0))
    watching.cancel()


async def _watch_revocations(home: Path, view: View) -> None:
    """Tell the view what `sentinel outcomes revoke` takes back."""
    with contextlib.closing(open_log(home)) as log:
        follower = Follower(log, log.durable)
        while True:
            for record in follower.next():
                if record.kind == Kind.REVOKED:
                    view.taken_back(revoked_rows(record))
            await asyncio.sleep(0 if follower.lag else _LOOK_EVERY_S)


async def _decide(client: Client, live: Traffic, view: View, i: int) -> None:
    try:
        view.decided(i, *await client.post("/v1/score", live.bodies[i]))
    except Unreachable as error:
        view.errors[str(error)] += 1


async def _report(client: Client, event: LiveEvent, view: View) -> None:
    try:
        status, answer, _ = await client.post("/v1/events", event.body)
    except Unreachable as error:
        view.errors[str(error)] += 1
        return
    if status == 200:
        view.events += 1
    else:
        view.refused(answer)


async def _tell(client: Client, live: Traffic, view: View, i: int) -> None:
    body = outcome_body(live, i)
    try:
        status, answer, _ = await client.post("/v1/outcomes", body)
    except Unreachable as error:
        view.errors[str(error)] += 1
        return
    if status == 200:
        view.outcomes += 1
        view.truths[i] = live.labels[i]
    else:
        view.refused(answer)
