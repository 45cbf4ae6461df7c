"""Admin calls: the log."""

import asyncio
from typing import Annotated

import msgspec
from fastapi import APIRouter, Request, Response

from sentinel.config import age_us
from sentinel.errors import BadBody, InvalidDefinition
from sentinel.events.card_numbers import quoted
from sentinel.record.archive.place import address_of
from sentinel.record.pruning import Retention
from sentinel.transport.http.admin.changes import Changes
from sentinel.transport.http.bodies import read_as, shown_body
from sentinel.transport.http.replies import ok


class PruneBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long the log is kept, such as 180d; the server's own archive, to have it named; whether only to look."""

    keep: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    archive: Annotated[str, msgspec.Meta(min_length=1, max_length=4_000)] | None = None
    dry_run: bool = False


def add_log(router: APIRouter, changes: Changes) -> None:
    """What leaves the log."""

    @router.post("/log/prune", openapi_extra=shown_body(PruneBody, required=False))
    async def prune(request: Request) -> Response:
        """Remove segments of the log that are older than `keep` and needed by nobody, four at most: see `more`.

        `keep` is that of the server unless the body has it; `archive` may only name the server's own
        (`SENTINEL_ARCHIVE`), which has to have what leaves; `dry_run` only tells what would go.
        """
        asked = await read_as(request, PruneBody)
        first, keeper = changes.api.deciding().log.first, changes.watch.log_keeper
        if keeper is None:
            raise BadBody("The log is in Kafka, which removes entries by their age (retention.ms of its topic)")
        retention = _retention(asked, keeper.retention)
        done = await asyncio.wrap_future(keeper.look(retention) if asked.dry_run else keeper.prune(retention))
        if done.removed and not asked.dry_run:  # only now: an entry before it would keep the newest segment
            await changes.note(request, {"first": first}, {"first": done.first})
        return ok(done)


def _retention(asked: PruneBody, usual: Retention) -> Retention:
    try:
        keep_us = usual.keep_us if asked.keep is None else age_us(asked.keep)
    except InvalidDefinition as error:
        raise BadBody(f"keep: {error}") from None
    if keep_us is None:
        raise BadBody(
            'The log is kept for ever (SENTINEL_KEEP_LOG); say how much of it to keep, as in {"keep": "180d"}'
        )
    if asked.archive is not None and (usual.archive is None or asked.archive != address_of(usual.archive)):
        raise BadBody(
            f"archive is {quoted(asked.archive, 200)}, and a running server copies its log to its own archive only; "
            "leave it out, set SENTINEL_ARCHIVE for the server, or stop it and run `sentinel log prune --archive`"
        )
    return msgspec.structs.replace(usual, keep_us=keep_us)
