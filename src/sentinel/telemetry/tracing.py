"""Tracing: W3C trace context in, finished spans out."""

import random
import re
from collections.abc import Mapping
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from sentinel.errors import InvalidDefinition

_VALID = re.compile(
    r"(?!ff)([0-9a-f]{2})"  # version
    r"-(?!0{32})([0-9a-f]{32})"  # trace
    r"-(?!0{16})([0-9a-f]{16})"  # span
    r"-([0-9a-f]{2})"  # flags
)
_LENGTH = 55
_SAMPLED = 1


class TraceContext(NamedTuple):
    """The caller's span: its trace (32 hexadecimal digits), its own id (16), and the flags of version 00."""

    trace_id: str
    span_id: str
    flags: int

    @property
    def sampled(self) -> bool:
        """Whether the caller records the trace."""
        return bool(self.flags & _SAMPLED)

    @property
    def header(self) -> str:
        """As `traceparent` of a further call."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"


def parse_traceparent(header: str) -> TraceContext | None:
    """What a `traceparent` header says, or None when it must be ignored.

    Versions after 00 may add fields; those that all versions share are read.

    >>> parse_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").sampled
    True
    >>> parse_traceparent("00-00000000000000000000000000000000-00f067aa0ba902b7-01") is None
    True
    """
    found = _VALID.match(header)
    if found is None:
        return None
    version, trace_id, span_id, flags = found.groups()
    if len(header) != _LENGTH and (version == "00" or header[_LENGTH] != "-"):
        return None
    return TraceContext(trace_id, span_id, int(flags, 16))


def new_request_id() -> str:
    """32 hexadecimal digits that no other request has. Not a secret: the next can be guessed from earlier ones."""
    return f"{random.getrandbits(128):032x}"


class Recorder(Protocol):
    """Where finished spans go. A span is named by trace, id and flags; times are nanoseconds of the monotonic clock."""

    def record(
        self,
        name: str,
        parent: tuple[str, str, int] | None,
        start_ns: int,
        end_ns: int,
        attributes: Mapping[str, str | int | float | bool],
    ) -> tuple[str, str, int]:
        """Keep one span and name it; without a parent it begins a trace."""
        ...

    def close(self) -> None:
        """Send what is kept."""
        ...


class Tracer:
    """Records spans after the fact, so that the hot path only reads the clock. Without a recorder it does nothing."""

    def __init__(self, recorder: Recorder | None = None, root_share: float = 1.0) -> None:
        self._recorder = recorder
        self._root_share = root_share

    def wants(self, parent: TraceContext | None) -> bool:
        """Whether to record the spans of a request. Ask once a request: without a parent it is random."""
        if self._recorder is None:
            return False
        return random.random() < self._root_share if parent is None else bool(parent.flags & _SAMPLED)  # noqa: S311

    def span(
        self,
        name: str,
        parent: TraceContext | None,
        start_ns: int,
        end_ns: int,
        attributes: Mapping[str, str | int | float | bool],
    ) -> TraceContext | None:
        """Record a span that has ended, and say how its children can name it. Times are of the monotonic clock.

        A span whose caller does not record its trace is not recorded either; its parent is returned.
        """
        if self._recorder is None or (parent is not None and not parent.flags & _SAMPLED):
            return parent
        return TraceContext(*self._recorder.record(name, parent, start_ns, end_ns, attributes))

    def close(self) -> None:
        """Send what is still kept; waits some seconds at most."""
        if self._recorder is not None:
            self._recorder.close()


def open_tracer(endpoint: str | None, root_share: float = 1.0) -> Tracer:
    """A tracer that sends to an OTLP/HTTP endpoint (`http://collector:4318`), or one that does nothing for None.

    `root_share` of the requests without a trace begin one; those with one follow their caller.
    Open it in the process that uses it.
    """
    if endpoint is None:
        return Tracer()
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidDefinition(f"the tracing endpoint is {endpoint!r}; give a URL such as http://localhost:4318")
    if not 0.0 <= root_share <= 1.0:
        raise InvalidDefinition(f"{root_share} of all requests cannot be traced; give a share between 0 and 1")
    try:
        from sentinel.telemetry.otlp import open_recorder  # only tracing needs these libraries
    except ModuleNotFoundError as error:
        raise InvalidDefinition(
            f"tracing to {endpoint} needs OpenTelemetry ({error.name} is missing); "
            "pip install 'sentinel-fraud[tracing]', or switch tracing off"
        ) from None
    return Tracer(open_recorder(endpoint if parts.path.strip("/") else f"{endpoint.rstrip('/')}/v1/traces"), root_share)
