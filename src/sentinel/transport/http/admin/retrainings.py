"""Admin calls: the retrainings of this home, as they are written down."""

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from sentinel.errors import InvalidInput
from sentinel.record.retrainings import runs_of
from sentinel.transport.http.admin.changes import Changes
from sentinel.transport.http.queries import whole_number
from sentinel.transport.http.replies import ok

_MOST = 100


def add_retrainings(router: APIRouter, changes: Changes) -> None:
    """What was retrained, how it went, and why."""

    @router.get("/retrainings")
    async def retrainings(request: Request) -> Response:
        """The newest retrainings, each with its steps, what they found, and why it was refused or failed.

        `running` says why this server has one running now, `ended` how those since its start ended; null where it
        retrains nothing by itself. `limit` is 1 to 100.
        """
        limit = whole_number(request.query_params.get("limit", "20"), "limit")
        if not 1 <= limit <= _MOST:
            raise InvalidInput(f"Expected 1 to {_MOST}, got {limit}", "$.limit")
        runs = await run_in_threadpool(runs_of, changes.api.settings.home)
        retrainer = changes.watch.retrainer
        return ok(
            {
                "running": None if retrainer is None else retrainer.why,
                "ended": None if retrainer is None else dict(retrainer.ended),
                "in_all": len(runs),
                "runs": runs[::-1][:limit],
            }
        )
