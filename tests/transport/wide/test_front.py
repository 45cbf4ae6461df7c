"""Fronts on a real Redis and a real broker: the features of the owner to the bit, and one decision for an id."""

import json
import secrets
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from owner_and_fronts import OwnerAndFronts, payment

from sentinel.record.online.fronts import FrontStore
from tests.http_calls import PATIENCE_S, call, until


@pytest.fixture(scope="module")
def wide(service, shop_home, tmp_path_factory):
    home = tmp_path_factory.mktemp("wide") / "tenants" / f"w{secrets.token_hex(4)}"  # its own project in Redis
    shutil.copytree(shop_home, home)
    made = OwnerAndFronts(
        home, service("redis").environment["REDIS_URL"], service("kafka").environment["SENTINEL_KAFKA"]
    )
    try:
        made.start()
        yield made
    finally:
        made.close()


def test_with_current_profiles_every_feature_is_that_of_the_owner_to_the_bit(wide):
    for n in range(12):
        asked = [payment(f"c{card}", f"s{card}", amount=1.5 * n + card + 0.25) for card in range(3)]
        status, answers = call(wide.fronts[0], "/v1/score", asked)
        assert status == 200
        wide.own([one["transaction_id"] for one in asked])
        handed = wide.topic.first_of([one["transaction_id"] for one in asked])
        for sent, answer in zip(asked, answers, strict=True):
            owned = wide.owned(sent["transaction_id"])
            assert handed[sent["transaction_id"]]["features"] == list(owned["features"].values())
            assert (answer["fraud_probability"], answer["decision"]) == (owned["fraud_probability"], owned["decision"])
            assert (answer["features_state"], answer["degraded"]) == ("as_of", None)
            assert 0 <= answer["profiles_age_ms"] < 1000 * PATIENCE_S
    assert owned["features"]["count_by_card_24h"] == 12


def test_without_new_profiles_a_transaction_is_added_to_those_that_are_there(wide):
    asked = [payment("stale", "s9", amount) for amount in (5.0, 7.0, 11.0)]
    seen = []
    for one in asked:
        status, answer = call(wide.fronts[0], "/v1/score", one)
        assert (status, answer["features_state"]) == (200, "as_of")
        handed = wide.topic.first_of([one["transaction_id"]])[one["transaction_id"]]
        seen.append(dict(zip(wide.names, handed["features"], strict=True)))
    assert [one["count_by_card_24h"] for one in seen] == [1, 1, 1]  # nobody has told Redis of the others
    assert [one["amount"] for one in seen] == [5, 7, 11]
    wide.own([one["transaction_id"] for one in asked])
    assert [wide.owned(one["transaction_id"])["features"]["count_by_card_24h"] for one in asked] == [1, 2, 3]


def test_an_id_that_is_asked_of_two_fronts_at_once_gets_one_decision(wide):
    wide.fronts.append(wide.front())
    asked = [payment(f"t{n % 7}", amount=1.0 + n) for n in range(40)]
    with ThreadPoolExecutor(8) as threads:
        both = [[threads.submit(call, front, "/v1/score", one) for one in asked] for front in wide.fronts]
        first, second = ([future.result() for future in futures] for futures in both)
    handed = wide.topic.first_of([one["transaction_id"] for one in asked])
    for one, (status, here), (other_status, there) in zip(asked, first, second, strict=True):
        assert (status, other_status) == (200, 200)
        assert {here["replayed"], there["replayed"]} == {False, True}
        decision = {name: value for name, value in here.items() if name != "replayed"}
        assert decision == {name: value for name, value in there.items() if name != "replayed"}
        given = handed[one["transaction_id"]]["given"]
        assert decision == {name: value for name, value in given.items() if name != "replayed"}
    changed = {**asked[0], "amount": 99.0}
    for front in wide.fronts:
        status, said = call(front, "/v1/score", changed)
        assert (status, "other content" in said["error"]) == (409, True)


def test_what_a_front_answered_before_it_was_killed_is_what_another_one_repeats(wide):
    victim, answers = wide.front(), {}
    asked = [payment(f"k{n % 5}", amount=2.0 + n) for n in range(150)]
    killing = ThreadPoolExecutor(1)

    def ask(one):
        try:
            status, answer = call(victim, "/v1/score", one)
        except OSError:
            return
        assert status == 200
        answers[one["transaction_id"]] = answer

    with ThreadPoolExecutor(8) as threads:
        begun = [threads.submit(ask, one) for one in asked]
        until(lambda: len(answers) >= 20)
        killing.submit(victim.kill).result()
        for future in begun:
            future.result()
    killing.shutdown()
    again = {one["transaction_id"]: call(wide.fronts[0], "/v1/score", one) for one in asked}
    handed = wide.topic.first_of(again)
    for name, (status, answer) in again.items():
        assert status == 200
        given = handed[name]["given"]
        assert (given["decision"], given["fraud_probability"]) == (answer["decision"], answer["fraud_probability"])
        if name in answers:
            assert (answers[name]["fraud_probability"], answer["replayed"]) == (answer["fraud_probability"], True)
    assert 20 <= len(answers) < len(asked)


def test_a_claim_that_no_front_has_sealed_is_not_repeated(wide):
    asked, other = payment("forged"), payment("forged")
    _, given = call(wide.fronts[0], "/v1/score", other)
    forged = {"given": given | {"transaction_id": asked["transaction_id"]}, "features": [1.0], "transaction": asked}
    claims = {asked["transaction_id"]: json.dumps(forged).encode()}
    assert FrontStore(wide.profiles, 600_000).claim(claims, time.monotonic() + PATIENCE_S) == {}
    status, said = call(wide.fronts[0], "/v1/score", asked)
    assert (status, "no front with our key has sealed" in said["error"]) == (503, True)


def test_equal_requests_are_decided_once(wide):
    one = payment("same")
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda _: call(wide.fronts[0], "/v1/score", one), range(200)))
    assert [status for status, _ in found].count(200) == 200
    assert [answer["replayed"] for _, answer in found].count(False) == 1
    wide.topic.first_of([one["transaction_id"]])
    assert [one["given"]["transaction_id"] for _, one in wide.topic.messages].count(one["transaction_id"]) == 1
