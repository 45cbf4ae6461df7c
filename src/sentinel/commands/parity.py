"""The proof that live features are offline features: every bit, through the real server and a crash."""

import asyncio
import contextlib
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np
import polars as pl
import uvloop
from numpy.typing import NDArray

from sentinel.commands.live import Traffic, moved_to_now, outcome_body, parts_of, traffic
from sentinel.commands.progress import Stage
from sentinel.commands.server_process import ServerProcess, apart, free_port
from sentinel.config import Settings, read_settings
from sentinel.detector import Detector
from sentinel.errors import SentinelError
from sentinel.events.columns import LABEL_UNKNOWN, EventColumns, concatenate, outcome_rows
from sentinel.events.files import History
from sentinel.events.replay import columns_of_frame, context_columns
from sentinel.model.bundle import Bundle, load_bundle
from sentinel.model.registry import Registry
from sentinel.policy.model_call import OVERLOADED
from sentinel.record.applied import HomeDeployment, log_folder
from sentinel.record.entries import ContextRow, DecisionRow, OutcomeRow, context_rows, decision_rows
from sentinel.record.entries import outcome_rows as stored_outcomes
from sentinel.record.log import Follower, Kind
from sentinel.record.log_reader import FileLogReader
from sentinel.train.pipeline import train
from sentinel.transport.client import Client, Unreachable

LATE_SHARE = 0.02
REPEATED_SHARE = 0.02
FARTHEST_LATE = 3_000
_HOST = "127.0.0.1"
_Row: TypeAlias = DecisionRow | OutcomeRow | ContextRow
_QUICK = {"trees": 20, "patience": 20, "max_depth": 4, "tree_method": "hist"}


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


@dataclass(slots=True)
class _Sent:
    """What went over the wire, in order.

    Transactions are numbered as in the history, context events after them, and outcomes as -1 - that of the
    transaction.
    """

    order: list[int]
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
    quick = msgspec.structs.replace(detector, training=msgspec.structs.replace(detector.training, **_QUICK))
    rng = random.Random(seed)  # noqa: S311 - not for secrets
    history = moved_to_now(detector.schema, history)
    older, newer = parts_of(detector.schema, history, len(history) - events)
    newer = replace(newer, frame=_shuffled_late(newer.frame, rng))
    with tempfile.TemporaryDirectory(prefix="sentinel-parity-") as folder:
        settings = Settings(home=Path(folder))
        registry = Registry(settings.models)
        HomeDeployment(settings.home).promote(train(quick, older, registry, stage).version)
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


def _plan(live: Traffic) -> list[int]:
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
    whats = np.concatenate([np.arange(len(newest)), len(newest) + told, -1 - due])
    return [int(one) for one in whats[np.argsort(keys, kind="stable")]]


async def _send(server: ServerProcess, live: Traffic, rng: random.Random, done: Callable[[int], None]) -> _Sent:
    planned = _plan(live)
    sent = _Sent([])
    server.start()
    kill_after = rng.randint(len(planned) * 2 // 5, len(planned) * 3 // 5)
    begin, killed, transactions = 0, False, 0
    batch: list[int] = []
    while begin < len(planned):
        async with Client(_HOST, server.port, 1, read_settings({}).admin_key) as client:
            while begin < len(planned):
                if not batch:
                    size = rng.choice((1, 2, 7, 50, 300, 900))
                    # One kind after the other: so they fill a request instead of taking turns.
                    batch = sorted(planned[begin : begin + size], key=lambda one: _PATHS.index(_path_of(live, one)))
                if not killed and begin > kill_after:
                    killed = True
                    await _crash(server, client, live, batch)
                    break
                await _post(client, live, batch, sent, rng, after_kill=killed)
                sent.order += batch
                begin += len(batch)
                transactions += sum(1 for one in batch if 0 <= one < len(live.ids))
                batch = []
                done(transactions)
    return sent


async def _crash(server: ServerProcess, client: Client, live: Traffic, batch: list[int]) -> None:
    """Kill the server while it works on the beginning of a batch; all of it is sent again afterwards."""
    asked = asyncio.ensure_future(client.post(*_request(live, _leading_run(live, batch))))
    await asyncio.sleep(0.002)
    await asyncio.to_thread(server.kill)
    with contextlib.suppress(Unreachable):
        await asked
    await asyncio.to_thread(server.start)


_PATHS = ("/v1/events", "/v1/score", "/v1/outcomes")
"""In the order in which the server takes what came in one turn."""


def _path_of(live: Traffic, one: int) -> str:
    """Where what has this number is sent."""
    return "/v1/outcomes" if one < 0 else "/v1/score" if one < len(live.ids) else "/v1/events"


def _leading_run(live: Traffic, batch: list[int]) -> list[int]:
    """What of one kind a stretch of the plan begins with: what one request can hold."""
    return list(takewhile(lambda one: _path_of(live, one) == _path_of(live, batch[0]), batch))


def _request(live: Traffic, run: list[int]) -> tuple[str, bytes]:
    """Path and body of the request for transactions, context events, or outcomes."""
    n = len(live.ids)
    bodies = (
        outcome_body(live, -1 - one) if one < 0 else live.bodies[one] if one < n else live.events[one - n].body
        for one in run
    )
    return _path_of(live, run[0]), b"[" + b",".join(bodies) + b"]"


async def _post(
    client: Client, live: Traffic, batch: list[int], sent: _Sent, rng: random.Random, *, after_kill: bool
) -> None:
    """Send a stretch of the plan; runs of one kind are requests of their own."""
    while batch:
        run = _leading_run(live, batch)
        batch = batch[len(run) :]
        again = [i for i in run if rng.random() < REPEATED_SHARE]
        answers = await _checked(client, *_request(live, run + again))
        named = "event_id" if _path_of(live, run[0]) == "/v1/events" else "transaction_id"
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
    detector: Detector, newer: History, live: Traffic, order: list[int], received_us: NDArray[np.int64]
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
    where = np.array([one if one >= 0 else len(rows) + len(live.events) - 1 - one for one in order])
    plan = detector.plan({})
    counts = np.array([one >= 0 or plan.is_trusted(live.sources[-1 - one]) for one in order])
    return replace(all_of_them.rows(where), received_us=received_us).rows(counts)


def _taken(home: Path) -> list[_Row]:
    """What the log holds, in its order."""
    log = FileLogReader(log_folder(home))
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


def _check_order(live: Traffic, sent: list[int], taken: Sequence[_Row]) -> None:
    """Raise SentinelError when something that was acknowledged is lost, there twice, or has moved."""
    numbers = {transaction_id: n for n, transaction_id in enumerate(live.ids)}
    events = {one.event_id: len(live.ids) + n for n, one in enumerate(live.events)}
    order = [
        events[row.event_id]
        if isinstance(row, ContextRow)
        else numbers[row.transaction_id]
        if isinstance(row, DecisionRow)
        else -1 - numbers[row.transaction_id]
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
