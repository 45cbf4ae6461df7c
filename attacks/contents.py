"""What is inside a request: ids that cannot be read back, deadlines that avoid the model, ids chosen to collide."""

import itertools
import json
import math
import time

from attacks.arena import Arena, payment
from attacks.attack import Attack, Tried


def poison(arena: Arena) -> Tried:
    """Whatever is accepted has to be readable after a restart, and be answered the same."""
    broken = []
    odd = [
        10**127, 10**128, 10**300, -(10**200), 2**64, True, "x" * 128, "x" * 129, "x" * 256, "x" * 257, "\u0000",
        "\U0001f600" * 128, "a\u0301" * 80, "\u202e" * 20, "../../etc/passwd", "%00", "'; DROP TABLE decisions; --",
        "<script>alert(1)</script>", "", " ", 1e300, -0.0, 1.5, [], {}, None, "0012", "NaN", "1e400", "\ufeffbom",
        "\r\nx: y",
    ]  # fmt: skip
    fields = ("transaction_id", "card_id", "merchant_id", "merchant_category", "channel", "country")
    with arena.server() as target:
        accepted = []
        for n, (field, value) in enumerate(itertools.product(fields, odd)):
            body = payment(f"poison-{n}", **{field: value})
            body["transaction_id"] = value if field == "transaction_id" else f"poison-{n}"
            for deadline in ({}, {"x-deadline-ms": "0.001"}):
                answer = target.ask("POST", "/v1/score", body, deadline)
                if answer.status == 200:
                    accepted.append((body, answer.body))
                elif not 400 <= answer.status < 500:
                    broken.append(f"{field}={str(value)[:40]!r} was answered {answer.status}")
        for number in (math.nan, math.inf, 1e308, -1, 10**30):
            text = json.dumps(payment("number", amount=number)).encode()
            if not 400 <= (status := target.ask("POST", "/v1/score", text).status) < 500:
                broken.append(f"amount {number} was answered {status}")
        target.process.stop()
        try:
            target.process.start()
        except Exception as error:
            return Tried(len(odd) * len(fields) * 2, [*broken, f"it does not start again: {str(error)[-300:]}"])
        for body, first in accepted:
            again = target.ask("POST", "/v1/score", body)
            if again.status != 200 or {**again.body, "replayed": True} != {**first, "replayed": True}:
                broken.append(f"{str(body)[:100]} is answered differently after a restart: {again.status}")
        if not target.is_well():
            broken.append("the server does not decide any more")
    return Tried(len(odd) * len(fields) * 2, broken[:10])


def deadlines(arena: Arena) -> Tried:
    """A deadline that leaves no time for the model must not make a better answer than the model's.

    A server that really has no time has the rules decide: what counts is that a shorter deadline than the least one
    brings that about no more often than the least one does.
    """
    order = {"approve": 0, "challenge": 1, "review": 2, "block": 3}
    headers = ("20", "0.0001", "1e-300", "0.5", "nan", "-1", "1e400")
    better = dict.fromkeys(headers, 0)
    rounds = 60 * arena.scale
    with arena.server() as target:
        for n in range(rounds):
            risky = {"amount": 900.0 + n, "country": "NG", "merchant_category": "electronics", "card_id": f"d{n % 3}"}
            patient = target.ask("POST", "/v1/score", payment(f"patient-{n}", **risky)).body
            for header in headers:
                hasty = target.ask(
                    "POST", "/v1/score", payment(f"hasty-{n}-{header}", **risky), {"x-deadline-ms": header}
                ).body
                better[header] += bool(hasty["degraded"]) and order[hasty["decision"]] < order[patient["decision"]]
    broken = [
        f"x-deadline-ms {header}: {count} of {rounds} got a better answer, {better['20']} with the least deadline"
        for header, count in better.items()
        if count > 2 * better["20"] + rounds // 10
    ]
    return Tried(rounds * len(headers), broken)


def repeats(arena: Arena) -> Tried:
    """The same id with other content never gets a second decision, however it is sent."""
    broken = []
    with arena.server() as target:
        for n in range(100):
            first = target.ask("POST", "/v1/score", payment(f"twice-{n}", event_time=1_700_000_000))
            other = target.ask("POST", "/v1/score", payment(f"twice-{n}", event_time=1_700_000_000, amount=n + 20))
            pair = target.ask(
                "POST",
                "/v1/score",
                [payment(f"pair-{n}", event_time=int(time.time())), payment(f"pair-{n}", event_time=0, amount=1)],
            )
            if first.status != 200 or other.status != 409:
                broken.append(f"the second content of an id was answered {other.status}")
            if pair.status == 200 and sum("decision" in one for one in pair.body) != 1:
                broken.append(f"two contents of one id in one batch: {pair.body}")
    return Tried(200, broken[:5])


def card_numbers(arena: Arena) -> Tried:
    """A card number must not be kept or said as it came, whatever stands between its digits."""
    broken, tried = [], 0
    between = [
        "\n", "\r", "\t", "\x0b", "\x0c", "\x1c", "\x7f", "\n-", "\u00a0", "\u200e", "\u180e", "\ufe0f", "\uff0d",
        "\ufeff" * 3, "\u0301", "\u2060", "\u3000", ".", "/", "_",
    ]  # fmt: skip
    with arena.server() as target:
        for n, one in enumerate(between):
            number = one.join(["4111", "1111", "1111", "1111"])
            for field in ("transaction_id", "card_id", "channel"):
                tried += 1
                body = payment(f"card-{n}-{field}") | {field: number}
                said = target.ask("POST", "/v1/score", body).body
                if said.get("transaction_id") == number:
                    broken.append(f"{number!r} is answered as the id")
                kept = target.ask("GET", f"/v1/decisions/card-{n}-{field}").body.get("transaction", {})
                if kept.get(field) == number:
                    broken.append(f"{number!r} is kept as {field}")
            for path in ("/v1/outcomes", "/v1/score", "/v1/events"):
                tried += 1
                told = {"transaction_id": "x", "is_fraud": True, "time": number, "event_time": number}
                if "1111" in str(target.ask("POST", path, told).body):
                    broken.append(f"{number!r} is told by {path}")
    return Tried(tried, broken[:10])


def twins(arena: Arena) -> Tried:
    """An id that was made to have the hash of another one must not be decided: its outcome would be the other's."""
    pairs = [("order-00044490-0000000000", "liH9wXJC"), ("order-00078591-0000000000", "bsrjb9Eg")]
    broken = []
    with arena.server() as target:
        for one, other in pairs:
            first, later = (target.ask("POST", "/v1/score", payment(name)).status for name in (one, other))
            if (first, later) != (200, 409):
                broken.append(f"{one} was answered {first}, its twin {later}")
            told = target.ask("POST", "/v1/outcomes", {"transaction_id": other, "is_fraud": True})
            if (told.status, told.body.get("known")) != (202, False):
                broken.append(f"an outcome of the twin of {one} is taken for that of a decision")
            if target.ask("GET", f"/v1/decisions/{one}").body["outcomes"]:
                broken.append(f"an outcome of the twin of {one} is shown as its own")
    return Tried(len(pairs) * 2, broken)


ATTACKS = [
    Attack("separators", "a card number in a file or an answer", card_numbers),
    Attack("twins", "fraud labels on a card that is not theirs", twins),
    Attack("poison", "a transaction that is accepted and never read back", poison),
    Attack("deadlines", "an approval by leaving the model no time", deadlines),
    Attack("repeats", "two decisions for one id", repeats),
]
