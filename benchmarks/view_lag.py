"""How far the view in PostgreSQL is behind while a server decides: SENTINEL_DATABASE_URL says where the database is.

Rows are put into the tables of the view first, behind the positions that the log will reach, so that tables and indexes
have their size. Then requests of one transaction arrive evenly. Ten times a second it is noted where log and view are;
the lag is how long ago the log got to the first entry that the view lacks. All of it shares the machine.
"""

import argparse
import bisect
import os
import tempfile
import threading
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex

import numpy as np
import sqlalchemy as sa

from report import publish
from sentinel.bench.load_generator import Requests, Target, closed_loop, evenly, open_loop
from sentinel.bench.serving_workloads import prepare
from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.record.applied import log_folder
from sentinel.record.log_reader import FileLogReader
from sentinel.record.views.place import ViewPlace, schema_named

HOST, LOOK_S, PATIENCE_S = "127.0.0.1", 0.1, 120.0
FIRST = 100  # transactions that have the table of this month made
BEHIND = 1 << 40  # positions that no log reaches here
PRELOAD = """
INSERT INTO decisions SELECT {behind} + n, 'old-' || n, {at}, 10.0, 'approve', 0.01, 'v1', NULL, false, NULL, NULL,
  900,  '{{"card_id":"c-' || n %% 100000 || '","merchant_id":"m-' || n %% 5000 || '"}}', repeat('x', 200)
FROM generate_series(1, {rows}) n;
INSERT INTO key_entries SELECT ((({behind} + n) >> 14) << 36) | (((hashint8(n)::bigint & 4194303) << 14)) | (n & 16383)
FROM generate_series(1, {rows}) n ON CONFLICT DO NOTHING;
ANALYZE;
"""


def main() -> None:
    """Fill, load, look."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=5_000_000, help="in the view before")
    parser.add_argument("--rate", type=int, default=10_000, help="transactions a second")
    parser.add_argument("--seconds", type=int, default=300)
    given = parser.parse_args()
    url = os.environ["SENTINEL_DATABASE_URL"]
    with tempfile.TemporaryDirectory() as folder:
        count = given.rate * given.seconds
        work = prepare(Path(folder), FIRST + count, lambda *_: None)
        (Path(folder) / "tenants").mkdir()
        home = work.score_home.rename(Path(folder) / "tenants" / f"lag-{token_hex(4)}")  # so it has a schema of its own
        server = ServerProcess(home, HOST, free_port(HOST), environment={"SENTINEL_DATABASE_URL": url})
        with closing(ViewPlace(home, url)) as place:
            server.start()
            closed_loop(Target(HOST, server.port, 1), work.score_requests, FIRST)
            wait_for(place, FIRST)
            preload(url, schema_named(home), given.rows)
            looks: list[tuple[float, int, int]] = []
            stop = threading.Event()
            looker = threading.Thread(target=look, args=(home, place, looks, stop))
            looker.start()
            rest = Requests(work.score_requests.data, work.score_requests.starts[FIRST:])
            due = evenly(given.rate, count)
            load = open_loop(Target(HOST, server.port), rest, due)
            time.sleep(2 * LOOK_S)
            stop.set()
            looker.join()
            server.stop()
            place.drop()
    publish(
        "view_lag",
        f"{given.rows:,} rows before; /v1/score at {given.rate:,}/s for {given.seconds} s, all on one machine",
        {"load": load.figures(), "lag_s": quantiles(lags(looks)), "looks": len(looks)},
    )


def preload(url: str, schema: str, rows: int) -> None:
    """Put rows into the view's tables."""
    at = int(datetime.now(UTC).timestamp()) * 1_000_000
    address = sa.make_url(url).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(address, connect_args={"options": f'-csearch_path="{schema}"'}, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql(PRELOAD.format(behind=BEHIND, rows=rows, at=at))
    engine.dispose()


def wait_for(place: ViewPlace, position: int) -> None:
    """Wait until the view has got so far."""
    until_s = time.monotonic() + PATIENCE_S
    with closing(place.open()) as view:
        while view.position.position < position and time.monotonic() < until_s:
            time.sleep(LOOK_S)


def look(home: Path, place: ViewPlace, looks: list[tuple[float, int, int]], stop: threading.Event) -> None:
    """Note where log and view are."""
    with closing(FileLogReader(log_folder(home))) as log, closing(place.open()) as view:
        while not stop.wait(LOOK_S):
            end = log.durable
            looks.append((time.monotonic(), end, view.position.position))


def lags(looks: list[tuple[float, int, int]]) -> list[float]:
    """Seconds since the log got to the first entry that the view lacks, at each look."""
    ends = [end for _, end, _ in looks]
    found = []
    for n, (now_s, end, position) in enumerate(looks):
        first = bisect.bisect_right(ends, position, hi=n)
        found.append(now_s - looks[first][0] if position < end else 0.0)
    return found


def quantiles(values: list[float]) -> dict[str, float]:
    """Median, p99 and the most."""
    wanted = {"p50": 0.5, "p99": 0.99, "most": 1.0}
    return {name: round(float(np.quantile(values, share)), 3) for name, share in wanted.items()}


if __name__ == "__main__":
    main()
