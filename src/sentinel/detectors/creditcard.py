"""The European card data of 2013: seconds since the first payment, 28 anonymous components, the amount."""

from sentinel.detector import Detector, Training
from sentinel.events.schema import Schema
from sentinel.features.definitions import field

COMPONENTS = tuple(f"V{i}" for i in range(1, 29))

detector = Detector(
    schema=Schema(time="Time", amount="Amount", label="Class", numbers=COMPONENTS),
    features=(*(field(name) for name in COMPONENTS), field("Amount")),
    training=Training(trees=400, max_depth=5),
)
