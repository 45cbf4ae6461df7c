"""What messages of the topics say: JSON or Avro, read as over HTTP, or handed over by a front with its answer."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from confluent_kafka import Message

from sentinel.errors import BadBody, InvalidInput, Overloaded, SentinelError, TooLarge
from sentinel.events.reader import TransactionReader
from sentinel.events.wire import EVENT_ID
from sentinel.record.entries import Decider
from sentinel.serve.batch import Event, Given, Report
from sentinel.serve.engine import Engine
from sentinel.serve.given import decider_of
from sentinel.telemetry.counters import Slot
from sentinel.transport.http.api import Api
from sentinel.transport.http.outcomes import read_outcome
from sentinel.transport.http.tellers import WITHOUT_KEY
from sentinel.transport.kafka.avro import MAGIC, Schemas
from sentinel.transport.kafka.topics import OUTCOMES, TRANSACTIONS
from sentinel.transport.wide.handed import is_handed, read_handed
from sentinel.transport.wide.seal import Seal

MOST_DECIDERS = 64
"""Of what fronts have answered, in messages that are taken together: a record of the log has room for some more."""


class Contents(NamedTuple):
    """What some messages say, and by place what is wrong with the others. `given` is by place among `events`."""

    events: Sequence[Event]
    places: Sequence[int]
    given: Mapping[int, Given]
    wrong: Mapping[int, SentinelError]


class ContentReader:
    """Reads messages for the engine of an API; `names` has what is in each topic."""

    def __init__(self, api: Api, schemas: Schemas, names: Mapping[str, str]) -> None:
        """Raises InvalidDefinition where answers of fronts are to be taken, and no key is given to know them by."""
        self._api, self._schemas, self._names = api, schemas, names
        self._of_fronts: TransactionReader | None = None
        self._seals: dict[str, Seal] = {}
        if api.settings.fronts:
            keys = api.settings.fronts_keys()
            self._seals = {topic: Seal(keys, topic) for topic, name in names.items() if name == TRANSACTIONS}

    def body(self, message: Message) -> bytes | SentinelError:
        """The JSON of a message, or what is wrong with it. Raises NotReady while a schema cannot be asked for."""
        value, most = message.value(), self._api.settings.max_body_bytes
        if value is None:
            return BadBody("A tombstone: it has no value, and nothing here can be deleted by one")
        if len(value) > most:
            return TooLarge(f"{len(value)} bytes; a message may have {most} (SENTINEL_MAX_BODY_BYTES)")
        if message.key() is None and self._names[message.topic()] == TRANSACTIONS:
            return BadBody("No key: without one the transactions of a card are in no order; send that of the schema")
        if value[:1] != MAGIC:
            return bytes(value)
        try:
            return self._schemas.as_json(value)
        except BadBody as error:
            return error

    def read(self, engine: Engine, messages: Sequence[Message], bodies: Sequence[bytes | SentinelError]) -> Contents:
        """What messages of one topic say, by their bodies. Raises Overloaded for the answers of too many deciders."""
        events: list[Event] = []
        places: list[int] = []
        given: dict[int, Given] = {}
        wrong: dict[int, SentinelError] = {}
        for place, (message, body) in enumerate(zip(messages, bodies, strict=True)):
            try:
                event, answer = self._content(engine, message, body)
            except SentinelError as error:
                wrong[place] = error.with_traceback(None)
                continue
            if answer is not None:
                given[len(events)] = answer
            events.append(event)
            places.append(place)
        return Contents(events, places, given, wrong)

    def _content(self, engine: Engine, message: Message, body: bytes | SentinelError) -> tuple[Event, Given | None]:
        if isinstance(body, SentinelError):
            raise body
        if self._names[message.topic()] == TRANSACTIONS and is_handed(body):
            event, given = read_handed(self._reader_of_fronts(engine), self._opened(engine, message.topic(), body))
            check_fits(engine, given)
            return event, given
        return self._event(engine, message, body), None

    def _opened(self, engine: Engine, topic: str, body: bytes) -> bytes:
        """What a front has sealed. Raises BadBody, which is counted, for what none has."""
        try:
            return _opened_by(self._seals.get(topic), body)
        except BadBody:
            engine.ledger.counters.add(Slot.REFUSED_OF_FRONTS)
            raise

    def _event(self, engine: Engine, message: Message, body: bytes) -> Event:
        """What has no id gets that of its place: it is the same when it is read again."""
        place = f"{message.topic()}-{message.partition()}-{message.offset()}"
        name, reader = self._names[message.topic()], self._api.reader(engine)
        if name == OUTCOMES:
            return read_outcome(reader, body, WITHOUT_KEY)
        if name == TRANSACTIONS:
            transaction = reader.decode(body)
            if reader.schema.assigns:
                reader.schema.assign(transaction, place)
            return transaction
        if not engine.schema.events:
            raise BadBody("This detector knows no context events: its schema declares none in `events`")
        event = self._api.context_reader(engine).decode(body)
        if getattr(event, EVENT_ID) is None:
            setattr(event, EVENT_ID, place)
        return Report(event, WITHOUT_KEY.name)

    def _reader_of_fronts(self, engine: Engine) -> TransactionReader:
        """Fronts have hidden what is secret."""
        if self._of_fronts is None or self._of_fronts.schema is not engine.schema:
            self._of_fronts = TransactionReader(engine.schema, self._api.secrets, takes_parts=True)
        return self._of_fronts


def _opened_by(seal: Seal | None, body: bytes) -> bytes:
    if seal is None:
        raise BadBody(
            "It claims to be the answer of a front, and this server takes none: whoever may write this topic could say "
            "what was decided. Where there are fronts, set SENTINEL_FRONTS=on and send it again"
        )
    return seal.opened(body)


def check_fits(engine: Engine, given: Given) -> None:
    """Raise InvalidInput for features that a model which decides here cannot have had: whoever reads on trusts it."""
    for one in engine.lineup.contenders:
        if one.version == given.answer.model_version and len(one.names) != len(given.features):
            raise InvalidInput(
                f"Expected the {len(one.names)} features of {one.version}, got {len(given.features)}", "$.features"
            )


class Deciders:
    """Who has decided what fronts have answered, in messages that are taken together."""

    def __init__(self) -> None:
        self._known: set[Decider] = set()

    def check(self, given: Mapping[int, Given]) -> None:
        """Raise Overloaded where these make too many: one by one they can be taken."""
        self._known.update(map(decider_of, given.values()))
        if len(self._known) > MOST_DECIDERS:
            raise Overloaded(
                f"fronts have answered by more than {MOST_DECIDERS} different models, thresholds and reasons at once"
            )
