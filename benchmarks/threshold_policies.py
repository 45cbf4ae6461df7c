"""What the ways to choose thresholds cost: chosen on the validation part, paid for on the test part.

One model for each history (simulated payments of three seeds; the Xente payments, by their preset), and every policy on
the scores of the same model. `cost` is that of a day, with its 95 % interval; `of_nothing` is its share of
what it costs to approve everything. Argument: the number of simulated payments (60,000).
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from report import data_file, publish
from sentinel import CostGrid, Costs, LeastLoss, LegitimateQuantile, Policy, ReviewCapacity
from sentinel.commands.simulate import simulate_to_file
from sentinel.detector import Detector
from sentinel.detectors import load_detector
from sentinel.events.files import History, read_history
from sentinel.policy.policies import AnyPolicy
from sentinel.policy.sample import Sample
from sentinel.train.figures.effects import effects
from sentinel.train.fitting.fit import code_columns, fit
from sentinel.train.rows.dataset import build_dataset

SEEDS = (5, 6, 7)
EUROS = Costs(missed_fraud=15.0, false_alarm=20.0, review=4.0, challenge=0.2, challenge_lost=0.04, challenge_stops=0.85)
SHILLINGS = Costs(false_alarm=5_000.0, review=500.0, challenge=50.0, challenge_lost=0.02)


def policies(costs: Costs) -> dict[str, AnyPolicy]:
    """What is compared."""
    return {
        "false alarms (default)": Policy(),
        "false alarms, challenge": Policy(challenge_at_fpr=0.03),
        "least loss": LeastLoss(costs=costs),
        "least loss, challenge": LeastLoss(costs=costs, challenge=True),
        "5 reviews a day": ReviewCapacity(reviews_a_day=5),
        "cost grid": CostGrid(),
        "cost grid, these costs": CostGrid(costs=costs),
        "legitimate quantile": LegitimateQuantile(),
    }


def paid(detector: Detector, history: History, costs: Costs) -> dict[str, Any]:
    """What each policy costs on a history."""
    data = build_dataset(detector, history, lambda *_: None)
    model = fit(data.train, data.validation, detector.training, code_columns(data.plan))
    validation, test = (part.sample(model.predict(part.rows)) for part in (data.validation, data.test))
    return {name: _row(policy, validation, test, costs) for name, policy in policies(costs).items()}


def _row(policy: AnyPolicy, validation: Sample, test: Sample, costs: Costs) -> dict[str, Any]:
    found = effects(test, policy.choose(validation), costs)
    nothing = found.cost_a_day.value + found.saved_a_day.value
    return {
        "cost": [round(one, 2) for one in msgspec.structs.astuple(found.cost_a_day)],
        "of_nothing": round(found.cost_a_day.value / nothing, 3),
        **{name: round(getattr(found, f"{name}_a_day").value, 1) for name in ("challenges", "reviews", "blocks")},
    }


def main() -> None:
    """Print the figures."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 60_000
    figures = {}
    payments, xente = load_detector("payments"), load_detector("xente")
    with tempfile.TemporaryDirectory() as folder:
        for seed in SEEDS:
            file = Path(folder) / f"{seed}.parquet"
            simulate_to_file(file, rows, seed, "payments", None)
            figures[f"payments, seed {seed}"] = paid(payments, read_history(file, payments.schema), EUROS)
    history = read_history(data_file("xente_2018-11-15_to_2019-01-19.parquet"), xente.schema)
    figures["xente"] = paid(xente, history, SHILLINGS)
    publish("threshold policies", __doc__ or "", figures)


if __name__ == "__main__":
    main()
