"""What the shadow's score in the answer costs: processor time of the deciding thread, batch by batch, in pairs.

Two engines on logs of their own decide the same payments in turn, one with a shadow of the same features beside it.
Told is the processor time a batch with and without, and in how many answers the score was there when they were sent.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from report import publish
from sentinel.detector import Detector, Training
from sentinel.events.files import history_of_frame
from sentinel.events.schema import Schema
from sentinel.features.definitions import count, field, mean
from sentinel.learner import XGBoost
from sentinel.model.registry import Registry
from sentinel.policy.deployment import Deployment
from sentinel.policy.model_call import Limits
from sentinel.record.file_log import FileLog
from sentinel.record.ids import IdIndex
from sentinel.record.journal import Journal
from sentinel.record.snapshots import Snapshots
from sentinel.serve.batch import Arrivals, Decision
from sentinel.serve.engine import Engine
from sentinel.serve.lineup import Lineup, load_lineup, with_inline_shadow
from sentinel.simulate.payments import simulate
from sentinel.telemetry.counters import Counters
from sentinel.train.pipeline import train

BATCHES, SIZES = 1_500, (1, 64)
DETECTOR = Detector(
    name="bench-shadow",
    schema=Schema(keys=("card_id",)),
    features=(
        field("amount"),
        *(count(by="card_id", over=over) for over in ("10m", "1h", "24h", "7d")),
        *(mean("amount", by="card_id", over=over) for over in ("1h", "24h", "7d", "30d")),
    ),
    training=Training(learner=XGBoost(trees=200, patience=200)),
)  # fmt: skip
NOW_US = 1_780_000_000_000_000
NEVER_NS = 2**62


def main() -> None:
    """Decide in turn, and count."""
    figures = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        registry = Registry(folder / "models")
        columns = ["transaction_id", "event_time", "amount", "card_id", "is_fraud"]
        history = history_of_frame(simulate(30_000, seed=3).select(columns), DETECTOR.schema)
        for seed in (1, 2):
            training = msgspec.structs.replace(DETECTOR.training, seed=seed)
            train(msgspec.structs.replace(DETECTOR, training=training), history, registry, lambda *_: None)
        deployment = msgspec.structs.replace(Deployment().with_champion("v1"), shadow="v2")
        alone = load_lineup(deployment, registry)
        engines = _opened(folder / "a", alone), _opened(folder / "b", with_inline_shadow(alone, deployment, registry))
        make: Any = DETECTOR.schema.wire_type
        rng, sent = np.random.default_rng(5), 0
        for size in SIZES:
            took: tuple[list[float], list[float]] = [], []
            there = 0
            for n in range(BATCHES):
                amounts, cards = rng.lognormal(3, 1, size).round(2).tolist(), rng.integers(0, 5_000, size).tolist()
                rows = [(f"t{sent + i}", NOW_US + sent + i, amounts[i], f"c{cards[i]}") for i in range(size)]
                sent += size
                for which in (0, 1) if n % 2 else (1, 0):
                    events = [
                        make(transaction_id=one, event_time=at, amount=amount, card_id=card)
                        for one, at, amount, card in rows
                    ]
                    arrivals = Arrivals(events, [time.monotonic_ns()] * size, [NEVER_NS] * size)
                    begun_ns = time.thread_time_ns()
                    answered = engines[which].decide(arrivals, NOW_US + sent)
                    answers = answered.answers if answered.late is None else answered.late.joined(answered.answers)
                    took[which].append((time.thread_time_ns() - begun_ns) / 1000)
                    there += sum(
                        isinstance(one, Decision) and isinstance(one.shadow_fraud_probability, float) for one in answers
                    )
            without, beside = (one[BATCHES // 10 :] for one in took)
            figures[f"batches of {size}"] = {
                "us a batch without": round(statistics.median(without), 1),
                "us a batch with it": round(statistics.median(beside), 1),
                "us more, median of pairs": round(statistics.median(np.subtract(beside, without)), 1),
                "p99 without": round(float(np.percentile(without, 99)), 1),
                "p99 with it": round(float(np.percentile(beside, 99)), 1),
                "answers with the score": there / (BATCHES * size),
            }
    publish(
        "inline_shadow", f"200 trees, 9 features, {BATCHES} batches in pairs, processor time of one thread", figures
    )


def _opened(folder: Path, lineup: Lineup) -> Engine:
    log = FileLog.open(folder / "log", NOW_US)
    journal = Journal(log, IdIndex(folder / "ids", log))
    engine = Engine(lineup, journal, Snapshots(folder / "snapshots"), Limits(deadline_s=10.0), Counters())
    engine.begin(NOW_US)
    return engine


if __name__ == "__main__":
    main()
