"""Trace context as W3C defines it, and spans through the real SDK."""

import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import get_tracer_provider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from sentinel.errors import InvalidDefinition
from sentinel.events.card_numbers import replace_card_numbers
from sentinel.telemetry.otlp import ExportingTracer, IdsWithoutCardNumbers
from sentinel.telemetry.tracing import TraceContext, open_tracer, parse_traceparent

CHARACTERS = "0123456789abcdefABCDEFg-_. \n\x00\u0663\ud800"
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = TraceContext(TRACE, SPAN, 1)


def hexadecimal(digits, least=1):
    return st.integers(least, 16**digits - 1).map(lambda number: f"{number:0{digits}x}")


@given(hexadecimal(32), hexadecimal(16), st.integers(0, 255))
def test_a_valid_header_is_read_and_written(trace, span, flags):
    header = f"00-{trace}-{span}-{flags:02x}"
    found = parse_traceparent(header)
    assert found == TraceContext(trace, span, flags)
    assert found.sampled == bool(flags & 1)
    assert found.header == header


@given(st.integers(1, 254).map(lambda version: f"{version:02x}"), st.text(CHARACTERS, max_size=20))
def test_later_versions_may_say_more_after_a_dash(version, more):
    header = f"{version}-{TRACE}-{SPAN}-01"
    assert parse_traceparent(header) == parse_traceparent(f"{header}-{more}") == PARENT
    assert more.startswith("-") or not more or parse_traceparent(header + more) is None


@given(st.text(CHARACTERS, max_size=60))
def test_what_is_not_well_formed_is_ignored(header):
    found = parse_traceparent(header)
    assert found is None or header.startswith(f"{header[:2]}-{found.trace_id}-{found.span_id}-")


@given(
    st.integers(0, 54),
    st.sampled_from(CHARACTERS),
    st.sampled_from([f"00-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-00-x"]),
)
@example(54, "\n", f"00-{TRACE}-{SPAN}-01")
def test_one_wrong_character_is_enough(at, character, header):
    changed = header[:at] + character + header[at + 1 :]
    right = "-" if header[at] == "-" else "0123456789abcdef"
    if character not in right:
        assert parse_traceparent(changed) is None


@pytest.mark.parametrize(
    "header",
    [
        "",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01\n",
        f" 00-{TRACE}-{SPAN}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"01-{TRACE}-{SPAN}-01.more",
    ],
)
def test_headers_that_must_be_ignored(header):
    assert parse_traceparent(header) is None


@given(hexadecimal(32, 0), hexadecimal(16, 0), hexadecimal(2, 0), hexadecimal(2, 0))
def test_the_sdk_reads_the_same(trace, span, version, flags):
    header = f"{version}-{trace}-{span}-{flags}"
    context = TraceContextTextMapPropagator().extract({"traceparent": header})
    spans = [value.get_span_context() for value in context.values()]
    theirs = [(f"{one.trace_id:032x}", f"{one.span_id:016x}", int(one.trace_flags)) for one in spans]
    ours = parse_traceparent(header)
    assert ([] if ours is None else [tuple(ours)]) == theirs


def test_a_tracer_that_is_off_hands_on_the_parent():
    tracer = open_tracer(None)
    assert tracer.span("decide", PARENT, 1, 2, {}) is PARENT
    assert tracer.span("decide", None, 1, 2, {}) is None
    tracer.close()


def test_a_finished_span_hangs_under_its_caller_and_its_parts_under_it():
    exporter = InMemorySpanExporter()
    tracer = ExportingTracer(exporter)
    now_ns = time.monotonic_ns()
    own = tracer.span("decide", PARENT, now_ns - 5_000, now_ns, {"batch_size": 32, "decision": "block"})
    tracer.span("model", own, now_ns - 3_000, now_ns - 1_000, {})
    tracer.close()
    decide, model = exporter.get_finished_spans()
    assert f"{decide.context.trace_id:032x}" == f"{model.context.trace_id:032x}" == own.trace_id == TRACE
    assert f"{decide.parent.span_id:016x}" == SPAN
    assert decide.parent.is_remote
    assert f"{model.parent.span_id:016x}" == f"{decide.context.span_id:016x}" == own.span_id
    assert own.sampled
    assert decide.end_time - decide.start_time == pytest.approx(5_000, abs=1)
    assert abs(time.time_ns() - decide.end_time) < 10**9
    assert dict(decide.attributes) == {"batch_size": 32, "decision": "block"}
    assert decide.resource.attributes["service.name"] == "sentinel"


