"""The job of Quix Streams, run by its file with its own interpreter: `python job.py '{"servers": ...}'`.

It computes the windows of `bench-score` over both keys and asks the same ONNX model, one transaction after the other.
"""

import json
import sys
from datetime import datetime
from typing import Any

import numpy as np
import onnxruntime
from quixstreams import Application, State
from windows import advanced  # type: ignore[import-not-found]  # it lies beside this file, which runs by its path

_COMMIT_S = {"at-least-once": 5.0, "exactly-once": 0.1}  # exactly once, nothing is read before


def run(given: dict[str, str]) -> None:
    """Run until killed."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = onnxruntime.InferenceSession(given["model"], options, providers=["CPUExecutionProvider"])
    row, output = model.get_inputs()[0].name, model.get_outputs()[-1].name
    app = Application(
        broker_address=given["servers"], consumer_group=given["group"], auto_offset_reset="earliest",
        state_dir=given["state"], loglevel="WARNING", consumer_poll_timeout=0.05,
        processing_guarantee=given["guarantee"], commit_interval=_COMMIT_S[given["guarantee"]],
        consumer_extra_config={"fetch.wait.max.ms": 20}, producer_extra_config={"linger.ms": 1},
    )  # fmt: skip

    def by_card(payment: dict[str, Any], state: State) -> dict[str, Any]:
        at_us = int(datetime.fromisoformat(payment["event_time"]).timestamp() * 1_000_000)
        return {**payment, "at_us": at_us, "features": [payment["amount"], *_windows(payment["amount"], at_us, state)]}

    def by_merchant(payment: dict[str, Any], state: State) -> dict[str, Any]:
        features = payment["features"] + _windows(payment["amount"], payment["at_us"], state)
        score = model.run([output], {row: np.array([features], np.float32)})[0]
        return {"transaction_id": payment["transaction_id"], "fraud_probability": float(np.ravel(score)[-1])}

    payments = app.dataframe(app.topic(given["in"], value_deserializer="json", key_deserializer="str"))
    payments = payments.apply(by_card, stateful=True).group_by("merchant_id").apply(by_merchant, stateful=True)
    payments.to_topic(app.topic(given["out"], value_serializer="json"))
    app.run()


def _windows(amount: float, at_us: int, state: State) -> list[float]:
    kept: bytes
    features: list[float]
    kept, features = advanced(state.get_bytes("events", b"") or b"", at_us, amount)
    state.set_bytes("events", kept)
    return features


if __name__ == "__main__":
    run(json.loads(sys.argv[1]))
