"""Bodies of requests on the lane of the framework: never more of one than its limit."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from fastapi import Request

from sentinel.errors import BadBody, InvalidInput, TooLarge, WrongMedia
from sentinel.events.wire import read_json

MOST_OF_ADMIN = 65_536
"""Bytes of the body of an admin call."""

_split_array = msgspec.json.Decoder(list[msgspec.Raw]).decode

VERSION = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
"""The name of a model's version."""
REASON = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
"""Why somebody overrules what stands against a change."""


async def read_body(request: Request, limit: int) -> bytes:
    """The body, which is here as a whole: so a request is handed over. Raises TooLarge, WrongMedia."""
    body = await request.body()
    if len(body) > limit:
        raise TooLarge(f"The body has more than {limit} bytes; send smaller batches")
    if request.headers.get("content-encoding", "identity") != "identity":
        raise WrongMedia("Content-Encoding is not understood; send the body as it is")
    return body


async def read_as(request: Request, kind: type[Any]) -> Any:
    """The body of an admin call; an empty one is `{}`.

    Raises BadBody for values that cannot be accepted as well: whatever is wrong here is a 400. Raises TooLarge,
    WrongMedia.
    """
    body = await read_body(request, MOST_OF_ADMIN)
    request.state.asked = body.strip()
    try:
        return read_json(msgspec.json.Decoder(kind).decode, request.state.asked or b"{}")
    except InvalidInput as error:
        raise BadBody(str(error)) from None


def items_in(body: bytes, kind: str, most: int, what: str = "a transaction") -> Sequence[Any] | None:
    """The parts of a batch, lines or a JSON array by its `kind`, or None for a body that is one object.

    Raises BadBody, InvalidInput, and TooLarge for more than `most`.
    """
    if kind == "lines":
        items: Sequence[Any] = [line for line in body.split(b"\n") if line.strip()]
    elif body[:64].lstrip()[:1] == b"[":
        items = read_json(_split_array, body)
    elif body.strip():
        return None
    else:
        raise BadBody(f"The body is empty; send {what}, an array of up to {most}, or lines")
    if not items:
        raise BadBody("The batch is empty; send at least one")
    if len(items) > most:
        raise TooLarge(f"{len(items)} in one batch; send at most {most}")
    return items


def shown_body(kind: type[msgspec.Struct], *, required: bool = True) -> dict[str, Any]:
    """What the description of the API says of such a body."""
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema_of(kind)}}}}


def schema_of(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The JSON schema of a struct that has no other in it."""
    schema = msgspec.json.schema(kind)
    found: dict[str, Any] = schema.get("$defs", {}).get(kind.__name__, schema)
    return found
