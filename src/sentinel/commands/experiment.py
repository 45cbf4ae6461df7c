"""What `sentinel train` is asked for on the command line, and how its leaderboard is printed."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import msgspec

from sentinel.commands.terminal import shown
from sentinel.detector import Detector, Training
from sentinel.detectors import load_detector
from sentinel.errors import InvalidDefinition
from sentinel.events.times import duration_us
from sentinel.learner import LEARNERS
from sentinel.policy.policies import AnyPolicy, LegitimateQuantile, Policy
from sentinel.train.fitting.calibrate import Method
from sentinel.train.search.experiment import QUICK, Experiment, Refit


def experiment_of(budget: str | None, *, quick: bool, refit: str | None, calibration: str | None) -> Experiment:
    """The experiment of these options. Raises InvalidDefinition."""
    if quick and (budget, refit, calibration) != (None, None, None):
        raise InvalidDefinition("--quick is one fit; leave --budget, --refit and --calibration out")
    if quick:
        return QUICK
    for option, value, values in (("refit", refit, get_args(Refit)), ("calibration", calibration, get_args(Method))):
        if value not in (None, *values):
            raise InvalidDefinition(
                f"--{option} is {shown(str(value))}; write {', '.join(values[:-1])} or {values[-1]}"
            )
    budget_s = None if budget is None else duration_us(budget) / 1e6
    given = {"budget_s": budget_s, "refit": refit, "calibration": calibration}
    return msgspec.convert({name: value for name, value in given.items() if value is not None}, Experiment)


def asked_of(
    name: str, *, learner: str | None, seed: int | None, target_fpr: float | None, split: str | None
) -> Detector:
    """The detector of that name with the learner, seed, largest share of false alarms and split that are asked for.

    A random split is that of the reference systems: a test part of 20 %, and a validation part of 20 % of the rest.
    Raises InvalidDefinition.
    """
    detector = load_detector(name)
    training, policy = detector.training, detector.policy
    if learner is not None:
        training = with_learner(training, learner)
    if seed is not None:
        if not 0 <= seed < 2**31:
            raise InvalidDefinition(f"--seed is {seed}; give a whole number from 0 to 2,147,483,647")
        training = msgspec.structs.replace(training, seed=seed)
    if split == "random":
        training = msgspec.structs.replace(training, split=split, test_share=0.2, validation_share=0.16)
    elif split not in (None, "time"):
        raise InvalidDefinition(f"--split is {split!r}; write time or random")
    if target_fpr is not None:
        policy = _with_fpr(policy, target_fpr)
    return msgspec.structs.replace(detector, training=training, policy=policy)


def _with_fpr(policy: AnyPolicy, share: float) -> AnyPolicy:
    """The policy with another largest share of false alarms. Raises InvalidDefinition for one that has none."""
    if isinstance(policy, LegitimateQuantile):
        return msgspec.structs.replace(policy, target_fpr=share)
    if isinstance(policy, Policy):
        block = policy.block_at_fpr and min(policy.block_at_fpr, share)
        return msgspec.structs.replace(policy, review_at_fpr=share, block_at_fpr=block)
    raise InvalidDefinition(
        f"--target-fpr is for thresholds by a share of false alarms, and this detector has {type(policy).__name__}; "
        "leave it out"
    )


def with_learner(training: Training, name: str) -> Training:
    """The same training with another learner, as it usually is; with its own where that has the name.

    Raises InvalidDefinition for a name that no learner has.
    """
    if name not in LEARNERS:
        raise InvalidDefinition(f"there is no learner {shown(name)}; there are {', '.join(LEARNERS)}")
    kind = LEARNERS[name]
    return training if isinstance(training.learner, kind) else msgspec.structs.replace(training, learner=kind())


def leaderboard_lines(board: Sequence[Mapping[str, Any]], chosen: str) -> list[str]:
    """The leaderboard of a manifest for people, a table and what was chosen; empty where nothing was compared."""
    if not board:
        return []
    width, fpr = max(len(one["name"]) for one in board), max(board[0]["recall"], key=float)
    found = f"recall at {float(fpr):.0%} FPR"
    lines = [
        "leaderboard, on what the models of each fold had not seen:",
        f"  {'':<{width}}  {'average precision':<25}  {found}  cards@100  cost/1,000  s a fit  us a row",
    ]
    for one in board:
        value = one["average_precision"]
        precision = f"{value['value']:.4f} ({value['low']:.4f} to {value['high']:.4f})"
        cost = None if one.get("cost") is None else 1000 * one["cost"]
        lines.append(
            f"  {one['name']:<{width}}  {precision:<25}  {one['recall'][fpr]:>{len(found)}.3f}  "
            f"{_or_dash(one['card_precision_100'], 3):>9}  {_or_dash(cost, 2):>10}  {one['fit_s']:>7.1f}  "
            f"{_or_dash(one['row_us'], 1):>8}"
        )
    better = board[0]["name"] != chosen
    return [*lines, f"chosen: {chosen}" + (", for no vote is surely better and quick enough" if better else "")]


def _or_dash(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
