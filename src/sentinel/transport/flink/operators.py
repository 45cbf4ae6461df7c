"""The operators of the job: Flink calls them with an event and the state of its key.

Between them an event is a plain tuple: that is pickled in a third of the time of a Travelling.
"""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyflink.common import Row, Types
from pyflink.datastream import KeyedProcessFunction, KeySelector, OutputTag, ProcessFunction, RuntimeContext, TimeDomain
from pyflink.datastream.state import ValueStateDescriptor

from sentinel.config import read_settings
from sentinel.errors import SentinelError
from sentinel.events.card_numbers import masked_ends
from sentinel.events.times import duration_us
from sentinel.features.event_cells import EventCells
from sentinel.features.store import MemoryStore
from sentinel.model.bundle import Bundle, load_bundle
from sentinel.transport.flink.deciding import Decider
from sentinel.transport.flink.job_spec import JobSpec
from sentinel.transport.flink.keeping import Ids, Profiles, Verdict
from sentinel.transport.flink.profile_writing import ProfileWriter, keeper_store
from sentinel.transport.flink.reading import Reader, Travelling, as_sent
from sentinel.transport.wide.seal import Seal

KEYED = Types.ROW([Types.STRING(), Types.STRING()])
"""What goes to a topic: key and value."""

DEAD_LETTERS = OutputTag("dead-letters", Types.ROW([Types.STRING()] * 4))
"""Key, value as a text in which every byte is a character, reason, and the topic that it came from."""

WRITTEN = OutputTag("written", Types.PICKLED_BYTE_ARRAY())
BYTES = "iso-8859-1"  # a text of Java in which every byte is a sign, so none is lost on the way from the topic
_LONGEST_REASON = 500
_US_PER_MS, _LOOK_AGAIN_MS = 1_000, 1_000
_PACKED = Travelling._fields.index("packed")
_REFUSED = {
    Verdict.CONFLICT: "this id was decided before with other content; send the same content again, or a new id",
    Verdict.OTHER_ANSWER: "a front has answered otherwise than was decided before of this transaction; that holds",
}
_loading = threading.Lock()
_loaded: dict[Path, Bundle] = {}


def bundle_at(folder: Path) -> Bundle:
    """The bundle in a folder, loaded once in a process; operators run in threads."""
    with _loading:
        if folder not in _loaded:
            _loaded[folder] = load_bundle(folder)
        return _loaded[folder]


def dead_letter(topic: str, key: str | None, raw: bytes | None, reason: str) -> tuple[OutputTag, Any]:
    """What cannot be taken, as it came, and why."""
    return DEAD_LETTERS, Row(
        key, None if raw is None else raw.decode(BYTES), masked_ends(reason, _LONGEST_REASON), topic
    )


class Read(ProcessFunction):
    """Bytes of a topic become events; what cannot be read goes to the dead letters."""

    def __init__(self, spec: JobSpec, topic: str) -> None:
        self._spec, self._name, self._topic = spec, topic, f"{spec.prefix}{topic}"

    def open(self, runtime_context: RuntimeContext) -> None:
        """Load the schema and the key of the secrets."""
        settings = read_settings({"home": self._spec.home})
        seal = Seal(settings.fronts_keys(), self._topic) if settings.has_fronts_key else None
        reader = Reader(bundle_at(self._spec.bundle).manifest.plan, settings.secrets(), seal)
        self._read = reader.outcome if self._name == "outcomes" else reader.transaction

    def process_element(self, value: str | None, ctx: ProcessFunction.Context) -> Iterator[Any]:
        """One record: its bytes as text, its time the broker's."""
        if value is None:
            yield dead_letter(self._topic, None, None, "a record without a value")
            return
        raw = value.encode(BYTES)
        try:
            yield tuple(self._read(raw, ctx.timestamp() * _US_PER_MS))
        except SentinelError as error:
            yield dead_letter(self._topic, None, raw, str(error))


class Once(KeyedProcessFunction):
    """By id: every transaction goes on once, and an outcome learns its keys."""

    def __init__(self, spec: JobSpec) -> None:
        self._spec = spec

    def open(self, runtime_context: RuntimeContext) -> None:
        """Find the state."""
        settings = read_settings({"home": self._spec.home})
        self._ids = Ids(bundle_at(self._spec.bundle).manifest.plan)
        self._remember_ms = duration_us(settings.remember_ids) // _US_PER_MS
        self._kept = runtime_context.get_state(ValueStateDescriptor("id", Types.PICKLED_BYTE_ARRAY()))

    def process_element(self, value: tuple[Any, ...], ctx: KeyedProcessFunction.Context) -> Iterator[Any]:
        """One event."""
        before = self._kept.value()
        judged, kept = self._ids.take(Travelling(*value), before)
        if kept is not before:
            self._kept.update(kept)
        if before is None and kept is not None:
            ctx.timer_service().register_event_time_timer(ctx.timestamp() + self._remember_ms)
        for verdict, event in judged:
            if verdict is Verdict.NEW:
                yield tuple(event)
            elif verdict is Verdict.WRITTEN:
                yield WRITTEN, tuple(event)
            elif verdict in _REFUSED:
                yield dead_letter(f"{self._spec.prefix}transactions", event.card, as_sent(event), _REFUSED[verdict])

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> None:
        """Ids are remembered no longer."""
        self._kept.clear()


