"""A champion and a challenger of one schema, and a server's journal to write decisions into."""

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
from sentinel.events.files import history_of_frame
from sentinel.events.log import Outcome, log_of_events
from sentinel.model.bundle import MANIFEST_FILE, MODEL_FILE, load_bundle, read_manifest
from sentinel.model.registry import Registry
from sentinel.policy.thresholds import Policy, Thresholds
from sentinel.record.decision_batch import DecisionBatch
from sentinel.record.journal import Journal
from sentinel.record.journal_reader import DecisionRow, OutcomeRow
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
    """A home folder of one's own, with an empty journal."""
    shutil.copytree(duel_home, tmp_path / "home")
    return tmp_path / "home"


class Server:
    """What a server does to the journal: decides with the champion, and notes outcomes."""

    def __init__(self, home):
        self.home = home
        self.journal = Journal(home / "journal.db")
        self.bundle = load_bundle(home / "models" / "v1")
        self.store = self.bundle.new_store()
        self.schema = self.bundle.manifest.plan.schema
        self.thresholds = msgspec.convert(self.bundle.manifest.thresholds, Thresholds)
        self.rng = np.random.default_rng(5)

    def decide(self, n, **changes):
        """Decide n transactions, every tenth older than its neighbours; learn the truth about some earlier ones."""
        first = self.journal.last_seq + 1
        payments = [self.payment(first + i) for i in range(n)]
        self.journal.append(DecisionBatch.of_rows(self.rows(payments, first, **changes)))
        if first > 1:
            told = [OutcomeRow(first + n + i, f"t{1 + i}", i % 2 == 0, AFTER_US, AFTER_US) for i in range(3)]
            self.journal.append(learned=told)

    def start_over(self):
        """Go on with another journal, as after the file was deleted."""
        self.journal.close()
        for file in self.home.glob("journal.db*"):
            file.unlink()
        self.__init__(self.home)

    def payment(self, i):
        rng, late = self.rng, 3_600_000_000 if i % 10 == 0 else 0
        return self.schema.wire_type(
            transaction_id=f"t{i}", event_time=AFTER_US + i * 60_000_000 - late, amount=float(rng.integers(1, 30_000)) / 100,
            card=f"card-{rng.integers(20)}", shop=f"shop-{rng.integers(6)}", channel="web", risk=float(rng.normal()),
        )  # fmt: skip

    def rows(self, payments, first, **changes):
        scores = self.bundle.scorer.score(self.store.advance(log_of_events(self.schema)(payments)).rows).tolist()
        return [
            DecisionRow(
                seq=first + i, transaction_id=payment.transaction_id, content=self.schema.encode(payment), features=b"",
                fraud_probability=score, decision=self.thresholds.action(score).value,
                review_threshold=self.thresholds.review, block_threshold=self.thresholds.block, model_version="v1",
                detector="shop", late=False, variant=None, experiment=None, circuit="closed", degraded=None,
                batch_size=1, latency_us=5, decided_at_us=AFTER_US + first + i,
            )._replace(**changes)
            for i, (payment, score) in enumerate(zip(payments, scores, strict=True))
        ]  # fmt: skip

    def offline(self, version):
        """What the challenger says to each transaction when it takes the whole journal at once."""
        bundle = load_bundle(self.home / "models" / version)
        store, schema = bundle.new_store(), bundle.manifest.plan.schema
        events, seqs = [], []
        for page in self.journal.events_after(0):
            for row in page:
                if isinstance(row, OutcomeRow):
                    events.append(Outcome(row.transaction_id, row.is_fraud, row.time_us))
                else:
                    events.append(schema.restore(row.content))
                    seqs.append(row.seq)
        return dict(
            zip(seqs, bundle.scorer.score(store.advance(log_of_events(schema)(events)).rows).tolist(), strict=True)
        )


@pytest.fixture
def server(home):
    server = Server(home)
    yield server
    server.journal.close()


@pytest.fixture
def remake(home):
    """Make a bundle of another: under a new version, with other facts in its manifest or another graph."""

    def make(source, version, model=None, **changes):
        folder = home / "models" / version
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(home / "models" / source, folder)
        manifest = read_manifest(folder)
        if model is not None:
            (folder / MODEL_FILE).write_bytes(model)
            changes["files"] = manifest.files | {MODEL_FILE: hashlib.sha256(model).hexdigest()}
        manifest = msgspec.structs.replace(manifest, version=version, **changes)
        (folder / MANIFEST_FILE).write_bytes(msgspec.json.encode(manifest))

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

    def wait(what, patience_s=40.0):
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
