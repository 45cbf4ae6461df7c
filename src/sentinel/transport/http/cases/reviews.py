"""What becomes of the reviews in a case: somebody looks at them, and then they come to what the case was."""

import asyncio
from collections.abc import Sequence

from fastapi.concurrency import run_in_threadpool

from sentinel.errors import Conflict, NotFound
from sentinel.policy.results import Result
from sentinel.policy.thresholds import Action
from sentinel.record.concluding import Telling
from sentinel.review.case_store.case import Payment
from sentinel.serve.worker import Worker
from sentinel.transport.http.cases.outcomes import teller_of
from sentinel.transport.http.lookups import Lookups


async def conclude_reviews(
    worker: Worker, lookups: Lookups, number: int, payments: Sequence[Payment], result: Result, who: str
) -> None:
    """Record this of every payment of the case that was to be reviewed; durable when this returns.

    A review that came to something else before, as nobody took it in time or another system said so, keeps that, and a
    decision that the log no longer has is passed by. Raises NotReady, StorageProblem.
    """
    telling = Telling(result, teller_of(number), f"case {number}, {who}")
    for payment in payments:
        if payment.decision != Action.REVIEW:
            continue
        try:
            row = await run_in_threadpool(lookups.stored, payment.transaction_id, str(payment.position))
            await asyncio.wrap_future(worker.conclude(row, telling))
        except (Conflict, NotFound):
            continue
