"""Spans through OpenTelemetry. Only `tracing.open_tracer` imports this, as its libraries are optional."""

import re
import threading
import time
from collections.abc import Mapping
from random import Random

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from sentinel.telemetry.tracing import TraceContext, Tracer

_TIMEOUT_S = 5.0
_PATIENCE_S = 2.0
_LETTERS = "abcdef"
_LIKE_A_CARD = re.compile(r"\d{12}")  # no card number is shorter


class IdsWithoutCardNumbers(IdGenerator):
    """Random ids whose hexadecimal digits never look like a card number, alone or beside each other in a header.

    Each begins and ends with a letter, and has no twelve decimal digits in a row.
    """

    def __init__(self, chance: Random | None = None) -> None:
        self._chance = chance or Random()  # noqa: S311 - they name spans, they protect nothing

    def generate_span_id(self) -> int:
        """64 bits."""
        return self._drawn(16)

    def generate_trace_id(self) -> int:
        """128 bits."""
        return self._drawn(32)

    def _drawn(self, digits: int) -> int:
        while True:
            within = f"{self._chance.getrandbits(4 * (digits - 2)):0{digits - 2}x}"
            if _LIKE_A_CARD.search(within) is None:
                return int(self._chance.choice(_LETTERS) + within + self._chance.choice(_LETTERS), 16)


class ExportingTracer(Tracer):
    """Hands spans to the SDK, whose own thread sends them every few seconds; what does not fit its queue is dropped.

    Nothing global is set, so no other library begins to trace.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": "sentinel"}),
            sampler=ALWAYS_ON,
            id_generator=IdsWithoutCardNumbers(),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("sentinel")

    def span(
        self,
        name: str,
        parent: TraceContext | None,
        start_ns: int,
        end_ns: int,
        attributes: Mapping[str, str | int | float | bool],
    ) -> TraceContext | None:
        """Record a span, unless the caller does not record its trace; without a parent it begins one."""
        if parent is not None and not parent.sampled:
            return parent
        to_epoch_ns = time.time_ns() - time.monotonic_ns()
        span = self._tracer.start_span(
            name, context=_under(parent), attributes=attributes, start_time=start_ns + to_epoch_ns
        )
        span.end(end_ns + to_epoch_ns)
        own = span.get_span_context()
        return TraceContext(f"{own.trace_id:032x}", f"{own.span_id:016x}", int(own.trace_flags))

    def close(self) -> None:
        """Send what is kept, and give up after a while."""
        patience = threading.Timer(_PATIENCE_S, self._exporter.shutdown)
        patience.start()
        self._provider.shutdown()
        patience.cancel()


def open_exporting(url: str) -> ExportingTracer:
    """A tracer that sends to this URL."""
    return ExportingTracer(OTLPSpanExporter(url, timeout=_TIMEOUT_S))


def _under(parent: TraceContext | None) -> Context:
    if parent is None:
        return Context()
    flags = TraceFlags(parent.flags)
    own = SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=flags)
    return set_span_in_context(NonRecordingSpan(own), Context())
