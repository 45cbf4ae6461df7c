"""What waits at a front is in its metrics: its autoscaler counts by that."""

import asyncio
import json
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

from owner_and_fronts import payment

from sentinel.config import read_settings
from sentinel.errors import SentinelError
from sentinel.events.reader import TransactionReader
from sentinel.front_app import _loader
from sentinel.policy.model_call import Limits, ModelCaller
from sentinel.record.home_reader import open_log
from sentinel.record.online.fronts import FrontStore
from sentinel.record.online.place import open_online
from sentinel.record.snapshots import Snapshots
from sentinel.serve.ledger import Ledger
from sentinel.telemetry.counters import Counters
from sentinel.transport.wide.application import FrontPages
from sentinel.transport.wide.following import Following
from sentinel.transport.wide.front import Asked, Front
from sentinel.transport.wide.judging import KnownLists
from sentinel.transport.wide.seal import Seal

PATIENCE_S = 60


async def taken(messages):
    """Brokers that take everything."""
    return [None] * len(messages)


def asked(reader, schema, replies):
    sent = payment("c1")
    event = reader.decode(json.dumps(sent).encode())
    now_ns = time.monotonic_ns()
    return Asked(
        sent["transaction_id"], "c1", event, schema.encode(event), False, now_ns, now_ns + PATIENCE_S * 10**9, "", replies.append
    )  # fmt: skip


def test_what_waits_at_a_front_is_in_its_metrics(shop_home, tmp_path):
    home = shutil.copytree(shop_home, tmp_path / "home")
    settings, lists, replies = read_settings({"home": home}), KnownLists(), []
    load = _loader(settings, ModelCaller(Limits(deadline_s=10.0)), lists)
    following = Following(lambda: open_log(home), Snapshots(settings.snapshots), load, lists, lambda: 0.0)
    online = open_online(home, following.judge.detector, "redis://127.0.0.1:1", 1.0)  # nobody listens there
    schema = following.judge.schema
    reader = TransactionReader(schema, settings.secrets())

    async def queue(pages):
        body = (await pages.prometheus(None)).body.decode()
        return float(re.search(r"(?m)^sentinel_queue_length (\S+)$", body)[1])

    async def answer(threads):
        front = Front(
            following.judge, FrontStore(online, 1000), taken, Seal(["k" * 32], "transactions"), threads, 100, Ledger(Counters())
        )  # fmt: skip
        pages, seen = FrontPages(front, front, following), []
        for _ in range(3):
            front.put(asked(reader, schema, replies))
        seen.append(await queue(pages))
        async with asyncio.timeout(PATIENCE_S):
            await front.settled()
        return [*seen, await queue(pages)]

    with ThreadPoolExecutor(1) as threads:
        assert asyncio.run(answer(threads)) == [3, 0]
    assert len(replies) == 3
    assert not any(isinstance(one, SentinelError) for one in replies)
