"""What a case says of its payments: told as outcomes before it is decided, taken back before it is reopened."""

import asyncio
from collections.abc import Sequence

from fastapi.concurrency import run_in_threadpool

from sentinel.errors import SentinelError
from sentinel.events.columns import Outcome as Told
from sentinel.events.times import clock_us, iso
from sentinel.record.audit import By
from sentinel.review.case_store.case import Case, Payment, teller_of
from sentinel.review.case_store.desk import ANALYST
from sentinel.serve.batch import Answers
from sentinel.transport.http.api import Api
from sentinel.transport.http.revocations import RevokeBody, revoke

_AT_ONCE = 50
"""Outcomes in one turn of the event loop."""


async def tell_payments(api: Api, number: int, payments: Sequence[Payment], *, is_fraud: bool, who: str) -> None:
    """Record what the payments of a case were; durable when this returns. The same again records nothing.

    Raises NotReady, StorageProblem, Conflict for a case that has said too many things of one payment.
    """
    now_us = clock_us()
    told = [
        Told(one.transaction_id, is_fraud, now_us, ANALYST, teller_of(number), f"case {number}, {who}")
        for one in payments
    ]
    for n in range(0, len(told), _AT_ONCE):
        answers: asyncio.Future[Answers] = asyncio.get_running_loop().create_future()
        api.tell_outcomes(told[n : n + _AT_ONCE], teller_of(number), answers.set_result)
        fault = next((one for one in await answers if isinstance(one, SentinelError)), None)
        if fault is not None:
            raise fault


async def take_back(api: Api, case: Case, reason: str, by: By) -> None:
    """Have what a case said of its payments count no more; durable when this returns.

    Raises NotReady, StorageProblem.
    """
    asked = RevokeBody(teller_of(case.number), reason, from_=iso(case.opened_us))
    position, before = 0, None
    while True:
        again = RevokeBody(asked.key, asked.reason, asked.from_, position=position, before=before)
        step = await run_in_threadpool(revoke, api.deciding(), again, by)
        if not step.more:
            return
        position, before = step.position, step.before
