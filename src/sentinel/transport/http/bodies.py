"""Bodies of requests on the lane of the framework: never more of one than its limit."""

from typing import Any

import msgspec
from fastapi import Request

from sentinel.errors import BadBody, InvalidInput, TooLarge, WrongMedia
from sentinel.events.wire import read_json

MOST_OF_ADMIN = 65_536
"""Bytes of the body of an admin call."""

_PATIENCE = 8


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body. Raises TooLarge, WrongMedia.

    What is somewhat too large is read to its end all the same: a client that is still sending sees no answer.
    """
    body, size = bytearray(), 0
    async for part in request.stream():
        size += len(part)
        if size <= limit:
            body += part
        elif size > _PATIENCE * limit:
            break
    if size > limit:
        raise TooLarge(f"The body has more than {limit} bytes; send smaller batches")
    if request.headers.get("content-encoding", "identity") != "identity":
        raise WrongMedia("Content-Encoding is not understood; send the body as it is")
    return bytes(body)


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


def shown_body(kind: type[msgspec.Struct], *, required: bool = True) -> dict[str, Any]:
    """What the description of the API says of such a body."""
    schema = msgspec.json.schema(kind)
    schema = schema.get("$defs", {}).get(kind.__name__, schema)
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}
