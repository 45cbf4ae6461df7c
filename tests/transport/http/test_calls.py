"""Calls: what a head says, read before anyone knows who sent it."""

import time

import pytest

from sentinel.transport.http.calls import Call, Route


@pytest.mark.parametrize("given", ["r-1", "a.b_c:d/e", "7" * 128])
def test_an_id_of_a_request_comes_back(given):
    call = Call.of(Route.SCORE, {"x-request-id": given})
    assert (call.request_id, call.shown_id, call.is_traced) == (given, given, True)


@pytest.mark.parametrize("given", ["", "a b", "5 6 5 6", "r\u00e9", "a" * 129, 'a"b', "a\n"])
def test_what_is_no_id_is_ignored(given):
    call = Call.of(Route.SCORE, {"x-request-id": given})
    assert (call.request_id, call.shown_id, call.is_traced) == (None, None, False)


def test_a_card_number_in_it_is_looked_for_when_it_is_shown_and_not_before():
    call = Call.of(Route.SCORE, {"x-request-id": "r-4111111111111111"})
    assert call.known_id is None
    assert call.shown_id == call.known_id == "r-[card number]"


def test_a_head_takes_no_long_time_whatever_its_id_is():
    """Seconds of processor time, the best of some tries."""
    took = []
    for _ in range(5):
        begun = time.process_time()
        Call.of(Route.SCORE, {"x-request-id": "5-6-" * 2_000})
        took.append(time.process_time() - begun)
    assert min(took) < 0.002
