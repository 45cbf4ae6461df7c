"""Admin calls: the log."""

import asyncio
from pathlib import Path
from typing import Annotated

import msgspec
from fastapi import APIRouter, Request, Response

from sentinel.config import age_us
from sentinel.errors import BadBody, InvalidDefinition
from sentinel.record.pruning import Retention
from sentinel.transport.http.admin.changes import Changes
from sentinel.transport.http.bodies import read_as, shown_body
from sentinel.transport.http.replies import ok


class PruneBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long the log is kept, such as 180d; the folder that segments are copied to before; whether only to look."""

    keep: str | None = None
    archive: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    dry_run: bool = False


def add_log(router: APIRouter, changes: Changes) -> None:
    """What leaves the log."""

    @router.post("/log/prune", openapi_extra=shown_body(PruneBody, required=False))
    async def prune(request: Request) -> Response:
        """Remove segments of the log that are older than `keep` and needed by nobody, four at most: see `more`.

        `keep` and `archive` are those of the server unless the body has them; `dry_run` only tells what would go.
        """
        asked = await read_as(request, PruneBody)
        first, keeper = changes.api.deciding().log.first, changes.watch.log_keeper
        assert keeper is not None  # noqa: S101 - there is one beside every worker
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
    if asked.archive is None:
        return msgspec.structs.replace(usual, keep_us=keep_us)
    if not Path(asked.archive).is_absolute():
        raise BadBody(f"archive is {asked.archive!r}; give the whole path of a folder")
    return msgspec.structs.replace(usual, keep_us=keep_us, archive=Path(asked.archive))
