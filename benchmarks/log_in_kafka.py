"""What the log in Kafka takes: records of so many decisions' size written, committed and read, and a lone one's wait.

Needs a broker: SENTINEL_KAFKA, or the one of `make services NAMES=kafka`. `--rows` a record, `--records` of them.
"""

import argparse
import os
import platform
import statistics
import time
from contextlib import closing
from datetime import UTC, datetime
from secrets import token_hex

import confluent_kafka

from sentinel.record.kafka.connection import client_settings
from sentinel.record.kafka.kafka_log import KafkaLog
from sentinel.record.kafka.place import Place
from sentinel.record.kafka.reader import KafkaLogReader
from sentinel.record.log import Follower, Kind
from services.catalog import CATALOG
from services.keeper import Keeper

_ROW_BYTES = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--records", type=int, default=2_000)
    parser.add_argument("--alone", type=int, default=200, help="records that are written one by one")
    given = parser.parse_args()
    servers = os.environ.get("SENTINEL_KAFKA")
    if servers is None:
        running = Keeper(CATALOG).running("kafka")
        assert running is not None, "no broker: make services NAMES=kafka"
        servers = running.environment["SENTINEL_KAFKA"]
    place = Place(servers, f"bench-{token_hex(4)}-")
    settings = client_settings(place, os.environ)
    print(
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, {platform.machine()}, load {os.getloadavg()}"
    )
    print(f"Python {platform.python_version()}, confluent-kafka {confluent_kafka.__version__}; broker at {servers}")
    with closing(KafkaLog(place, settings)) as log:
        body = os.urandom(_ROW_BYTES * given.rows)  # nothing to compress: as the features and ids of decisions
        _write(log, body, given.rows, 100)
        seconds, busy = _write(log, body, given.rows, given.records)
        rows = given.records * given.rows
        print(
            f"written and committed: {rows / seconds:,.0f} rows/s, {given.rows} rows and {len(body):,} bytes a record"
        )
        print(f"processor time of this process: {busy / rows * 1e6:.2f} us a row")
        waits = sorted(_alone(log) for _ in range(given.alone))
        print(
            f"one record alone, until it is committed: median {statistics.median(waits) * 1e3:.1f} ms, "
            f"p99 {waits[int(len(waits) * 0.99)] * 1e3:.1f} ms ({given.alone} of them)"
        )
        with closing(KafkaLogReader(place, settings)) as reader:
            begun = time.perf_counter()
            read = sum(record.rows for page in Follower(reader, 1).rest(65_536) for record in page)
            print(f"read by another: {read / (time.perf_counter() - begun):,.0f} rows/s")


def _write(log: KafkaLog, body: bytes, rows: int, records: int) -> tuple[float, float]:
    """Seconds, and seconds of the processor, until all of them are committed."""
    begun, busy = time.perf_counter(), time.process_time()
    for n in range(records):
        position = log.write(Kind.DECIDED, rows, log.clock(n), body)
        while position - log.durable > 64 * rows:
            time.sleep(0.001)
    log.flush()
    return time.perf_counter() - begun, time.process_time() - busy


def _alone(log: KafkaLog) -> float:
    begun = time.perf_counter()
    log.write(Kind.DECIDED, 1, log.clock(0), b"x" * _ROW_BYTES)
    log.flush()
    waited = time.perf_counter() - begun
    time.sleep(0.02)
    return waited


if __name__ == "__main__":
    main()
