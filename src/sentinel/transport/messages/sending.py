"""The sender: deals messages out, and tries each delivery until it arrives or is parked."""

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence

from sentinel.errors import StorageProblem
from sentinel.record.written import outbox
from sentinel.record.written.database import Database
from sentinel.record.written.outbox import Delivery
from sentinel.transport.messages.destinations import WITHIN_S, Destination, SendFailed, wanted_by

MOST_TRIES = 14
"""Tries before a delivery is parked: the last is some five hours after the first."""

FIRST_WAIT_S, LONGEST_WAIT_S = 10.0, 3_600.0
KEPT_US = 30 * 86_400_000_000
"""How long what was delivered is shown."""

_AT_ONCE = 100
_CLAIMED_US = round(4 * WITHIN_S * 1_000_000)
_log = logging.getLogger(__name__)


def wait_s(tries: int, chance: random.Random) -> float:
    """How long to wait after so many tries, at least one: doubled each time, and nobody waits as long as another."""
    return float(min(FIRST_WAIT_S * 2 ** (tries - 1), LONGEST_WAIT_S) * chance.uniform(0.8, 1.2))


class Sender:
    """Sends what is in an outbox. Destinations do not wait for one another: each has a thread of its own."""

    def __init__(self, database: Database, destinations: Sequence[Destination], chance: random.Random) -> None:
        self._database, self._destinations, self._chance = database, destinations, chance

    def deal(self, now_us: int) -> int:
        """Make the deliveries of new messages, and forget old ones; how many messages were new."""
        with self._database.reading() as reader:
            if not outbox.has_new(reader):
                return 0
        with self._database.writing() as writer:
            new = outbox.deal(
                writer, lambda one: wanted_by(self._destinations, one), now_us, _AT_ONCE, now_us - outbox.OLDEST_US
            )
            outbox.forget(writer, now_us - KEPT_US)
        return new

    def send_next(self, destination: Destination, clock_us: Callable[[], int]) -> bool:
        """Try the next delivery that is due to a destination; whether there was one. Raises StorageProblem."""
        with self._database.reading() as reader:
            found = outbox.due(reader, clock_us(), 1, destination.name)
        if not found:
            return False
        with self._database.writing() as writer:
            if not outbox.claim(writer, found[0], clock_us() + _CLAIMED_US):
                return True
        try:
            destination.send(found[0].message, clock_us() / 1e6)
        except SendFailed as error:
            self._failed(found[0], error, clock_us())
        else:
            with self._database.writing() as writer:
                outbox.delivered(writer, found[0].number, clock_us())
        return True

    def _failed(self, delivery: Delivery, error: SendFailed, now_us: int) -> None:
        tries = delivery.attempts + 1
        with self._database.writing() as writer:
            if not error.for_good and tries < MOST_TRIES:
                next_us = now_us + round(wait_s(tries, self._chance) * 1e6)
                outbox.failed(writer, delivery.number, str(error), next_us)
                return
            outbox.park(writer, delivery.number, str(error), now_us)
            if delivery.message.kind != "delivery.parked":
                text = (
                    f"{delivery.destination} did not take a message ({delivery.message.kind} about "
                    f"{delivery.message.about}) in {tries} tries: {error}. It is parked until somebody runs "
                    f"`sentinel notifications retry {delivery.number}`"
                )
                outbox.put(writer, "delivery.parked", delivery.destination, {"text": text}, now_us)
        _log.warning("delivery %d to %s is parked: %s", delivery.number, delivery.destination, error)


def keep_sending(
    sender: Sender, destinations: Sequence[Destination], goes_on: Callable[[], bool], clock_us: Callable[[], int],
    pause_s: float = 0.5,
) -> list[threading.Thread]:  # fmt: skip
    """Have each destination served by a thread of its own, while it goes on."""

    def run(destination: Destination) -> None:
        while goes_on():
            try:
                if not sender.send_next(destination, clock_us):
                    time.sleep(pause_s)
            except StorageProblem as problem:
                _log.warning("messages cannot be sent: %s", problem)
                time.sleep(10 * pause_s)
            except Exception:  # noqa: BLE001 - one message must not end all that come after it
                _log.exception("a message to %s was not sent", destination.name)
                time.sleep(10 * pause_s)

    threads = [threading.Thread(target=run, args=(one,), name=one.name, daemon=True) for one in destinations]
    for one in threads:
        one.start()
    return threads
