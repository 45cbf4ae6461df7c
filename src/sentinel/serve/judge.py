"""Judging: who decides each transaction of a batch, and how; then the answers to them."""

import itertools
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentinel.events.wire import before_of
from sentinel.policy.model_call import FALLBACK_ONLY, OVERLOADED, ModelAnswer, ModelCaller
from sentinel.policy.thresholds import ACTIONS, Thresholds
from sentinel.record.entries import Decider
from sentinel.serve.batch import FEATURES_STATE, Batch, Decision, Group
from sentinel.serve.lineup import Contender, Lineup

_WORDS = tuple(map(str, ACTIONS))
_Where = NDArray[np.int64] | slice


def judge(batch: Batch, lineup: Lineup, models: ModelCaller) -> None:
    """Score each transaction with its model, or with what stands in when it cannot answer or time has run out."""
    now_ns, due_ns = time.monotonic_ns(), batch.due_ns
    if lineup.experiment is None and min(due_ns) >= now_ns:
        batch.groups = [_judged(batch, lineup, "a", slice(None), _ask(batch, lineup, "a", slice(None), models))]
        return
    overdue = np.array(due_ns, np.int64) < now_ns
    of_b = np.zeros(len(batch), np.bool_)
    if lineup.experiment is not None:
        of_b[:] = [lineup.variant(key) == "b" for key in _keys(batch, lineup)]
    for is_b, is_overdue in itertools.product((False, True), (False, True)):
        where = np.flatnonzero((of_b == is_b) & (overdue == is_overdue))
        if len(where):
            variant = "b" if is_b else "a"
            shed = ModelAnswer(None, OVERLOADED, models.circuit)
            answer = shed if is_overdue else _ask(batch, lineup, variant, where, models)
            batch.groups.append(_judged(batch, lineup, variant, where, answer))


def _keys(batch: Batch, lineup: Lineup) -> Sequence[str]:
    """The values that assign transactions to variants: those of the first key, as a card keeps its variant.

    While a hash key follows another one, it is kept by the former hash.
    """
    schema = lineup.champion.bundle.manifest.plan.schema
    name = schema.keys[0] if schema.keys else schema.id
    return [before_of(event, name) or getattr(event, name) or "" for event in batch.events]


def _ask(batch: Batch, lineup: Lineup, variant: str, where: _Where, models: ModelCaller) -> ModelAnswer:
    if lineup.fallback_only:
        return ModelAnswer(None, FALLBACK_ONLY, models.circuit)
    contender = lineup.contender(variant)
    return models.ask(contender.scorer, _values(batch, contender, where))


def _values(batch: Batch, contender: Contender, where: _Where) -> NDArray[np.float64]:
    return np.ascontiguousarray(batch.features[contender.bundle.state_id].rows[where])


def _judged(batch: Batch, lineup: Lineup, variant: str, where: _Where, answer: ModelAnswer) -> Group:
    contender, experiment = lineup.contender(variant), lineup.experiment
    values = _values(batch, contender, where)
    thresholds, found, is_fixed = contender.scores(answer, values)
    scores = found.astype(np.float64, copy=False)
    decider = Decider(
        contender.version, contender.bundle.state_id, values.shape[1], thresholds.review, thresholds.block,
        str(answer.circuit), answer.degraded, variant if experiment else None, experiment.id if experiment else None,
        is_fixed, thresholds.challenge,
    )  # fmt: skip
    return Group(decider, where, values, scores, thresholds.levels(scores))


def answer(batch: Batch, detector: str) -> None:
    """What was decided becomes an answer for each transaction, in the order of the batch."""
    size = len(batch)
    waited_us = (time.monotonic_ns() - np.array(batch.received_ns, np.int64)) // 1000
    batch.latencies_us = np.minimum(np.maximum(waited_us, 0), 2**32 - 1).astype(np.uint32)
    if len(batch.groups) == 1:
        batch.answers = _answers(batch, batch.groups[0], batch.ids, detector)
        return
    answers: dict[int, Decision] = {}
    for group in batch.groups:
        places: list[int] = np.arange(size)[group.where].tolist()
        found = _answers(batch, group, [batch.ids[n] for n in places], detector)
        answers.update(zip(places, found, strict=True))
    batch.answers = [answers[n] for n in range(size)]


def _answers(batch: Batch, group: Group, ids: Sequence[str], detector: str) -> list[Decision]:
    decider, always = group.decider, itertools.repeat
    alarm = decider.review if decider.challenge is None else decider.challenge
    late: list[Any] = batch.features[decider.state_id].late[group.where].tolist()
    return list(map(
        Decision, ids, map(_WORDS.__getitem__, group.levels.tolist()), group.scores.tolist(), always(alarm),
        always(Thresholds(decider.review, decider.block, decider.challenge)), always(decider.model_version),
        always(detector), map(FEATURES_STATE.__getitem__, late), always(len(batch)),
        batch.latencies_us[group.where].tolist(), always(False), always(decider.degraded), always(decider.circuit),
        always(decider.variant), always(decider.decided_by),
    ))  # fmt: skip
