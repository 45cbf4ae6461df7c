"""The proof that live features are offline features: every bit, through the real server and a crash."""

import asyncio
import contextlib
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import msgspec
import numpy as np
import polars as pl
import uvloop
from numpy.typing import NDArray

from sentinel.commands.live import Traffic, moved_to_now, outcome_body, parts_of, traffic
from sentinel.commands.load_table import put_tables
from sentinel.commands.progress import Stage
from sentinel.commands.server_process import ServerProcess, apart, free_port
from sentinel.config import Settings, read_settings
from sentinel.detector import Detector
from sentinel.errors import SentinelError
from sentinel.events.columns import LABEL_UNKNOWN, EventColumns, concatenate, outcome_rows
from sentinel.events.files import History
from sentinel.events.replay import columns_of_frame, context_columns
from sentinel.learner import XGBoost
from sentinel.model.bundle import Bundle, load_bundle
from sentinel.model.registry import Registry
from sentinel.policy.model_call import OVERLOADED
from sentinel.record.applied import HomeDeployment
from sentinel.record.entries import ContextRow, DecisionRow, OutcomeRow, context_rows, decision_rows
from sentinel.record.entries import outcome_rows as stored_outcomes
from sentinel.record.home_reader import open_log
from sentinel.record.log import Follower, Kind
from sentinel.train.pipeline import train
from sentinel.transport.client import Client, Unreachable

LATE_SHARE = 0.02
REPEATED_SHARE = 0.02
FARTHEST_LATE = 3_000
_HOST = "127.0.0.1"
_Row: TypeAlias = DecisionRow | OutcomeRow | ContextRow
_PATHS = {"event": "/v1/events", "transaction": "/v1/score", "outcome": "/v1/outcomes"}
"""Where each kind of step is sent, in the order in which the server takes what came in one turn."""
_QUICK = XGBoost(trees=20, patience=20, max_depth=4)


class ParityReport(msgspec.Struct, frozen=True):
    """What was compared. `differing` counts features of transactions that are not equal to the last bit.

    `shed` transactions were decided by the rules because the machine was too slow for their deadline; their features
    are compared as well.
    """

    detector: str
    transactions: int
    features: int
    compared: int
    differing: int
    first_differences: list[str]
    outcomes: int
    events: int
    late: int
    repeated: int
    shed: int
    requests: int
    killed: int
    replayed_after_kill: int


class Step(NamedTuple):
    """One thing to send: `what` is a key of `_PATHS`; n is its number, of an outcome that of its transaction."""

    what: str
    n: int


@dataclass(slots=True)
class _Sent:
    """What went over the wire, in order."""

    order: list[Step]
    requests: int = 0
    repeated: int = 0
    replayed_after_kill: int = 0


