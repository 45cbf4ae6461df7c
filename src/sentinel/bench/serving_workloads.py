"""What the serving benchmark serves and sends: two small detectors of 200 trees, vectors and transactions."""

from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from sentinel.bench.load_generator import Requests
from sentinel.commands.live import bodies
from sentinel.commands.progress import Stage
from sentinel.config import read_settings
from sentinel.detector import Detector, Training
from sentinel.events.files import History, history_of_frame
from sentinel.events.schema import Schema
from sentinel.features.definitions import count, field, mean, total
from sentinel.learner import XGBoost
from sentinel.model.registry import Registry
from sentinel.record.applied import HomeDeployment
from sentinel.simulate.payments import simulate
from sentinel.train.pipeline import train
from sentinel.transport.client import request_bytes

TREES = 200
VECTORS = 100_000
HOT = 100
_HISTORY = 60_000
_TRAINING = Training(
    learner=XGBoost(trees=TREES, patience=TREES, learning_rate=0.01, max_depth=5, eval_metric="logloss")
)

VECTOR_FIELDS = tuple(f"V{i}" for i in range(1, 30))
VECTOR_DETECTOR = Detector(
    name="bench-vectors",
    schema=Schema(numbers=VECTOR_FIELDS),
    features=(*(field(name) for name in VECTOR_FIELDS), field("amount")),
    training=_TRAINING,
)
"""Thirty plain numbers, as many as the European card data has."""

SCORE_DETECTOR = Detector(
    name="bench-score",
    schema=Schema(keys=("card_id", "merchant_id")),
    features=(
        field("amount"),
        count(by="card_id", over="10m"),
        count(by="card_id", over="24h"),
        total("amount", by="card_id", over="24h"),
        mean("amount", by="card_id", over="7d"),
        mean("amount", by="card_id", over="30d"),
        count(by="merchant_id", over="10m"),
        count(by="merchant_id", over="24h"),
        total("amount", by="merchant_id", over="24h"),
        mean("amount", by="merchant_id", over="7d"),
        mean("amount", by="merchant_id", over="30d"),
    ),
    training=_TRAINING,
)
"""Ten window features over two keys, and the amount."""


class Workloads(NamedTuple):
    """Two home folders with a trained champion, and requests to send.

    `vectors` float32 (n, 30) are those of `distinct`, in order. `score_requests` are all of the transactions.
    """

    vector_home: Path
    score_home: Path
    vectors: NDArray[np.float32]
    distinct: Requests
    hot: Requests
    mixed: Requests
    score_requests: Requests
    constant_answer: bytes

    def transactions(self, begin: int) -> Requests:
        """The transactions from number `begin` on, none of which was sent yet."""
        return Requests(self.score_requests.data, self.score_requests.starts[begin:])


def prepare(folder: Path, n_transactions: int, stage: Stage, key: str | None = None) -> Workloads:
    """Train both detectors and make the requests, each with this key, or the admin's; a minute at most."""
    rng = np.random.default_rng(7)
    vector_home = folder / "vectors"
    _train(VECTOR_DETECTOR, vector_history(7), vector_home, stage)
    score_home, rows = prepare_score(folder, n_transactions, stage)
    key = key or read_settings({}).admin_key
    vectors = rng.normal(size=(VECTORS, len(VECTOR_FIELDS) + 1)).round(6).astype(np.float32)
    distinct = [_vector_request(one, key) for one in vectors]
    hot = distinct[:HOT]
    mixed = [one if rng.random() < 0.2 else hot[i % HOT] for i, one in enumerate(distinct)]
    score = []
    for done, body in enumerate(bodies(SCORE_DETECTOR.schema, rows)):
        score.append(request_bytes("/v1/score", body, key=key))
        if done % 50_000 == 0:
            stage("requests", done, n_transactions)
    stage("requests", n_transactions, n_transactions)
    return Workloads(
        vector_home=vector_home,
        score_home=score_home,
        vectors=vectors,
        distinct=Requests.pack(distinct),
        hot=Requests.pack(hot),
        mixed=Requests.pack(mixed),
        score_requests=Requests.pack(score),
        constant_answer=b'{"fraud_probability":0.0012345678,"predicted_class":0,"decision":"allow","threshold_used":0.5,'
        b'"latency_us":123,"batch_size":16,"cache_hit":false,"model_version":"v1","variant":"a","degraded":null,'
        b'"circuit_breaker_state":"closed"}',
    )


def prepare_score(folder: Path, n_transactions: int, stage: Stage) -> tuple[Path, pl.DataFrame]:
    """A home in which `bench-score` is the champion, and so many transactions after its history."""
    payments = simulate(_HISTORY + n_transactions, seed=1).select(
        "transaction_id", "event_time", "amount", "card_id", "merchant_id", "is_fraud"
    )
    ids = np.random.default_rng(8).bytes(16 * len(payments)).hex()  # in no order, as those of a payments company
    payments = payments.with_columns(transaction_id=pl.Series([ids[i : i + 32] for i in range(0, len(ids), 32)]))
    history = history_of_frame(payments, SCORE_DETECTOR.schema).frame
    _train(SCORE_DETECTOR, history[:_HISTORY], folder / "score", stage)
    return folder / "score", history[_HISTORY:]


def _vector_request(vector: NDArray[np.float32], key: str | None) -> bytes:
    body = msgspec.json.encode({"features": [round(one, 6) for one in vector.tolist()]})
    return request_bytes("/predict", body, key=key)


def vector_history(seed: int) -> pl.DataFrame:
    """A history of vectors in which the first five numbers tell the frauds."""
    rng = np.random.default_rng(seed)
    n = _HISTORY
    values = rng.normal(size=(n, len(VECTOR_FIELDS)))
    fraud = rng.random(n) < 1 / (1 + np.exp(4 - values[:, :5].sum(axis=1)))
    frame = pl.DataFrame(
        {
            "transaction_id": [str(i) for i in range(n)],
            "event_time": np.arange(n) * 1_000_000 + 1_700_000_000_000_000,
            "amount": rng.lognormal(3, 1, n).round(2),
            **{name: values[:, i] for i, name in enumerate(VECTOR_FIELDS)},
            "is_fraud": fraud.astype(np.int8),
        }
    )
    return history_of_frame(frame, VECTOR_DETECTOR.schema).frame


def _train(detector: Detector, frame: pl.DataFrame, home: Path, stage: Stage) -> None:
    registry = Registry(home / "models")
    manifest = train(
        detector, History(frame, {}), registry, lambda name, done, of: stage(f"{name} of {detector.name}", done, of)
    )
    HomeDeployment(home).promote(manifest.version)
