"""Taking what was given: a front has answered before, so that is the decision, beside what exact features call for."""

import itertools

import numpy as np
from msgspec import UNSET

from sentinel.policy.thresholds import ACTIONS
from sentinel.record.entries import Decider, Exact, Ruled
from sentinel.serve.batch import Batch, Given, GivenDecision, Group

_LEVELS = {str(action): level for level, action in enumerate(ACTIONS)}
_LONGEST_US = 2**32 - 1


def take_given(batch: Batch, revision: int) -> None:
    """Have the answers that fronts gave be the decisions of a batch that was decided here.

    What was decided here of these is noted as `exact`. `revision` is that of the deployment in force.
    """
    batch.late = batch.lateness()
    batch.exact = [one for number, group in enumerate(batch.groups) for one in _exact(batch, group, number, revision)]
    batch.exact.sort(key=lambda one: one.place)
    batch.groups = [_without(batch, group) for group in batch.groups] + _given_groups(batch)
    shadows = {one.place: one.shadow for one in batch.ruled}
    own = [one for one in batch.ruled if one.place not in batch.given]
    ruled = (_ruled(place, one.answer, shadows.get(place, ())) for place, one in batch.given.items())
    batch.ruled = sorted([*own, *(one for one in ruled if one.fired or one.shadow)], key=lambda one: one.place)
    for place, one in batch.given.items():
        batch.answers[place] = one.answer
        batch.latencies_us[place] = min(max(one.answer.latency_us, 0), _LONGEST_US)


def _places(batch: Batch, group: Group) -> list[int]:
    found: list[int] = np.arange(len(batch))[group.where].tolist()
    return found


def _exact(batch: Batch, group: Group, number: int, revision: int) -> list[Exact]:
    """What the decider of this number makes of those in its group that fronts have answered."""
    return [
        Exact(
            place, number, group.values[row].tobytes(), float(group.scores[row]), int(group.levels[row]),
            given.answer.profiles_age_ms, revision if given.revision is None else given.revision,
        )
        for row, place in enumerate(_places(batch, group))
        if (given := batch.given.get(place)) is not None
    ]  # fmt: skip


def _without(batch: Batch, group: Group) -> Group:
    """What is left of a group, which may be nothing: its decider is still one of the batch's."""
    places = _places(batch, group)
    left = np.array([place not in batch.given for place in places], np.bool_)
    return Group(
        group.decider, np.array(places, np.int64)[left], group.values[left], group.scores[left], group.levels[left]
    )


def _given_groups(batch: Batch) -> list[Group]:
    """What was given, by who decided it."""
    by_decider: dict[Decider, list[int]] = {}
    for place, given in sorted(batch.given.items()):
        by_decider.setdefault(decider_of(given), []).append(place)
    groups = []
    for decider, places in by_decider.items():
        answers = [batch.given[place].answer for place in places]
        rows = [batch.given[place].features for place in places]
        values = np.fromiter(map(_number, itertools.chain.from_iterable(rows)), np.float64)
        scores = np.array([one.fraud_probability for one in answers], np.float64)
        levels = np.array([_LEVELS[one.decision] for one in answers], np.uint8)
        groups.append(Group(decider, np.array(places, np.int64), values.reshape(len(places), -1), scores, levels))
    return groups


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def decider_of(given: Given) -> Decider:
    """Who decided what was given. The state of a front is that of profiles, so it has no name."""
    answer = given.answer
    return Decider(
        answer.model_version, "", len(given.features), answer.thresholds.review, answer.thresholds.block,
        answer.circuit_breaker_state, answer.degraded, is_fixed=answer.decided_by == "on_fault",
        challenge=answer.thresholds.challenge,
    )  # fmt: skip


def _ruled(place: int, answer: GivenDecision, shadow: tuple[str, ...]) -> Ruled:
    """The rules that a front said hold; those in the shadow are asked here."""
    fired = () if answer.rules is UNSET else tuple(answer.rules)
    without = answer.decision if answer.would_be is UNSET else answer.would_be
    return Ruled(place, _LEVELS[without], fired, shadow, acted=answer.would_be is not UNSET)
