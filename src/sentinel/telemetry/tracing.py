"""Tracing: W3C trace context in, finished spans out."""

import re
from collections.abc import Mapping
from typing import NamedTuple
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


class Tracer:
    """Records spans after the fact, so that the hot path only reads the clock. This one is switched off."""

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
        del name, start_ns, end_ns, attributes
        return parent

    def close(self) -> None:
        """Send what is still kept; waits some seconds at most."""


def open_tracer(endpoint: str | None) -> Tracer:
    """A tracer that sends to an OTLP/HTTP endpoint (`http://collector:4318`), or one that does nothing for None.

    Open it in the process that uses it.
    """
    if endpoint is None:
        return Tracer()
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidDefinition(f"the tracing endpoint is {endpoint!r}; give a URL such as http://localhost:4318")
    try:
        from sentinel.telemetry.otlp import open_exporting  # only tracing needs these libraries
    except ModuleNotFoundError as error:
        raise InvalidDefinition(
            f"tracing to {endpoint} needs OpenTelemetry ({error.name} is missing); "
            "pip install 'sentinel-fraud[tracing]', or switch tracing off"
        ) from None
    return open_exporting(endpoint if parts.path.strip("/") else f"{endpoint.rstrip('/')}/v1/traces")
