"""Transactions that are handed in: 202 once they are durable, what is said of the same again, and where to look."""

import asyncio
import json
import shutil
import uuid
from collections import Counter
from contextlib import closing

import pytest

from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.record.applied import log_folder
from sentinel.record.entries import decision_rows
from sentinel.record.log import Follower, Kind
from sentinel.record.log_reader import FileLogReader
from sentinel.transport.client import Client

PATH = "/api/v1/transactions"


@pytest.fixture(scope="module")
def server(start_server, shop_home):
    return start_server(shop_home)


@pytest.fixture
def post(server, ask):
    return lambda body, path=PATH, **headers: ask(server.port, "POST", path, body, **headers)


def payment(**changes):
    usual = {"transaction_id": uuid.uuid4().hex, "event_time": "2025-02-01T10:00:00Z", "amount": 12.5, "card": "c1"}
    return usual | {"shop": "s", "channel": "web"} | changes


def decided_in(home):
    with closing(FileLogReader(log_folder(home))) as log:
        return [row.transaction_id for page in Follower(log, 0).rest() for record in page
                if record.kind == Kind.DECIDED for row in decision_rows(record)]  # fmt: skip


def test_a_transaction_is_in_the_log_when_it_is_answered_and_its_decision_stands_where_it_says(server, post, ask):
    one = payment()
    answer = post(one)
    assert answer.status == 202
    assert answer.json == {
        "status": "success", "message": "It is in the log", "transaction_id": one["transaction_id"], "source": "log",
        "decision": f"/v1/decisions/{one['transaction_id']}",
    }  # fmt: skip
    assert decided_in(server.home).count(one["transaction_id"]) == 1
    found = ask(server.port, "GET", answer.json["decision"]).json
    assert found["decision"] in ("approve", "review", "block")
    assert post(one, "/v1/score").json["fraud_probability"] == found["fraud_probability"]


def test_the_same_again_is_ignored_and_other_content_is_a_conflict(server, post):
    one = payment()
    assert [post(one).json["status"] for _ in range(3)] == ["success", "ignored", "ignored"]
    assert post(one).status == 202
    refused = post(one | {"amount": 13.5})
    assert (refused.status, refused.json["status"]) == (409, 409)
    assert decided_in(server.home).count(one["transaction_id"]) == 1


def test_what_does_not_fit_is_refused_as_a_score_is(post):
    for wrong in (payment(amount="x"), payment(colour="red"), payment(event_time="today")):
        refused, scored = post(wrong), post(wrong, "/v1/score")
        assert (refused.status, refused.body) == (422, scored.body)
    assert post(b"{").status == 400
    assert post(b"{}", content_type="text/plain").status == 415


def test_each_of_a_batch_has_its_own_answer_as_array_and_as_lines(post):
    one = payment()
    for some in ([one, payment(amount="x"), payment(), one], [one, payment(amount="x"), payment()]):
        lines = b"\n".join(json.dumps(each).encode() for each in some)
        as_array, as_lines = post(some), post(lines, content_type="application/x-ndjson")
        assert (as_array.status, as_lines.status) == (200, 200)
        told = [each["status"] for each in as_array.json]
        assert [each if each == 422 else "known" for each in told] == [
            422 if each["amount"] == "x" else "known" for each in some
        ]
        again = [json.loads(line)["status"] for line in as_lines.body.splitlines()]
        assert again == [422 if each["amount"] == "x" else "ignored" for each in some]


def test_an_id_is_found_whatever_is_in_it(post, ask, server):
    answer = post(payment(transaction_id="order/7 ü?"))
    assert answer.json["decision"] == "/v1/decisions/order%2F7%20%C3%BC%3F"
    assert ask(server.port, "GET", answer.json["decision"]).json["transaction_id"] == "order/7 ü?"


def test_of_a_thousand_equal_requests_at_once_one_is_taken(server):
    body = json.dumps(payment(transaction_id="the-one")).encode()

    async def all_at_once():
        async with Client("127.0.0.1", server.port, 250) as client:
            return await asyncio.gather(*(client.post(PATH, body) for _ in range(1_000)))

    answers = asyncio.run(all_at_once())
    assert {status for status, _, _ in answers} == {202}
    assert Counter(json.loads(one)["status"] for _, one, _ in answers) == {"success": 1, "ignored": 999}
    assert decided_in(server.home).count("the-one") == 1


def test_what_was_taken_is_there_after_a_kill(shop_home, ask, tmp_path):
    shutil.copytree(shop_home, tmp_path / "home")
    some = [payment() for _ in range(20)]
    first = ServerProcess(tmp_path / "home", "127.0.0.1", free_port("127.0.0.1"))
    first.start()
    try:
        for one in some:
            assert ask(first.port, "POST", PATH, one).json["status"] == "success"
    finally:
        first.kill()
    assert set(decided_in(tmp_path / "home")) >= {one["transaction_id"] for one in some}
