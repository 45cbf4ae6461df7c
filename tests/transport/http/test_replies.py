"""How answers are written: each fault has its status, and in a batch every answer is its own."""

import json
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.detectors import load_detector
from sentinel.errors import BadBody, Conflict, InvalidInput, NotReady, Overloaded, SentinelError, StorageProblem
from sentinel.policy.thresholds import Thresholds
from sentinel.serve.batch import Decision, Noted
from sentinel.serve.vectors.reader import VectorReader
from sentinel.transport.http.replies import reply_to, reply_to_batch, response_of

SHOP_FILE = Path(__file__).parents[2] / "shop_detector.py"
TEXTS = st.text(min_size=1, max_size=12) | st.sampled_from(['a","b', 'a\\","b', '"', "\n", "\x00", "é€😀"])
FAULTS = (Conflict("other content"), NotReady("loading"), Overloaded("full"), InvalidInput("no", "$.amount"))


def decision(name):
    return Decision(
        name, "review", 0.4, 0.35, Thresholds(0.35, 0.75), "v1", "shop", "late", 3, 7, False, "overloaded", "closed",
        None, "rules",
    )  # fmt: skip


ANSWERS = st.lists(
    st.builds(decision, TEXTS)
    | st.builds(lambda name: Noted(name, True, replayed=False), TEXTS)
    | st.sampled_from(FAULTS),
    min_size=1,
    max_size=8,
)


@given(ANSWERS)
def test_a_batch_is_written_as_if_one_by_one_in_its_order(answers):
    answers = [decision("first"), *answers]
    alone = [reply_to(one).body if isinstance(one, SentinelError) else msgspec.json.encode(one) for one in answers]
    expected = [msgspec.json.decode(one) for one in alone]
    assert msgspec.json.decode(reply_to(reply_to_batch(answers, lines=False)).body) == expected
    lines = reply_to(reply_to_batch(answers, lines=True))
    assert (lines.status, lines.media) == (200, "application/x-ndjson")
    assert [msgspec.json.decode(line) for line in lines.body.splitlines()] == expected


@pytest.mark.parametrize("lines", [False, True])
def test_a_batch_of_which_nothing_could_be_answered_has_the_status_of_the_fault(lines):
    assert reply_to(reply_to_batch([Conflict("x"), NotReady("loading")], lines=lines)).status == 503
    assert reply_to(reply_to_batch([Conflict("x"), Conflict("y")], lines=lines)).status == 200


@pytest.mark.parametrize(
    ("fault", "status", "may_come_again"),
    [(Conflict("x"), 409, False), (InvalidInput("x"), 422, False), (NotReady("x"), 503, True),
     (Overloaded("x"), 503, True), (StorageProblem("x"), 503, True), (SentinelError("x"), 500, False)],
)  # fmt: skip
def test_a_fault_has_a_status_and_who_may_come_again_is_told_so(fault, status, may_come_again):
    reply = reply_to(fault)
    assert (reply.status, msgspec.json.decode(reply.body)["status"]) == (status, status)
    assert ("retry-after" in response_of(reply).headers) == may_come_again


@pytest.mark.parametrize("part", ["1 ", "4 ", "x"])
def test_the_longest_body_of_one_name_is_refused_in_a_moment(part, shop_schema):
    name = part * (1_000_000 // len(part))
    vectors = VectorReader(("amount", "risk"), "v1")
    for read, body in [
        (shop_schema.decode, {name: 1}),
        (vectors.one, {name: 1}),
        (vectors.one, {"features": {name: 1}}),
        (vectors.one, {"features": {name[:n]: 1 for n in range(1, 1_000)}}),
    ]:
        raw = json.dumps(body).encode()
        begun_s = time.thread_time()
        with pytest.raises((InvalidInput, BadBody)) as refused:
            read(raw)
        reply = reply_to(refused.value)
        assert time.thread_time() - begun_s < 0.05
        assert len(reply.body) < 2_500


@pytest.fixture(scope="module")
def shop_schema():
    return load_detector(str(SHOP_FILE)).schema
