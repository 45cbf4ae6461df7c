"""A server's explainer: what was not approved gets its reasons beside the deciding, whatever happens to the process."""

import os
import signal
import sqlite3
import time
import uuid
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from sentinel.record.applied import log_folder
from sentinel.record.log import Follower, Kind
from sentinel.record.log_reader import FileLogReader
from sentinel.record.reasons import reasons_in
from sentinel.record.views.sqlite import FILE

PATIENCE_S = 90.0


@pytest.fixture(scope="module")
def server(start_server, shop_home):
    return start_server(shop_home)


def payments(n: int) -> list[dict]:
    return [
        {"transaction_id": uuid.uuid4().hex, "event_time": "2025-02-01T10:00:00Z", "amount": 12.5 + i,
         "card": f"card-{i % 5}", "shop": "shop-1", "channel": "web", "risk": 0.1}
        for i in range(n)
    ]  # fmt: skip


def eventually(found):
    end_s = time.monotonic() + PATIENCE_S
    while not (value := found()):
        assert time.monotonic() < end_s, "it never happened"
        time.sleep(0.1)
    return value


def explainers_of(pid: int) -> list[int]:
    """The explainer's process among the children of a server."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for task in Path(f"/proc/{pid}/task").iterdir():
        children += (task / "children").read_text().split()
    return [int(one) for one in {*children} if b"record.explaining" in Path(f"/proc/{one}/cmdline").read_bytes()]


def explained(home: Path) -> list[int]:
    """The positions of the decisions that have reasons, as often as they have them."""
    found: list[int] = []
    with closing(FileLogReader(log_folder(home))) as log:
        for page in Follower(log, log.first).rest():
            for record in page:
                if record.kind == Kind.REASONS:
                    found += np.frombuffer(reasons_in(record).about, "<i8").tolist()
    return found


def test_reasons_are_stored_once_though_the_explainer_is_killed_and_shown_as_they_are_computed(server, ask):
    assert ask(server.port, "POST", "/admin/thresholds", {"review": 0, "block": 0.9}).status == 200
    names, killed = [], set()
    for _ in range(3):
        batch = payments(100)
        names += [one["transaction_id"] for one in batch]
        assert ask(server.port, "POST", "/v1/score", batch).status == 200
        alive = eventually(lambda: [pid for pid in explainers_of(server.pid) if pid not in killed])
        if len(names) < 300:
            os.kill(alive[0], signal.SIGKILL)
            killed.add(alive[0])

    def shown(name):
        return ask(server.port, "GET", f"/v1/decisions/{name}").json

    computed = shown(names[-1])["why"]
    last = eventually(lambda: (one := shown(names[-1]))["why_position"] is not None and one)
    assert last["why"] == computed
    assert last["why"]["reasons"]
    positions = [shown(name)["position"] for name in names]
    assert sorted(explained(server.home)) == sorted(positions)

    def in_view():
        with closing(sqlite3.connect(f"file:{server.home / FILE}?mode=ro", uri=True)) as tool:
            return dict(tool.execute("SELECT about, why FROM reasons")).keys() >= {*positions}

    assert eventually(in_view)
    metrics = ask(server.port, "GET", "/metrics/prom")
    assert b"\nsentinel_reasons_left_out 0" in metrics.body


def test_a_server_that_is_told_so_stores_none_and_computes_them_when_asked(start_server, shop_home, ask):
    server = start_server(shop_home, {"SENTINEL_REASONS": "0"})
    ask(server.port, "POST", "/admin/thresholds", {"review": 0})
    (one,) = payments(1)
    assert ask(server.port, "POST", "/v1/score", one).json["decision"] == "review"
    eventually(lambda: b"sentinel_snapshot_lag" in ask(server.port, "GET", "/metrics/prom").body)
    assert explainers_of(server.pid) == []
    found = ask(server.port, "GET", f"/v1/decisions/{one['transaction_id']}").json
    assert found["why_position"] is None
    assert found["why"]["reasons"]