def test_without_a_parent_a_trace_begins():
    exporter = InMemorySpanExporter()
    tracer = ExportingTracer(exporter)
    own = tracer.span("decide", None, 1, 2, {})
    tracer.close()
    (span,) = exporter.get_finished_spans()
    assert span.parent is None
    assert parse_traceparent(own.header) == own


class Unlucky(Random):
    """Draws decimal digits twice, the second time those of a card number, and then whatever comes."""

    drawn = 0

    def getrandbits(self, k):
        self.drawn += 1
        if self.drawn > 2:
            return super().getrandbits(k)
        return int("41111111111111"[: k // 4] + "9" * (k // 4 - 14), 16)


@pytest.mark.parametrize("chance", [Unlucky(seed) for seed in range(20)] + [Random(seed) for seed in range(200)])
def test_no_header_of_ours_shows_a_card_number(chance):
    ids = IdsWithoutCardNumbers(chance)
    header = TraceContext(f"{ids.generate_trace_id():032x}", f"{ids.generate_span_id():016x}", 1).header
    assert parse_traceparent(header)
    found = []
    replace_card_numbers(header.replace("-", "").replace("a", "g"), found.append)  # nor without what sets it apart
    assert found == []


def test_spans_have_such_ids():
    exporter = InMemorySpanExporter()
    tracer = ExportingTracer(exporter)
    spans = [tracer.span("one", None, 1, 2, {}) for _ in range(300)]
    tracer.close()
    for span in spans:
        for one in (span.trace_id, span.span_id):
            assert one[0].isalpha()
            assert one[-1].isalpha()


def test_a_caller_that_does_not_record_is_followed():
    exporter = InMemorySpanExporter()
    tracer = ExportingTracer(exporter)
    quiet = PARENT._replace(flags=0)
    assert tracer.span("decide", quiet, 1, 2, {}) is quiet
    tracer.close()
    assert not exporter.get_finished_spans()


class Collector(BaseHTTPRequestHandler):
    """Keeps what it is sent."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.received.append((self.path, ExportTraceServiceRequest.FromString(body)))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def collector():
    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        server.received = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("path", "asked"), [("", "/v1/traces"), ("/", "/v1/traces"), ("/own/path", "/own/path")])
def test_spans_reach_a_collector(collector, path, asked):
    tracer = open_tracer(f"http://127.0.0.1:{collector.server_port}{path}")
    tracer.span("decide", PARENT, 1, 2, {})
    tracer.close()
    ((path, request),) = collector.received
    assert path == asked
    assert request.resource_spans[0].scope_spans[0].spans[0].trace_id.hex() == TRACE
    assert type(get_tracer_provider()).__name__ == "ProxyTracerProvider", "nothing global was set"


@pytest.mark.parametrize("endpoint", ["", "collector:4318", "ftp://collector", "http://"])
def test_an_endpoint_that_is_no_url_is_named(endpoint):
    with pytest.raises(InvalidDefinition, match="give a URL"):
        open_tracer(endpoint)


def test_switched_on_without_the_library_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "sentinel.telemetry.otlp", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(InvalidDefinition, match=r"sentinel-fraud\[tracing\]"):
        open_tracer("http://127.0.0.1:4318")


def test_without_tracing_the_library_is_not_loaded():
    code = "import sys; from sentinel.telemetry.tracing import open_tracer; open_tracer(None); print('opentelemetry' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