class KeyOf(KeySelector):
    """Which key of a group an event is of; what has no such key is kept apart by its id."""

    def __init__(self, spec: JobSpec, column: int) -> None:
        self._spec, self._column = spec, column

    def open(self, runtime_context: RuntimeContext) -> None:
        """Find where it stands."""
        plan = bundle_at(self._spec.bundle).manifest.plan
        self._cells = EventCells(plan, MemoryStore(plan))

    def get_key(self, value: tuple[Any, ...]) -> int:
        """As a signed number."""
        packed = value[_PACKED]
        key = self._cells.key_hash(packed, self._column) or self._cells.id_hash(packed)
        return key - (1 << 64) if key >> 63 else key


class Know(KeyedProcessFunction):
    """By a key of the features: the kernel takes the event from the key's profile to the next one.

    Where profiles go to Redis, a timer a second later looks whether that of the key has got there. Timers are part of a
    checkpoint: what a task that was killed had not written is written by the one in its place.
    """

    def __init__(self, spec: JobSpec, by: str) -> None:
        self._spec, self._by = spec, by

    def open(self, runtime_context: RuntimeContext) -> None:
        """Find the state, what the training history knew, and where profiles go."""
        bundle = bundle_at(self._spec.bundle)
        self._profiles = Profiles(bundle.manifest.plan, self._by, bundle.profile_before(self._by))
        self._profiles.warm()  # a minute or more the first time: no checkpoint is due yet, and none waits for it
        self._kept = runtime_context.get_state(ValueStateDescriptor("profile", Types.PICKLED_BYTE_ARRAY()))
        self._writer: ProfileWriter | None = None
        if self._spec.writes_profiles:
            store = keeper_store(self._spec, bundle)
            self._writer = ProfileWriter(store, self._by, _number_of_task(runtime_context))

    def close(self) -> None:
        """End with the task."""
        if self._writer is not None:
            self._writer.stop()

    def process_element(self, value: tuple[Any, ...], ctx: KeyedProcessFunction.Context) -> Iterator[Any]:
        """One event."""
        before = self._kept.value()
        event, kept = self._profiles.take(Travelling(*value), before)
        if kept is not None:
            self._kept.update(kept)
            if before is None:
                self._forget_later(kept, ctx)
            if self._writer is not None:
                self._put(self._writer, kept, ctx)
        yield tuple(event)

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> None:
        """Free what the kernel would take for new anyway; or see that a profile gets to Redis."""
        kept = self._kept.value()
        if kept is None:
            return
        if ctx.time_domain() == TimeDomain.PROCESSING_TIME:
            self._see_to_it(kept, timestamp, ctx)
        elif self._profiles.forgotten_at(kept) <= timestamp * _US_PER_MS:
            self._kept.clear()
        else:
            self._forget_later(kept, ctx)

    def _see_to_it(self, kept: bytes, timestamp: int, ctx: Any) -> None:
        if self._writer is None:
            return
        put_us = (timestamp - 2 * _LOOK_AGAIN_MS) * _US_PER_MS
        is_written = self._writer.is_written(_unsigned(ctx.get_current_key()), put_us)
        if is_written is None:
            self._put(self._writer, kept, ctx)
        elif not is_written:
            self._look_again(ctx)

    def _put(self, writer: ProfileWriter, kept: bytes, ctx: Any) -> None:
        row = self._profiles.row_of(_unsigned(ctx.get_current_key()), kept)
        writer.put(row, row.position)
        self._look_again(ctx)

    @staticmethod
    def _look_again(ctx: Any) -> None:
        """At a whole second from one to two ahead, so that a key has one such timer a second at most."""
        timers = ctx.timer_service()
        due_ms = (timers.current_processing_time() // _LOOK_AGAIN_MS + 2) * _LOOK_AGAIN_MS
        timers.register_processing_time_timer(due_ms)

    def _forget_later(self, kept: bytes, ctx: Any) -> None:
        due_ms = -(-self._profiles.forgotten_at(kept) // _US_PER_MS)
        ctx.timer_service().register_event_time_timer(due_ms)


def _number_of_task(context: Any) -> str:
    """Which of the operator's tasks this is: PyFlink asks where Flink 2 has it no longer."""
    return str(context._runtime_context.getTaskInfo().getIndexOfThisSubtask())  # noqa: SLF001


def _unsigned(key: int) -> int:
    """The hash of a key, as `KeyOf` gave it to Flink."""
    return key + (1 << 64) if key < 0 else key


class Decide(ProcessFunction):
    """The end: score, action, entry."""

    def __init__(self, spec: JobSpec) -> None:
        self._spec = spec

    def open(self, runtime_context: RuntimeContext) -> None:
        """Load the model."""
        self._decider = Decider(bundle_at(self._spec.bundle), self._spec.thresholds)

    def process_element(self, value: tuple[Any, ...], ctx: ProcessFunction.Context) -> Iterator[Any]:
        """One event."""
        event = Travelling(*value)
        yield Row(event.card, self._decider.entry(event).decode())
