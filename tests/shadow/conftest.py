"""A champion and a challenger of one schema, and a server's log to write decisions into."""

import hashlib
import os
import shutil
import time
from pathlib import Path

import msgspec
import numpy as np
import onnx
import polars as pl
import pytest
from onnx import TensorProto, helper

from sentinel.detectors import load_detector
from sentinel.events.columns import columns_of_events, concatenate, hash_texts
from sentinel.events.files import history_of_frame
from sentinel.model.bundle import MODEL_FILE, load_bundle, read_manifest
from sentinel.model.registry import MANIFEST_FILE, Registry
from sentinel.policy.policies import Policy
from sentinel.policy.thresholds import Thresholds
from sentinel.record.applied import log_folder
from sentinel.record.entries import Decided, Decider, Outcomes, body_of, decided_in, outcome_events
from sentinel.record.file_log import FileLog
from sentinel.record.log import Follower, Kind
from sentinel.train.pipeline import train

AFTER_US = 1_738_400_000_000_000  # just after the history of shop_home


@pytest.fixture(scope="session")
def duel_home(shop_home, shop_file, shop_detector, tmp_path_factory) -> Path:
    """shop_home with a challenger v2, stricter and with fewer features; copy it before you write to it."""
    home = tmp_path_factory.mktemp("duel") / "home"
    shutil.copytree(shop_home, home)
    frame = pl.read_csv(shop_file)
    shop, strict = load_detector(shop_detector), Policy(review_at_fpr=0.3, block_at_fpr=0.1)
    challenger = msgspec.structs.replace(shop, features=shop.features[:9], policy=strict)
    train(challenger, history_of_frame(frame, challenger.schema), Registry(home / "models"), lambda *_: None)
    return home


@pytest.fixture
def home(duel_home, tmp_path) -> Path:
    """A home folder of one's own, in whose log nothing was decided yet."""
    shutil.copytree(duel_home, tmp_path / "home")
    return tmp_path / "home"


class Server:
    """What a server does to the log: decides with the champion, 50 at once, and notes outcomes."""

    def __init__(self, home):
        self.home = home
        self.log = FileLog(log_folder(home), AFTER_US)
        self.bundle = load_bundle(home / "models" / "v1")
        self.store = self.bundle.new_store()
        self.schema = self.bundle.manifest.plan.schema
        self.thresholds = msgspec.convert(self.bundle.manifest.thresholds, Thresholds)
        self.rng = np.random.default_rng(5)
        self.positions = []  # of all decisions

    def decide(self, n, degraded=None):
        """Decide n transactions, every tenth older than its neighbours; learn the truth about some earlier ones."""
        earlier = self.positions[:3]
        for begin in range(0, n, 50):
            end = self.log.durable
            self._decide_together([self.payment(end + i) for i in range(min(50, n - begin))], degraded)
        if earlier:
            self._learn(earlier)

    def start_over(self):
        """Go on with another log, as after the folder was deleted."""
        self.log.close()
        shutil.rmtree(log_folder(self.home))
        self.__init__(self.home)

    def payment(self, i):
        """Named after the position that it will have."""
        rng, late = self.rng, 3_600_000_000 if i % 10 == 0 else 0
        return self.schema.wire_type(
            transaction_id=f"t{i}", event_time=AFTER_US + i * 60_000_000 - late, amount=float(rng.integers(1, 30_000)) / 100,
            card=f"card-{rng.integers(20)}", shop=f"shop-{rng.integers(6)}", channel="web", risk=float(rng.normal()),
        )  # fmt: skip

    def _decide_together(self, payments, degraded):
        now_us, n = self.log.clock(AFTER_US), len(payments)
        rows = self.store.advance(columns_of_events(self.schema)(payments, now_us)).rows
        scores = self.bundle.scorer.score(rows).astype(np.float64)
        names = [one.transaction_id for one in payments]
        decider = Decider(
            "v1", self.bundle.state_id, rows.shape[1], self.thresholds.review, self.thresholds.block, "closed", degraded
        )
        body = Decided(
            schema_id="", revision=1, detector="shop", deciders=(decider,), by=bytes(n), ids=names,
            hashes=hash_texts(names).tobytes(), contents=[self.schema.encode(one) for one in payments],
            features=(rows.tobytes(),), scores=scores.tobytes(), levels=self.thresholds.levels(scores).tobytes(),
            late=bytes(n), latencies_us=bytes(4 * n),
        )  # fmt: skip
        position = self.log.write(Kind.DECIDED, n, now_us, body_of(body))
        self.positions += range(position, position + n)

    def _learn(self, about):
        names = [f"t{position}" for position in about]
        body = Outcomes(
            ids=names, hashes=hash_texts(names).tobytes(), is_fraud=bytes(i % 2 == 0 for i in range(len(about))),
            times_us=np.full(len(about), AFTER_US).tobytes(), about=np.array(about).tobytes(),
        )  # fmt: skip
        self.log.write(Kind.OUTCOMES, len(about), self.log.clock(AFTER_US), body_of(body))

    def offline(self, version):
        """What the challenger says to each transaction, by position, when it takes the whole log at once."""
        bundle = load_bundle(self.home / "models" / version)
        schema = bundle.manifest.plan.schema
        columns_of, parts = columns_of_events(schema), []
        for record in (record for page in Follower(self.log, self.log.first).rest() for record in page):
            if record.kind == Kind.DECIDED:
                events = list(map(schema.restore, decided_in(record).contents))
                parts.append(columns_of(events, record.received_us))
            elif record.kind == Kind.OUTCOMES:
                parts.append(columns_of(outcome_events(record), record.received_us))
        scores = bundle.scorer.score(bundle.new_store().advance(concatenate(parts)).rows).tolist()
        return dict(zip(self.positions, scores, strict=True))


@pytest.fixture
def server(home):
    server = Server(home)
    yield server
    server.log.close()


@pytest.fixture
def remake(home):
    """Make a bundle of another: under a new version, with other facts in its manifest or another graph."""

    def make(source, version, model=None, **changes):
        folder = home / "models" / version
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(home / "models" / source, folder)
        manifest = read_manifest(home / "models" / source)
        if model is not None:
            (folder / MODEL_FILE).write_bytes(model)
            changes["files"] = manifest.files | {MODEL_FILE: hashlib.sha256(model).hexdigest()}
            changes["known_rows"] = ()
        manifest = msgspec.structs.replace(manifest, version=version, **changes)
        (folder / MANIFEST_FILE).write_bytes(msgspec.json.encode(manifest))
        Registry(folder.parent).record(version, msgspec.json.encode(manifest), "accepted")

    return make


@pytest.fixture
def add_model(home, remake):
    """Give the challenger another graph under a new version; its nodes lead from `features` to `fraud_probability`."""

    def add(version, nodes, initializers=()):
        width = len(read_manifest(home / "models" / "v2").plan.features)
        taken = helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, width])
        given = helper.make_tensor_value_info("fraud_probability", TensorProto.FLOAT, [None, 1])
        graph = helper.make_graph(nodes, "made", [taken], [given], list(initializers))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        remake("v2", version, model.SerializeToString())

    return add


@pytest.fixture
def until():
    """Wait for something to become true; fails after a while."""

    def wait(what, patience_s=120.0):
        end = time.monotonic() + patience_s
        while not what():
            assert time.monotonic() < end, "it never came true"
            time.sleep(0.02)

    return wait


@pytest.fixture
def exists():
    """Whether a process is there, zombies aside."""

    def ask(pid):
        try:
            os.kill(pid, 0)
            return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
        except (ProcessLookupError, FileNotFoundError):
            return False

    return ask
