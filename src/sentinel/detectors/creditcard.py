"""The European card data of 2013: seconds since the first payment, 28 anonymous components, the amount.

The file is read as it is published (`Time`, `V1` to `V28`, `Amount`, `Class`), and a vector has its thirty numbers in
its order. `Time` is a feature, and in the file when a payment happened as well; live that is `event_time`, or now.
"""

from sentinel import Detector, Schema, Training, XGBoost, field

COMPONENTS = tuple(f"V{i}" for i in range(1, 29))

detector = Detector(
    schema=Schema(
        amount="Amount",
        numbers=("Time", *COMPONENTS),
        optional=("transaction_id", "event_time"),  # the file has neither
        time_from="2013-09-01",
        label="Class",
        columns={"event_time": "Time"},
    ),
    features=tuple(field(name) for name in ("Time", *COMPONENTS, "Amount")),
    training=Training(learner=XGBoost(trees=400, max_depth=5)),
)
