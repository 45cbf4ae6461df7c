"""What becomes of the reviews in a case: somebody looks at them, and then they come to what the case was."""

import asyncio
from collections.abc import Sequence

from fastapi.concurrency import run_in_threadpool

from sentinel.errors import Conflict, NotFound
from sentinel.policy.thresholds import Action
from sentinel.record.concluding import Telling
from sentinel.record.earlier_results import Earlier
from sentinel.record.entries import DecisionRow
from sentinel.review.case_store.case import Payment
from sentinel.serve.worker import Worker
from sentinel.transport.http.lookups import Lookups


async def conclude_reviews(
    worker: Worker, lookups: Lookups, payments: Sequence[Payment], telling: Telling, turn: asyncio.Semaphore
) -> None:
    """Record this of every payment of the case that was to be reviewed, each in a `turn`; durable when this returns.

    A review that came to something else before, as nobody took it in time or another system said so, keeps that, and a
    decision that the log no longer has is passed by. Raises NotReady, StorageProblem.
    """
    for payment in payments:
        if payment.decision != Action.REVIEW:
            continue
        try:
            async with turn:
                row, earlier = await run_in_threadpool(_known, lookups, payment)
                await asyncio.wrap_future(worker.conclude(row, telling, earlier=earlier))
        except (Conflict, NotFound):
            continue


def _known(lookups: Lookups, payment: Payment) -> tuple[DecisionRow, Earlier]:
    row = lookups.stored(payment.transaction_id, str(payment.position))
    return row, lookups.earlier(row)
