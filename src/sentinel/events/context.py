"""Context events: what happens beside the transactions and is not decided, such as a login or a password change.

A schema declares the kinds (`Schema.events`). An event has an id and a time of its own and carries fields that
transactions have too, which are read, hidden and kept by the same rules.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import chain
from typing import Any, Union, cast

import msgspec

from sentinel.errors import InvalidInput
from sentinel.events.reader import TransactionReader
from sentinel.events.schema import Misfit, Restored, Schema
from sentinel.events.secrets import Secrets
from sentinel.events.wire import (
    EVENT_ID,
    KIND,
    ContextEvent,
    Seal,
    Transaction,
    Unsealed,
    event_of,
    read_json,
    struct_of,
)

_KNOWN_KIND = msgspec.defstruct("Kind", [(KIND, str)])


class EventSchema(Schema, frozen=True, forbid_unknown_fields=True, kw_only=True, dict=True, omit_defaults=True):
    """The fields of one kind of context events: `event` is its name. It has no amount unless it carries one."""

    event: str

    @cached_property
    def decimals(self) -> dict[str, int]:
        """Every number kept exactly -> its decimals."""
        return self.exact

    def _struct(self, first: dict[str, Any], times: dict[str, Any], texts: dict[str, Any]) -> type[Transaction]:
        sealed = dict.fromkeys(self.sealed.values(), str)
        return struct_of(first | self._number_types | times | texts | sealed, self.may_lack, self.event)


def event_schema(schema: Schema, event: str) -> EventSchema:
    """The fields of a kind of context events that a schema declares.

    >>> schema = Schema(keys=("card_id", "device_id"), events={"login": ("card_id",)})
    >>> event_schema(schema, "login").fields
    ('event_id', 'event_time', 'card_id')
    """
    carried = schema.events[event]

    def some(names: Iterable[str]) -> tuple[str, ...]:
        return tuple(name for name in names if name in carried)

    exact = {name: schema.decimals[name] for name in some(schema.decimals)}
    limits = {name: schema.limits(name) for name in (*exact, *some(schema.numbers))}
    assigned = [name for name, own in ((EVENT_ID, schema.id), (schema.time, schema.time)) if own in schema.optional]
    return EventSchema(
        event=event,
        id=EVENT_ID,
        time=schema.time,
        amount="",
        keys=some(schema.keys),
        categories=some(schema.categories),
        numbers=some(schema.numbers),
        exact=exact,
        optional=(*assigned, *some(schema.optional)),
        rounded=some((*schema.rounded, *(schema.place or ()))),
        ranges={name: both for name, both in limits.items() if both is not None},
        secret=some(schema.secret),
        keep_digits=some(schema.keep_digits),
        keep_domain=some(schema.keep_domain),
        personal={name: schema.personal[name] for name in some(schema.personal)},
        not_card_numbers=some(schema.not_card_numbers),
        label=schema.label,
        timezone=schema.timezone,
        time_format=schema.time_format,
        time_from=schema.time_from,
        decimal=schema.decimal,
        columns={name: column for name, column in schema.columns.items() if name in (schema.time, *carried)},
    )


class Context:
    """The context events of a schema: `schemas` has the fields of each kind, by its name."""

    def __init__(self, schema: Schema) -> None:
        self.schemas = {event: event_schema(schema, event) for event in schema.events}
        self._names = (KIND, EVENT_ID, *dict.fromkeys(chain.from_iterable(one.fields for one in self.schemas.values())))
        types = tuple(one.wire_type for one in self.schemas.values())
        self._decode: Callable[[Any], Any] = msgspec.json.Decoder(Union[types]).decode if types else _no_event  # noqa: UP007
        self._decode_all: Callable[[Any], Any] = (
            msgspec.json.Decoder(list[Union[types]]).decode if types else _no_event  # type: ignore[valid-type]  # noqa: UP007
        )

    def decode(self, raw: bytes | memoryview | msgspec.Raw) -> ContextEvent:
        """One event from its JSON bytes, its secrets still to be hidden (see `ContextReader`). Raises InvalidInput."""
        try:
            event = cast("ContextEvent", read_json(self._decode, raw, self._names))
        except InvalidInput as error:
            if error.path != f"$.{KIND}":
                raise
            raise InvalidInput(f"Expected one of {', '.join(self.schemas) or 'none'}", error.path) from None
        self.schemas[event_of(event)].normalise(event)
        return event

    def restore(self, contents: Sequence[bytes]) -> Restored:
        """The events that `EventSchema.encode` wrote; what does not fit is a misfit.

        Events of kinds that the schema does not declare are left out, and are none: who declares no login counts none.
        """
        try:
            return Restored(self._decode_all(b"[%b]" % b",".join(contents)), range(len(contents)), [])
        except (msgspec.MsgspecError, UnicodeDecodeError, InvalidInput):
            pass
        events: list[Transaction] = []
        places: list[int] = []
        misfits: list[Misfit] = []
        for place, content in enumerate(contents):
            schema = self.schemas.get(kind_of(content) or "")
            if schema is not None:
                found = schema.restore_fitting([content])
                misfits += [misfit._replace(place=place) for misfit in found.misfits]
                events += found.transactions
                places += [place] * len(found.transactions)
        return Restored(events, places, misfits)


class ContextReader:
    """Reads the context events of one schema; all else is as with a TransactionReader."""

    def __init__(
        self, schema: Schema, secrets: Secrets, seal: Seal | type[Unsealed] | None = None, *, takes_parts: bool = False
    ) -> None:
        self._context = Context(schema)
        self._readers = {
            name: TransactionReader(one, secrets, seal, takes_parts=takes_parts)
            for name, one in self._context.schemas.items()
        }

    def decode(self, raw: bytes | memoryview | msgspec.Raw) -> ContextEvent:
        """One event from its JSON bytes, with secrets and card numbers hidden.

        Raises InvalidInput that names the field and what it expects. An optional id or time that is missing stays None.
        """
        event = self._context.decode(raw)
        self._readers[event_of(event)].cleaned(event, raw)
        return event


def kind_of(content: bytes) -> str | None:
    """The name of the kind of a stored event; None where it has none.

    >>> kind_of(b'{"event": "login", "event_id": "e1"}')
    'login'
    """
    try:
        found: Any = msgspec.json.decode(content, type=_KNOWN_KIND)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return str(found.event)


def _no_event(_raw: Any) -> Any:
    raise InvalidInput("Expected no event: the detector declares none", f"$.{KIND}")
