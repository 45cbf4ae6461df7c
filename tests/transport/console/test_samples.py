"""Samples: rates and latencies made of the server's counters equal those of the values that were counted."""

import itertools
import socket
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.config import Settings
from sentinel.homes import Place
from sentinel.telemetry.counters import LATENCY_BOUNDS_US, Counters, Slot, Stage
from sentinel.telemetry.prometheus import model_info, render
from sentinel.transport.client import Unreachable
from sentinel.transport.console.samples import RANGES, Sample, Samples, point_of, quantile_us, sample_of, series_of
from sentinel.transport.console.server import Server
from sentinel.transport.console.stored import Stored
from sentinel.transport.console.words import ACTIONS

BOUNDS = (*map(float, LATENCY_BOUNDS_US), float("inf"))


def sampled(counters, at_s):
    return sample_of(render(counters, [model_info("champion", "v7", "shop")])[0].decode(), at_s)


def test_a_sample_has_what_the_counters_say():
    counters = Counters()
    counters.add(Slot.REQUESTS, 5)
    counters.add(Slot.BLOCK, 2)
    counters.add(Slot.SHED_OVERLOAD, 1)
    counters.set(Slot.BREAKER_STATE, 2)
    counters.observe_many(Stage.TOTAL, np.array([60, 800, 90_000]))
    found = sampled(counters, 7.0)
    assert (found.get("requests"), found.get("actions/block"), found.get("shed_decisions/overload")) == (5, 2, 1)
    assert (found.get("breaker_state"), found.get("nothing like it")) == (2, 0)
    assert found.models == {"champion": "v7", "detector": "shop"}
    assert found.bounds_us == BOUNDS
    assert found.buckets[-1] == 3


@given(
    before=st.lists(st.integers(1, 200_000), max_size=30),
    after=st.lists(st.integers(1, 200_000), min_size=1, max_size=60),
    q=st.sampled_from([0.5, 0.9, 0.99, 0.999]),
)
def test_a_quantile_lies_in_the_bucket_of_the_true_one(before, after, q):
    """What came before the first sample does not count."""

    def buckets(values):
        return tuple(float(sum(one <= bound for one in values)) for bound in BOUNDS)

    older, newer = (Sample(0.0, {}, BOUNDS, buckets(values), {}) for values in (before, before + after))
    found = quantile_us(older, newer, q)
    true = sorted(after)[max(int(np.ceil(q * len(after))) - 1, 0)]
    low, high = next((a, b) for a, b in itertools.pairwise((0.0, *BOUNDS)) if a < true <= b)
    assert low <= found <= (high if high != float("inf") else low)


def test_rates_are_by_the_second_and_a_restart_of_the_server_is_a_gap():
    counters = Counters()
    first = sampled(counters, 10.0)
    counters.add(Slot.APPROVE, 30)
    counters.add(Slot.REVIEW, 10)
    second = sampled(counters, 20.0)
    point = point_of(first, second)
    assert (point["rate"], point["approve"], point["review"], point["block"], point["p50"]) == (
        4.0,
        3.0,
        1.0,
        0.0,
        None,
    )
    assert set(point_of(second, first).values()) == {None}
    assert set(point_of(second, sampled(Counters(), 30.0)).values()) == {None}


@pytest.mark.parametrize("range_s", RANGES)
def test_a_series_has_a_point_for_each_step_and_none_where_nothing_is_known(range_s):
    step, now_s = RANGES[range_s], 100_000.25
    values = [{f"actions/{one}": 2.0 * n for one in ACTIONS} for n in range(range_s + step)]
    samples = [Sample(now_s - len(values) + 1 + n, one, (), (), {}) for n, one in enumerate(values)]
    series = series_of(samples, range_s, now_s)
    assert {len(one) for one in series.values()} == {range_s // step}
    assert series["rate"] == pytest.approx([8.0] * (range_s // step))
    assert series["at"][-1] <= now_s < series["at"][-1] + step
    half = series_of(samples[len(samples) // 2 :], range_s, now_s)
    assert half["rate"][0] is None
    assert half["rate"][-1] == pytest.approx(8.0)


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\ncontent-length: 40000\r\n\r\n" + b"[" * 40_000, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b'HTTP/1.1 200 OK\r\n\r\nsentinel_actions_total{x="1"} 1\n',
    ],
)  # fmt: skip
def test_whatever_answers_in_the_place_of_the_server_is_a_problem_that_is_told(answer, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def reply():
            for _ in range(2):
                connection, _ = listening.accept()
                with connection:
                    connection.recv(65_536)
                    connection.sendall(answer)

        replying = threading.Thread(target=reply)
        replying.start()
        server = Server(f"http://127.0.0.1:{listening.getsockname()[1]}", None, Place())
        with pytest.raises(Unreachable):
            server.tell("/admin/audit", {"changes": []})
        samples = Samples(server, Stored(Settings(home=tmp_path)))
        samples._ask()
        assert samples.problem is not None
        replying.join()
