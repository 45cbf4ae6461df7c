"""The load tester: an even pace, latencies from when each was due, and an end whatever happens."""

import contextlib
import http.server
import json
import threading
import time

import pytest

from sentinel.errors import Conflict, InvalidInput
from sentinel.homes import Place
from sentinel.record.audit import By
from sentinel.transport.console.load_test import SETTLES_S, Example, LoadTester, Plan
from sentinel.transport.console.pages.load import may_send
from sentinel.transport.console.server import Server
from sentinel.transport.people.database import PeopleDatabase
from sentinel.transport.people.people import People
from sentinel.transport.people.sessions import Lasting, Sessions
from tests.transport.console.conftest import until

EXAMPLE = Example(
    {"transaction_id": "x", "event_time": "", "amount": 10.0, "card": "c-1"},
    "transaction_id",
    "event_time",
    "amount",
    ("card",),
)


class SlowServer:
    """Answers each after a pause, one after another where it has one hand."""

    def __init__(self, pause_s, hands=64, status=200):
        self.seen, room = [], threading.Semaphore(hands)
        seen = self.seen

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with room:
                    time.sleep(pause_s)
                seen.append(body)
                answer = json.dumps({"decision": "approve"} if status == 200 else {"error": "no room"}).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def handle(self):
                with contextlib.suppress(ConnectionError):  # whoever asked has gone
                    super().handle()

            def log_message(self, *_):
                pass

        class Roomy(http.server.ThreadingHTTPServer):
            request_queue_size = 128  # all connections are opened at once
            daemon_threads = True

        self._server = Roomy(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def load_tester_of(url):
    return LoadTester(Server(url, None, Place("", "")))


def run_of(tester, rate, seconds, may_go_on=lambda: True):
    tester.begin(Plan(rate, seconds, "ana"), EXAMPLE, may_go_on)
    until(lambda: tester.state()["is_over"])
    tester.close()
    return tester.state()


def test_all_are_sent_once_and_told_apart():
    with SlowServer(0.0) as server:
        state = run_of(load_tester_of(server.url), 20, 5)
    assert state["sent"] == 100
    assert (state["received"] + state["unanswered"], state["errors"]) == (
        100,
        0,
    )  # a busy machine may be too slow for some
    assert state["received"] > 0
    assert state["actions"] == {"approve": state["received"]}
    assert sum(state["series"]["answered"]) == state["received"]
    assert len({one["transaction_id"] for one in server.seen}) == len(server.seen) >= state["received"]
    assert all(one["transaction_id"].startswith(f"load-{state['name']}-") for one in server.seen)
    assert all(one["card"].startswith("load-card-") for one in server.seen)
    assert state["p50"] <= state["p95"] <= state["p99"]


def test_a_server_that_takes_one_after_another_is_seen_to_be_slow():
    """20 come in a second and 10 are answered: each waits longer than the one before. A closed loop would say 100 ms."""
    with SlowServer(0.1, hands=1) as server:
        state = run_of(load_tester_of(server.url), 20, 5)
    assert state["sent"] == 100
    assert state["p99"] > 500
    assert state["received"] + state["unanswered"] == 100


def test_what_never_answers_is_waited_for_two_seconds_at_most():
    with SlowServer(30.0) as server:
        begun = time.monotonic()
        state = run_of(load_tester_of(server.url), 10, 5)
    assert (state["received"], state["unanswered"], state["sent"]) == (0, 50, 50)
    assert state["elapsed_s"] >= 5 - 0.2 + SETTLES_S - 0.5
    assert time.monotonic() - begun < 60


def test_a_refusal_is_an_error_with_its_sentence():
    with SlowServer(0.0, status=503) as server:
        state = run_of(load_tester_of(server.url), 5, 5)
    assert (state["errors"] + state["unanswered"], state["received"], state["said"]) == (25, 0, ["503: no room"])


def test_a_server_that_is_away_is_said_so():
    state = run_of(load_tester_of("http://127.0.0.1:9"), 5, 5)
    assert (state["sent"], "no server at 127.0.0.1:9" in state["why"]) == (0, True)


def test_one_at_a_time_and_it_ends_with_the_session():
    with SlowServer(0.0) as server:
        tester, is_in = load_tester_of(server.url), threading.Event()
        is_in.set()
        tester.begin(Plan(5, 60, "ana"), EXAMPLE, is_in.is_set)
        with pytest.raises(Conflict, match="of ana is running"):
            tester.begin(Plan(5, 5, "ben"), EXAMPLE, lambda: True)
        is_in.clear()
        until(lambda: tester.state()["is_over"])
        assert tester.state()["why"] == "whoever began it is logged out, or may not send any more"
        tester.begin(Plan(5, 60, "ben"), EXAMPLE, lambda: True)
        tester.stop("stopped by ben")
        tester.close()
        assert (tester.state()["is_over"], tester.state()["why"]) == (True, "stopped by ben")
        assert tester.state()["sent"] < 300


@pytest.mark.parametrize(("rate", "seconds"), [(0, 10), (201, 10), (10, 4), (10, 61)])
def test_more_than_may_be_is_refused(rate, seconds):
    with pytest.raises(InvalidInput):
        Plan(rate, seconds, "ana")


def test_whoever_loses_the_right_to_send_goes_on_with_no_load_test(tmp_path):
    by = By("boss", "127.0.0.1", "a test")
    with contextlib.closing(PeopleDatabase(tmp_path / "home")) as database:
        people, sessions = People(database), Sessions(database, Lasting(10**12, 10**12))
        people.add("boss", "admin", "four words that last", by, 1)
        ana = people.add("ana", "operator", "four words that last", by, 1, must_change=False)
        token = sessions.begin(ana, by, 2)
        assert may_send(sessions, token, 3)
        people.set_role("ana", "viewer", by, 4)
        assert not may_send(sessions, token, 5)
        people.set_role("ana", "operator", by, 6)
        assert may_send(sessions, token, 7)
        people.set_disabled("ana", True, by, 8)
        assert not may_send(sessions, token, 9)
        assert not may_send(sessions, "", 9)