def parity(detector: Detector, history: History, events: int, seed: int, stage: Stage) -> ParityReport:
    """Train quickly on the older part, send the newest `events` transactions through a server, compare.

    They go in random batch sizes, some late, some twice, with context and outcomes in between and one kill -9 while a
    batch is in flight. The other side is one replay of the same rows in the same order, read from the file and not from
    the wire.
    """
    events = min(events, len(history) // 2)
    quick = msgspec.structs.replace(detector, training=msgspec.structs.replace(detector.training, learner=_QUICK))
    rng = random.Random(seed)  # noqa: S311 - not for secrets
    history = moved_to_now(detector.schema, history)
    older, newer = parts_of(detector.schema, history, len(history) - events)
    newer = replace(newer, frame=_shuffled_late(newer.frame, rng))
    with tempfile.TemporaryDirectory(prefix="sentinel-parity-") as folder:
        settings = Settings(home=Path(folder))
        registry = Registry(settings.models_folder)
        HomeDeployment(settings.home).promote(train(quick, older, registry, stage).version)
        put_tables(settings.home, detector.schema, history.tables)
        live = traffic(detector, newer)
        server = ServerProcess(settings.home, _HOST, free_port(_HOST), environment=apart())
        try:
            sent = uvloop.run(_send(server, live, rng, lambda done: stage("live", done, events)))
        finally:
            server.kill()
        bundle = load_bundle(registry.path("v1"))
        return _compare(detector, bundle, newer, live, sent, _taken(settings.home))


def _shuffled_late(frame: pl.DataFrame, rng: random.Random) -> pl.DataFrame:
    """The rows in an order of arrival in which some come late."""
    places = [i + (rng.randint(1, FARTHEST_LATE) if rng.random() < LATE_SHARE else 0) for i in range(len(frame))]
    return frame[np.argsort(np.array(places), kind="stable")]


def _plan(live: Traffic) -> list[Step]:
    """Transactions with the context and the outcomes that become known between them; these come first, in this order.

    What comes after the last transaction is left out.
    """
    newest = np.maximum.accumulate(live.time_us)
    place = np.searchsorted(newest, live.outcome_us, side="left")
    place = np.maximum(place, np.arange(len(newest)) + 1)  # one that comes very late comes before its outcome still
    due = np.flatnonzero(place < len(newest))
    due = due[np.argsort(live.outcome_us[due], kind="stable")]
    begins = np.searchsorted(newest, [one.time_us for one in live.events], side="left")
    told = np.flatnonzero(begins < len(newest))
    keys = np.concatenate([np.arange(len(newest)) + 0.5, begins[told], place[due]])
    steps = [Step("transaction", n) for n in range(len(newest))]
    steps += [Step(what, int(n)) for what, some in (("event", told), ("outcome", due)) for n in some]
    return [steps[place] for place in np.argsort(keys, kind="stable")]


async def _send(server: ServerProcess, live: Traffic, rng: random.Random, done: Callable[[int], None]) -> _Sent:
    planned = _plan(live)
    sent = _Sent([])
    server.start()
    kill_after = rng.randint(len(planned) * 2 // 5, len(planned) * 3 // 5)
    begin, killed, transactions, order = 0, False, 0, list(_PATHS)
    batch: list[Step] = []
    while begin < len(planned):
        async with Client(_HOST, server.port, 1, read_settings({}).admin_key) as client:
            while begin < len(planned):
                if not batch:
                    size = rng.choice((1, 2, 7, 50, 300, 900))
                    # One kind after the other: so they fill a request instead of taking turns.
                    batch = sorted(planned[begin : begin + size], key=lambda step: order.index(step.what))
                if not killed and begin > kill_after:
                    killed = True
                    await _crash(server, client, live, batch)
                    break
                await _post(client, live, batch, sent, rng, after_kill=killed)
                sent.order += batch
                begin += len(batch)
                transactions += sum(step.what == "transaction" for step in batch)
                batch = []
                done(transactions)
    return sent


async def _crash(server: ServerProcess, client: Client, live: Traffic, batch: list[Step]) -> None:
    """Kill the server while it works on the beginning of a batch; all of it is sent again afterwards."""
    asked = asyncio.ensure_future(client.post(*_request(live, _leading_run(batch))))
    await asyncio.sleep(0.002)
    await asyncio.to_thread(server.kill)
    with contextlib.suppress(Unreachable):
        await asked
    await asyncio.to_thread(server.start)


def _leading_run(batch: list[Step]) -> list[Step]:
    """What of one kind a stretch of the plan begins with: what one request can hold."""
    return list(takewhile(lambda step: step.what == batch[0].what, batch))


def _request(live: Traffic, run: list[Step]) -> tuple[str, bytes]:
    """Path and body of the request for steps of one kind."""
    return _PATHS[run[0].what], b"[" + b",".join(_body(live, step) for step in run) + b"]"


def _body(live: Traffic, step: Step) -> bytes:
    if step.what == "outcome":
        return outcome_body(live, step.n)
    return live.events[step.n].body if step.what == "event" else live.bodies[step.n]


async def _post(
    client: Client, live: Traffic, batch: list[Step], sent: _Sent, rng: random.Random, *, after_kill: bool
) -> None:
    """Send a stretch of the plan; runs of one kind are requests of their own."""
    while batch:
        run = _leading_run(batch)
        batch = batch[len(run) :]
        again = [step for step in run if rng.random() < REPEATED_SHARE]
        answers = await _checked(client, *_request(live, run + again))
        named = "event_id" if run[0].what == "event" else "transaction_id"
        first = {answer[named]: answer for answer in answers[: len(run)]}
        for answer in answers[len(run) :]:
            if answer != {**first[answer[named]], "replayed": True}:
                raise SentinelError(f"asked twice, answered differently: {answer}")
        sent.repeated += len(again)
        sent.replayed_after_kill += sum(answer["replayed"] for answer in answers[: len(run)]) if after_kill else 0
        sent.requests += 1


async def _checked(client: Client, path: str, asked: bytes) -> list[dict[str, Any]]:
    status, body, _ = await client.post(path, asked)
    answers: list[dict[str, Any]] = msgspec.json.decode(body) if status == 200 else []
    refused = [answer for answer in answers if "error" in answer]
    if status != 200 or refused:
        reason = refused[0]["error"] if refused else body[:300].decode(errors="replace")
        raise SentinelError(f"{path} answered {status}: {reason}")
    return answers


def _offline_events(
    detector: Detector, newer: History, live: Traffic, order: list[Step], received_us: NDArray[np.int64]
) -> EventColumns:
    """The same events in the same order, from the file, as far as their sources are trusted.

    When they were received (n,) only the log knows.
    """
    schema = msgspec.structs.replace(detector.schema, outcome_time=None)
    rows = columns_of_frame(schema, newer.frame)
    blind = EventColumns(
        **{name: getattr(rows, name) for name in rows.__slots__ if name != "labels"},
        labels=np.full(len(rows), LABEL_UNKNOWN, np.int8),
    )
    outcomes = outcome_rows(schema, rows.ids, live.outcome_us, live.outcome_us, live.labels)
    context = [] if newer.context is None else [context_columns(schema, newer.context)]
    all_of_them = concatenate([blind, *context, outcomes])
    begins = {"transaction": 0, "event": len(rows), "outcome": len(rows) + len(live.events)}
    where = np.array([begins[step.what] + step.n for step in order])
    plan = detector.plan({})
    counts = np.array([step.what != "outcome" or plan.is_trusted(live.sources[step.n]) for step in order])
    return replace(all_of_them.rows(where), received_us=received_us).rows(counts)


def _taken(home: Path) -> list[_Row]:
    """What the log holds, in its order."""
    log = open_log(home)
    taken: list[_Row] = []
    for page in Follower(log, 0).rest():
        for record in page:
            if record.kind == Kind.DECIDED:
                taken += decision_rows(record)
            elif record.kind == Kind.OUTCOMES:
                taken += stored_outcomes(record)
            elif record.kind == Kind.CONTEXT:
                taken += context_rows(record)
    log.close()
    return taken


def _check_order(live: Traffic, sent: list[Step], taken: Sequence[_Row]) -> None:
    """Raise SentinelError when something that was acknowledged is lost, there twice, or has moved."""
    numbers = {transaction_id: n for n, transaction_id in enumerate(live.ids)}
    events = {one.event_id: n for n, one in enumerate(live.events)}
    order = [
        Step("event", events[row.event_id])
        if isinstance(row, ContextRow)
        else Step("transaction" if isinstance(row, DecisionRow) else "outcome", numbers[row.transaction_id])
        for row in taken
    ]
    lost = set(sent) - set(order)
    if lost:
        one = next(iter(lost))
        raise SentinelError(
            f"{len(lost)} acknowledged transactions, events and outcomes are not in the log, "
            f"{_request(live, [one])[1]!r} among them"
        )
    if order != sent:
        raise SentinelError("the log holds something twice, or in another order than they were sent")


def _compare(
    detector: Detector,
    bundle: Bundle,
    newer: History,
    live: Traffic,
    sent: _Sent,
    taken: Sequence[_Row],
) -> ParityReport:
    _check_order(live, sent.order, taken)
    store = bundle.new_store()
    received_us = np.array([row.received_us for row in taken], np.int64)
    offline = store.advance(_offline_events(detector, newer, live, sent.order, received_us))
    rows = [row for row in taken if isinstance(row, DecisionRow)]
    online = np.array([row.features for row in rows]).reshape(offline.rows.shape)
    differs = _bits(online) != _bits(offline.rows)
    names = bundle.manifest.plan.names
    examples = [
        f"{rows[i].transaction_id} {names[j]}: live {online[i, j]!r}, offline {offline.rows[i, j]!r}"
        for i, j in np.argwhere(differs)[:5]
    ]
    return ParityReport(
        detector=detector.name,
        transactions=len(rows),
        features=len(names),
        compared=int(online.size),
        differing=int(np.count_nonzero(differs)),
        first_differences=examples,
        outcomes=sum(isinstance(row, OutcomeRow) for row in taken),
        events=sum(isinstance(row, ContextRow) for row in taken),
        late=int(np.count_nonzero(offline.late)),
        repeated=sent.repeated,
        shed=sum(1 for row in rows if row.decider.degraded == OVERLOADED),
        requests=sent.requests,
        killed=1,
        replayed_after_kill=sent.replayed_after_kill,
    )


def _bits(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bits of each value, every NaN alike."""
    bits: NDArray[np.int64] = np.ascontiguousarray(np.where(np.isnan(values), np.nan, values)).view(np.int64)
    return bits
