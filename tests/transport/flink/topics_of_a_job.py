"""A job of Flink between topics of its own: what goes in, what comes out, and what one replay says of that."""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import numpy as np
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from sentinel.commands.flink import FlinkRun, begin_profiles, job_of
from sentinel.events.columns import columns_of_events, concatenate
from sentinel.features.store import MemoryStore
from sentinel.record.kafka.place import topics_of
from sentinel.transport.flink.job_spec import encode_spec
from sentinel.transport.flink.reading import outcome_in

TOPICS = ("transactions", "outcomes", "decisions", "dead-letters")
SOURCES = Path(__file__).parents[3] / "src"
PATIENCE_S = 900.0  # a busy machine is no fault of ours: a job alone starts for minutes there
COMPILING_S = 1_200.0  # the kernel in an environment that has never run it, on such a machine
COMPILE = """
import sys
from pathlib import Path
from sentinel.features.store import MemoryStore
from sentinel.model.bundle import load_bundle
from sentinel.transport.flink.keeping import Profiles
plan = load_bundle(Path(sys.argv[1])).manifest.plan
for by in MemoryStore(plan).groups:
    Profiles(plan, by, lambda _: b"").warm()
"""


QUICK = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"  # for Java: nothing here runs for long
_compiled = set()


def compile_once(python, bundle, environment):
    """Have the kernel compiled before tasks wait for it, each by itself; once for all jobs of a model."""
    if bundle not in _compiled:
        subprocess.run([python, "-c", COMPILE, bundle], env=environment, check=True, timeout=COMPILING_S)
        _compiled.add(bundle)


class JobTopics:
    """Four topics with a prefix of their own, and the jobs that run between them."""

    def __init__(self, settings, broker, folder, partitions=2):
        prefix = f"flink{secrets.token_hex(4)}-"
        self.prefix, self.settings, self.folder = prefix + topics_of(settings.home), settings, folder
        self.environment = {"SENTINEL_KAFKA": broker, "SENTINEL_KAFKA_PREFIX": prefix}
        self.broker = broker
        stamped = {"message.timestamp.type": "LogAppendTime"}
        topics = [NewTopic(self.prefix + name, partitions, 1, config=stamped) for name in TOPICS]
        admin = AdminClient({"bootstrap.servers": broker})
        for made in admin.create_topics(topics).values():
            made.result(30)
        self._producer = Producer({"bootstrap.servers": broker, "linger.ms": 5})
        self._consumer = Consumer(
            {
                "bootstrap.servers": broker, "group.id": self.prefix, "auto.offset.reset": "earliest",
                "isolation.level": "read_committed", "enable.auto.commit": False,
            }
        )  # fmt: skip
        self._consumer.subscribe([self.prefix + name for name in TOPICS[2:]])
        self.entries, self.dead, self.where = [], [], {}
        self._job = None

    def send(self, topic, pairs):
        for key, value in pairs:
            raw = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
            while True:
                try:
                    self._producer.produce(self.prefix + topic, key=key, value=raw)
                    break
                except BufferError:
                    self._producer.poll(0.1)
        assert self._producer.flush(60) == 0

    def start(self, parallelism=1, restore=None, cluster=None, checkpoint_ms=500, **flink):
        run = FlinkRun(
            cluster, parallelism, checkpoint_ms, (self.folder / "checkpoints").absolute().as_uri(), restore,
            {"restart-strategy.type": "none"} | flink,
        )  # fmt: skip
        spec = job_of(self.settings, "shop", None, run, self.environment)
        begin_profiles(spec)
        environment = {**os.environ, "PYTHONPATH": str(SOURCES), "JDK_JAVA_OPTIONS": QUICK}
        compile_once(self.settings.flink_python, spec.bundle, environment)
        with (self.folder / "job.log").open("ab") as log:
            self._job = subprocess.Popen(
                [self.settings.flink_python, "-m", "sentinel.transport.flink"],
                stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
                env=environment,
            )  # fmt: skip
        self._job.stdin.write(encode_spec(spec))
        self._job.stdin.close()

    def kill(self):
        """End the job's processes at once, as a machine that loses its power does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._job.pid, signal.SIGKILL)
        self._job.wait()

    def ended(self):
        """Wait until the job is over, as it was asked to be."""
        assert self._job.wait(60) == 0
        self._job = None

    def checkpoint(self):
        """The newest whole checkpoint."""
        whole = [one.parent for one in (self.folder / "checkpoints").glob("*/chk-*/_metadata")]
        return max(whole, key=lambda one: one.stat().st_mtime).absolute().as_uri()

    def read_until(self, enough, patience_s=PATIENCE_S):
        """Take what is committed until `enough` says so."""
        until = time.monotonic() + patience_s
        while not enough(self) and time.monotonic() < until:
            assert self._job is None or self._job.poll() is None, (self.folder / "job.log").read_text()[-3000:]
            for one in self._consumer.consume(2000, 0.2):
                assert one.error() is None, one.error()
                if one.topic().endswith("letters"):
                    headers = {name: value.decode() for name, value in one.headers()}
                    self.dead.append({"key": one.key(), "value": one.value(), **headers})
                else:
                    entry = json.loads(one.value())
                    self.entries.append(entry)
                    self.where.setdefault(one.key().decode(), set()).add(one.partition())
        assert enough(self), (len(self.entries), (self.folder / "job.log").read_text()[-3000:])

    @property
    def decided(self):
        return [one for one in self.entries if one["kind"] == "decided"]

    @property
    def told(self):
        return [one for one in self.entries if one["kind"] == "outcome" and one["known"]]

    def close(self):
        if self._job is not None and self._job.poll() is None:
            self.kill()
        self._consumer.close()


def features_of_replays(plan, store, entries):
    """The features of every transaction, by id, from replays in each key's own order: one for each group of features.

    Each of them takes whole histories of one key after the other, and starts from the store that `store` makes.
    """
    convert, empty = columns_of_events(plan.schema), MemoryStore(plan)
    read = {
        one["transaction_id"]: plan.schema.decode(json.dumps(one["transaction"]).encode())
        for one in entries
        if one["kind"] == "decided"
    }
    parts = []
    for one in entries:
        if one["kind"] == "decided":
            parts.append(convert([read[one["transaction_id"]]], one["received_us"]))
        else:
            outcome = outcome_in(json.dumps(one["outcome"]).encode())
            told = convert([outcome], one["received_us"])
            told.texts[:] = convert([read[outcome.transaction_id]], 0).texts  # the keys that it is about
            parts.append(told)
    events = concatenate(parts)
    _, texts, _ = empty.columns_of(events)
    rows = np.full((len(entries), len(plan.features)), np.nan)
    is_decided = np.array([one["kind"] == "decided" for one in entries])
    for group, by in zip(empty.compiled.groups, empty.groups, strict=True):
        order = np.lexsort(([one["sequence"][by] for one in entries], texts[:, group.key]))
        found = store().advance(events.rows(order)).rows
        mine = [n for n, one in enumerate(plan.features) if _key_of(one) in (by, "")]
        rows[np.ix_(order[is_decided[order]], mine)] = found[:, mine]
    return {one["transaction_id"]: row for one, row in zip(entries, rows, strict=True) if one["kind"] == "decided"}


def _key_of(feature):
    """The group that a feature, or what it is made of, follows."""
    keys = {"+".join(feature.key), *(_key_of(part) for part in feature.parts)} - {""}
    return keys.pop() if keys else ""


def twice(names):
    """Those that come more than once."""
    return [one for one, n in Counter(names).items() if n > 1]
