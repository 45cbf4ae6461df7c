"""Figures of thresholds are costly: a few people wait for them, and nobody's pages wait for these."""

import json
import threading

import pytest

from sentinel.errors import RateLimited
from sentinel.events import times
from sentinel.transport.console.pages import thresholds
from sentinel.transport.console.server import Answer

MINUTE_US = 60_000_000


class SlowServer:
    """Answers once it may."""

    def __init__(self):
        self.may, self.asked = threading.Event(), []

    def get(self, path, _patience_s=15.0):
        self.asked.append(path)
        if "from=" in path:
            assert self.may.wait(30)
        return Answer(200, b"{}", 1.0)


@pytest.fixture
def server():
    return SlowServer()


@pytest.fixture
def curve(server):
    routes = thresholds.threshold_pages(server, None, None).routes
    return next(one.endpoint for one in routes if one.path == "/models/thresholds/curve")


def test_a_few_wait_for_figures_of_the_log_and_the_next_is_told_so(server, curve):
    waiting = [threading.Thread(target=curve, args=("90",)) for _ in range(4)]
    for one in waiting:
        one.start()
    while len(server.asked) < 4:
        pass
    with pytest.raises(RateLimited):
        curve("30")
    assert json.loads(curve("tested").body) == {}  # which is at hand
    server.may.set()
    for one in waiting:
        one.join()
    assert curve("30").status_code == 200


def test_whoever_asks_within_a_minute_asks_for_the_same(server, curve, monkeypatch):
    server.may.set()
    for now_us in (MINUTE_US * 29_000_000, MINUTE_US * 29_000_001 - 1):
        monkeypatch.setattr(thresholds, "clock_us", lambda now_us=now_us: now_us)
        curve("7")
    assert len(set(server.asked)) == 1
    assert times.iso(MINUTE_US * 29_000_000 - 7 * 86_400_000_000) in server.asked[0]
