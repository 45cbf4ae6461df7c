"""What is sent to whom, a test of it, and what was parked tried again: for the command and for the API alike."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import msgspec

from sentinel.config import Settings
from sentinel.errors import InvalidDefinition, NotFound
from sentinel.events.card_numbers import quoted
from sentinel.events.times import clock_us, iso
from sentinel.record.written import outbox
from sentinel.record.written.outbox import Delivery, Message
from sentinel.record.written.written_database import WrittenDatabase
from sentinel.transport.messages.destinations import Destination, SendFailed, destinations_of


class Place(msgspec.Struct, frozen=True):
    """A destination: where it is, and the kinds of messages that go there."""

    name: str
    to: str
    kinds: list[str]


class ShownDelivery(msgspec.Struct, frozen=True):
    """One delivery: `at` is when it is tried next while it waits, else when it was tried last."""

    number: int
    kind: str
    about: str
    destination: str
    state: str
    attempts: int
    at: str
    last_error: str | None


class Notifications(msgspec.Struct, frozen=True):
    """Where messages go; how many deliveries are in each state; the newest of them."""

    destinations: list[Place]
    counts: dict[str, int]
    deliveries: list[ShownDelivery]


def list_notifications(settings: Settings, state: str | None, limit: int) -> Notifications:
    """What is set, and what was sent. Raises InvalidDefinition, StorageProblem."""
    if state is not None and state not in outbox.STATES:
        raise InvalidDefinition(
            f"{quoted(state, 40)} is no state of a delivery; give one of {', '.join(outbox.STATES)}"
        )
    places = [Place(one.name, one.shown, list(one.kinds)) for one in destinations_of(settings)]
    with _outbox(settings) as database, database.reading() as reader:
        found = [_shown(one) for one in outbox.newest(reader, limit, state)]
        return Notifications(places, outbox.n_of_state(reader), found)


def try_destinations(settings: Settings) -> dict[str, str]:
    """Send a test to everyone now; by destination `ok`, or what stands in the way. Raises InvalidDefinition."""
    destinations = destinations_of(settings)
    if not destinations:
        raise InvalidDefinition("nobody is told of anything: set SENTINEL_WEBHOOK_URL or SENTINEL_MAIL_TO")
    body = msgspec.json.encode({"text": "This is a test of Sentinel's notifications: nothing has happened"}).decode()
    now_us = clock_us()
    message = Message(f"test-{now_us}", "notification.test", "a test", body, now_us)

    def tried(one: Destination) -> str:
        try:
            one.send(message, now_us / 1e6)
        except SendFailed as error:
            return str(error)
        return "ok"

    with ThreadPoolExecutor(len(destinations)) as pool:
        return dict(zip([one.name for one in destinations], pool.map(tried, destinations), strict=True))


def retry_notification(settings: Settings, number: int) -> ShownDelivery:
    """Have a parked delivery tried again by the server that runs, or the next one. Raises NotFound, Conflict."""
    with _outbox(settings) as database, database.writing() as writer:
        return _shown(outbox.try_again(writer, number, clock_us()))


@contextmanager
def _outbox(settings: Settings) -> Iterator[WrittenDatabase]:
    if not settings.home.is_dir():
        raise NotFound(f"There is no home folder {settings.home}; give the one of the server with --home")
    with closing(WrittenDatabase(settings.home, settings.database_url)) as database:
        yield database


def _shown(one: Delivery) -> ShownDelivery:
    return ShownDelivery(
        one.number, one.message.kind, one.message.about, one.destination, one.state, one.attempts, iso(one.next_us),
        one.last_error,
    )  # fmt: skip
