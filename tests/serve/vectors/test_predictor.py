"""The predictor in a real event loop: batches, cache, deadlines, experiments, and the version in every answer."""

import asyncio
import re
import time

import msgspec
import numpy as np
import pytest

from sentinel.errors import BadBody, NotReady, Overloaded, SentinelError
from sentinel.model.bundle import load_bundle
from sentinel.policy.breaker import BreakerSettings
from sentinel.policy.deployment import Experiment
from sentinel.policy.experiment import variant_of
from sentinel.policy.model_call import CIRCUIT_OPEN, FAILED, FALLBACK_ONLY, OVERLOADED, Limits
from sentinel.policy.thresholds import Thresholds
from sentinel.serve.ledger import SETTLE_ROWS
from sentinel.serve.lineup import Contender, Lineup
from sentinel.serve.vectors.predictor import ROWS_AT_ONCE, SETTLE_S, Prediction, Predictor
from sentinel.serve.vectors.reader import Question
from sentinel.serve.vectors.repeats import LONGEST_REPEAT
from sentinel.serve.vectors.score_cache import ScoreCache
from sentinel.telemetry.counters import Counters, Slot

NEVER_NS = 2**62
PATIENT = Limits(deadline_s=10.0)
BLOCK_ALL, ALLOW_ALL = Thresholds(0.0, 0.0), Thresholds(1.0, None)


@pytest.fixture(scope="module")
def bundles(four_models_home):
    return {name: load_bundle(four_models_home / "models" / name) for name in ("v1", "v2", "v3", "v4")}


@pytest.fixture(scope="module")
def served(bundles):
    return Lineup(1, Contender(bundles["v1"]))


def experiment(bundles, percent=50.0, challenger="v2", **thresholds):
    return Lineup(
        2,
        Contender(bundles["v1"], thresholds.get("a")),
        Contender(bundles[challenger], thresholds.get("b")),
        Experiment("spring", challenger, percent, ""),
    )


class Desk:
    """A predictor, and what it was asked and has answered."""

    def __init__(
        self, lineup=None, *, limits=PATIENT, capacity=1000, ttl_s=1000.0, max_waiting=10_000, observe=None
    ):  # fmt: skip
        self.counters = Counters()
        self.predictor = Predictor(limits, ScoreCache(capacity, ttl_s), max_waiting, self.counters, observe)
        self.told = {}
        self.order = []
        if lineup is not None:
            self.predictor.switch(lineup)

    def ask(self, name, features, key=None, due_ns=NEVER_NS):
        body = msgspec.json.encode(Question(features, key))
        self.predictor.ask(body, time.monotonic_ns(), due_ns, lambda answer: self.tell(name, answer))

    def tell(self, name, answer):
        assert name not in self.told
        is_answer = isinstance(answer, bytes)
        self.told[name] = msgspec.json.decode(answer, type=Prediction, strict=True) if is_answer else answer
        self.order.append(name)

    async def one(self, features, key=None, due_ns=NEVER_NS):
        name = object()
        self.ask(name, features, key, due_ns)
        await asyncio.sleep(0)
        return self.told[name]

    async def all(self, vectors, keys=None):
        """Ask them all in one turn of the loop; answers in their order."""
        names = [object() for _ in vectors]
        for name, vector, key in zip(names, vectors, keys or [None] * len(names), strict=True):
            self.ask(name, vector, key)
        await asyncio.sleep(0)
        return [self.told[name] for name in names]

    @property
    def experiment(self):
        self.predictor.settle()
        return self.predictor.counts.experiment

    def slot(self, slot):
        self.predictor.settle()
        return self.counters._cells[slot]


@pytest.fixture
def desk_of():
    made = []

    def make(*args, **changes):
        made.append(Desk(*args, **changes))
        return made[-1]

    yield make
    for desk in made:
        desk.predictor.stop()


def vectors(n, seed=0, width=12):
    """Vectors such as a caller would send, with values that are not known."""
    rng = np.random.default_rng(seed)
    rows = rng.lognormal(2, 1.5, (n, width)).astype(np.float32)
    gaps = rng.random(rows.shape) < 0.15
    return [
        [None if gap else float(x) for x, gap in zip(row, r, strict=True)] for row, r in zip(rows, gaps, strict=True)
    ]


def scores_alone(bundle, asked):
    rows = np.array([[np.nan if x is None else x for x in one] for one in asked], np.float32)
    return [float(bundle.scorer.score(row[np.newaxis])[0]) for row in rows]


def bits(scores):
    return np.array(scores, np.float64).tobytes()


# batches


@pytest.mark.parametrize("n", [1, 2, 48, 49, 300])
def test_what_is_asked_in_one_turn_is_one_batch_with_the_bits_of_each_alone(desk_of, served, bundles, n):
    desk, asked = desk_of(served), vectors(n)
    answers = asyncio.run(desk.all(asked))
    assert {one.batch_size for one in answers} == {n}
    assert bits([one.fraud_probability for one in answers]) == bits(scores_alone(bundles["v1"], asked))
    assert not any(one.cache_hit or one.degraded for one in answers)


def test_vectors_of_different_turns_are_different_batches(desk_of, served):
    async def run():
        return [await desk.one(vector) for vector in vectors(5)]

    desk = desk_of(served)
    assert [one.batch_size for one in asyncio.run(run())] == [1] * 5


def test_a_lone_vector_waits_for_no_timer(desk_of, served):
    async def run():
        asyncio.get_running_loop().call_later(0.05, desk.ask, "later", vectors(2)[1])
        desk.ask("now", vectors(2)[0])
        assert desk.predictor.waiting == 1
        assert desk.order == []
        await asyncio.sleep(0)
        return list(desk.order), desk.predictor.waiting

    desk = desk_of(served)
    assert asyncio.run(run()) == (["now"], 0)


def test_more_than_a_batch_is_answered_in_several_all_in_the_turn(desk_of, served, bundles):
    desk, asked = desk_of(served), vectors(2 * ROWS_AT_ONCE + 10)
    answers = asyncio.run(desk.all(asked))
    assert [one.batch_size for one in answers] == [ROWS_AT_ONCE] * 2 * ROWS_AT_ONCE + [10] * 10
    assert bits([one.fraud_probability for one in answers]) == bits(scores_alone(bundles["v1"], asked))


def test_answers_follow_the_thresholds(desk_of, bundles):
    scores = sorted(set(scores_alone(bundles["v1"], vectors(60))))
    thresholds = Thresholds(scores[len(scores) // 3], scores[2 * len(scores) // 3])
    desk = desk_of(Lineup(1, Contender(bundles["v1"], thresholds)))
    seen = set()
    for answer in asyncio.run(desk.all(vectors(60))):
        score = answer.fraud_probability
        expected = "block" if score >= thresholds.block else "review" if score >= thresholds.review else "allow"
        assert answer.decision == expected
        assert answer.threshold_used == (thresholds.block if expected == "block" else thresholds.review)
        assert answer.predicted_class == (score >= 0.5)
        seen.add(expected)
    assert seen == {"allow", "review", "block"}


# what may be asked


def test_names_in_any_order_are_the_same_vector(desk_of, served):
    vector = vectors(1)[0]
    named = dict(reversed(list(zip(served.champion.names, vector, strict=True))))
    desk = desk_of(served)
    first, second = asyncio.run(desk.all([vector, named]))
    assert first.fraud_probability == second.fraud_probability


def test_null_is_missing_and_not_zero(desk_of, bundles):
    desk = desk_of(Lineup(1, Contender(bundles["v1"])))
    asked = [[None] * 12, [0.0] * 12, [250.0, *[None] * 11]]
    answers = asyncio.run(desk.all(asked))
    assert bits([one.fraud_probability for one in answers]) == bits(scores_alone(bundles["v1"], asked))
    assert asyncio.run(desk.one([0.0] * 12)).cache_hit
    assert len(desk.predictor._cache) == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda named: [*named.values()][:-1], "expected 12 features, got 11"),
        (lambda named: [*named.values(), 1.0], "expected 12 features, got 13"),
        (lambda _: [], "expected 12 features, got 0"),
        (lambda _: {}, "missing amount, risk"),
        (lambda named: named | {"colour": 1.0, "age": 2.0}, "unknown age, colour"),
        (lambda named: {k: v for k, v in named.items() if k != "risk"}, r"missing risk \(null where"),
        (lambda named: {("Risk" if k == "risk" else k): v for k, v in named.items()}, "unknown Risk; missing risk"),
    ],
)
def test_features_that_are_not_the_models_are_refused_and_count_in_no_batch(desk_of, served, change, words):
    async def run():
        desk.ask("bad", change(dict(zip(served.champion.names, vectors(1)[0], strict=True))))
        return await desk.all(vectors(2))

    desk = desk_of(served)
    assert [one.batch_size for one in asyncio.run(run())] == [2, 2]
    assert isinstance(desk.told["bad"], BadBody)
    assert re.search(words, str(desk.told["bad"]))


def test_without_a_lineup_it_says_why_it_is_not_ready(desk_of):
    desk = desk_of()
    desk.predictor.reason = "v1 is missing"
    with pytest.raises(NotReady, match="v1 is missing"):
        desk.ask("early", vectors(1)[0])


# the cache


def test_the_same_bits_again_are_answered_from_the_cache(desk_of, served):
    async def run():
        return [await desk.one(vector) for vector in (one, other, one, one)]

    (one, other), desk = vectors(2), desk_of(served)
    answers = asyncio.run(run())
    assert [answer.cache_hit for answer in answers] == [False, False, True, True]
    for again in answers[2:]:
        for field in ("fraud_probability", "decision", "threshold_used", "model_version", "variant", "degraded"):
            assert getattr(again, field) == getattr(answers[0], field)


def test_minus_zero_is_another_vector_and_missing_equals_missing(desk_of, served):
    async def run():
        asked = ([0.0] * 12, [-0.0] * 12, [0.0] * 11 + [None], [0.0] * 11 + [None], [-0.0] * 12)
        return [(await desk.one(vector)).cache_hit for vector in asked]

    desk = desk_of(served)
    assert asyncio.run(run()) == [False, False, False, True, True]


def test_hits_and_misses_are_counted_once_each(desk_of, served):
    async def run():
        await desk.all(vectors(10))
        await desk.all(vectors(10))
        await asyncio.sleep(0)

    desk = desk_of(served)
    asyncio.run(run())
    slots = (Slot.CACHE_MISSES, Slot.CACHE_HITS, Slot.CACHE_SIZE, Slot.REQUESTS, Slot.PREDICTIONS_A)
    assert [desk.slot(slot) for slot in slots] == [10, 10, 10, 20, 20]


def test_a_switch_empties_the_cache(desk_of, bundles):
    async def run():
        first = await desk.one(vector)
        desk.predictor.switch(Lineup(2, Contender(bundles["v2"])))
        return first, await desk.one(vector), await desk.one(vector)

    (vector,), desk = vectors(1), desk_of(Lineup(1, Contender(bundles["v1"])))
    answers = asyncio.run(run())
    assert [(one.model_version, one.cache_hit) for one in answers] == [("v1", False), ("v2", False), ("v2", True)]
    assert bits([answers[1].fraud_probability]) == bits(scores_alone(bundles["v2"], [vector]))


def test_a_score_that_was_under_way_during_a_switch_is_not_remembered_for_the_next_model(desk_of, bundles):
    async def run():
        desk.ask("under way", vector)
        desk.predictor.switch(Lineup(2, Contender(bundles["v2"])))
        await asyncio.sleep(0)
        return desk.told["under way"], await desk.one(vector)

    (vector,), desk = vectors(1), desk_of(Lineup(1, Contender(bundles["v1"])))
    for answer in asyncio.run(run()):
        assert bits([answer.fraud_probability]) == bits(scores_alone(bundles[answer.model_version], [vector]))
    assert answer.model_version == "v2"


def test_during_an_experiment_nothing_comes_from_the_cache(desk_of, served, bundles):
    async def run():
        told = []
        for lineup in (served, experiment(bundles), served):
            desk.predictor.switch(lineup)
            told.append([(await desk.one(vector)).cache_hit for _ in range(3)])
            kept.append(len(desk.predictor._cache))
        return told

    (vector,), kept, desk = vectors(1), [], desk_of(served)
    assert asyncio.run(run()) == [[False, True, True], [False] * 3, [False, True, True]]
    assert kept == [1, 0, 1]


def test_what_the_rules_said_is_not_remembered(desk_of, served):
    async def run():
        desk.predictor.switch(served._replace(fallback_only=True))
        return [await desk.one(vector), await desk.one(vector)]

    (vector,), desk = vectors(1), desk_of(served)
    for answer in asyncio.run(run()):
        assert (answer.cache_hit, answer.degraded, answer.model_version) == (False, FALLBACK_ONLY, "v1")


@pytest.mark.parametrize(("capacity", "ttl_s"), [(0, 10.0), (10, 0.0)])
def test_a_cache_can_be_switched_off(desk_of, served, capacity, ttl_s):
    async def run():
        return [(await desk.one(vector)).cache_hit for _ in range(3)]

    (vector,), desk = vectors(1), desk_of(served, capacity=capacity, ttl_s=ttl_s)
    assert asyncio.run(run()) == [False] * 3


# deadlines


def test_with_more_than_a_batch_the_earliest_due_come_first(desk_of, served):
    async def run():
        due = time.monotonic_ns() + 10**12
        for n, vector in enumerate(asked):
            desk.ask(n, vector, due_ns=due + (len(asked) - n))
        await asyncio.sleep(0)

    desk, asked = desk_of(served), vectors(ROWS_AT_ONCE + 40)
    asyncio.run(run())
    assert desk.order == list(reversed(range(len(asked))))


def test_what_is_late_gets_the_rules_word_and_its_neighbours_the_models(desk_of, served, bundles):
    async def run():
        for n, vector in enumerate(asked):
            desk.ask(n, vector, due_ns=time.monotonic_ns() - 1 if n % 3 == 0 else NEVER_NS)
        await asyncio.sleep(0)

    desk, asked = desk_of(served), vectors(30)
    asyncio.run(run())
    rows = np.array([[np.nan if x is None else x for x in one] for one in asked], np.float32)
    rules = served.champion.on_fault.stand_in(OVERLOADED).rules
    alone = scores_alone(bundles["v1"], asked)
    for n, score in enumerate(rules.score(rows).tolist()):
        answer = desk.told[n]
        if n % 3:
            assert (answer.degraded, answer.fraud_probability, answer.batch_size) == (None, alone[n], 20)
        else:
            assert (answer.degraded, answer.fraud_probability, answer.batch_size) == (OVERLOADED, score, 10)
            assert answer.threshold_used == rules.thresholds.review
    assert desk.slot(Slot.SHED_OVERLOAD) == 10


def test_late_answers_are_not_remembered(desk_of, served):
    async def run():
        return await desk.one(vector, due_ns=1), await desk.one(vector)

    (vector,), desk = vectors(1), desk_of(served)
    late, again = asyncio.run(run())
    assert (late.degraded, again.degraded, again.cache_hit) == (OVERLOADED, None, False)


def test_a_full_queue_refuses_and_answers_those_that_wait(desk_of, served):
    async def run():
        for n, vector in enumerate(asked):
            if n < 5:
                desk.ask(n, vector)
                continue
            with pytest.raises(Overloaded, match="5 vectors are waiting"):
                desk.ask(n, vector)
        await asyncio.sleep(0)
        return await desk.one(asked[6])

    desk, asked = desk_of(served, max_waiting=5), vectors(7)
    assert asyncio.run(run()).degraded is None
    assert desk.order[:5] == [0, 1, 2, 3, 4]


def test_a_model_that_fails_leaves_the_word_to_the_rules_until_it_is_well(desk_of, bundles):
    class Moody:
        well = False

        def score(self, rows):
            if not self.well:
                raise RuntimeError("out of sorts")
            return bundles["v1"].scorer.score(rows)

    async def run():
        reasons = [(await desk.one(vector)).degraded for vector in vectors(4)]
        Moody.well = True
        await asyncio.sleep(0.06)
        return reasons, [(await desk.one(vector)).degraded for vector in vectors(4)]

    contender = Contender(bundles["v1"])
    contender.scorer = Moody()
    limits = Limits(deadline_s=10.0, breaker=BreakerSettings(open_s=0.05))
    desk = desk_of(Lineup(1, contender), limits=limits)
    assert asyncio.run(run()) == ([FAILED] * 3 + [CIRCUIT_OPEN], [None] * 4)
    assert (desk.slot(Slot.SHED_MODEL_FAILED), desk.slot(Slot.SHED_BREAKER_OPEN)) == (3, 1)
    assert desk.slot(Slot.BREAKER_OPENINGS) == 1


# experiments


def test_a_key_keeps_its_variant_whatever_its_vector_is(desk_of, bundles):
    async def run():
        return [await desk.all(vectors(100, seed), keys) for seed in range(4)]

    keys = [f"card-{n}" for n in range(100)]
    desk = desk_of(experiment(bundles, 40.0))
    expected = [variant_of(key, "spring", 40.0) for key in keys]
    for seed, answers in enumerate(asyncio.run(run())):
        assert [one.variant.lower() for one in answers] == expected
        assert [one.model_version for one in answers] == [{"a": "v1", "b": "v2"}[one] for one in expected]
        by = {name: scores_alone(bundles[name], vectors(100, seed)) for name in ("v1", "v2")}
        assert bits([one.fraud_probability for one in answers]) == bits(
            [by[one.model_version][n] for n, one in enumerate(answers)]
        )


def test_without_a_key_the_vector_keeps_to_its_variant(desk_of, bundles):
    async def run():
        return [await desk.all(vectors(100)) for _ in range(3)]

    desk = desk_of(experiment(bundles))
    variants = [[one.variant.lower() for one in answers] for answers in asyncio.run(run())]
    assert variants[0] == variants[1] == variants[2]
    assert 25 < variants[0].count("b") < 75


def test_each_variant_has_its_thresholds_and_its_counts(desk_of, bundles):
    desk = desk_of(experiment(bundles, a=ALLOW_ALL, b=BLOCK_ALL))
    answers = asyncio.run(desk.all(vectors(200), [f"card-{n}" for n in range(200)]))
    assert {(one.variant.lower(), one.decision) for one in answers} == {("a", "allow"), ("b", "block")}
    of_b = sum(one.variant.lower() == "b" for one in answers)
    a, b = desk.experiment["a"], desk.experiment["b"]
    assert (a.decisions, a.blocked, b.decisions, b.blocked) == (200 - of_b, 0, of_b, of_b)
    slots = ("PREDICTIONS_A", "PREDICTIONS_B", "BLOCKS_A", "BLOCKS_B", "EXPERIMENT_A_DECISIONS", "EXPERIMENT_B_BLOCKS")
    assert [desk.slot(Slot[slot]) for slot in slots] == [200 - of_b, of_b, 0, of_b, 200 - of_b, of_b]


def test_counts_stay_when_the_split_changes_and_go_with_the_experiment(desk_of, served, bundles):
    async def run():
        seen = []
        wider = experiment(bundles, 90.0)
        other = wider._replace(experiment=Experiment("summer", "v2", 90.0, ""))
        for lineup in (experiment(bundles, 10.0), wider, other, served):
            desk.predictor.switch(lineup)
            await desk.all(vectors(50))
            seen.append(sum(one.decisions for one in desk.experiment.values()))
        return seen

    desk = desk_of(served)
    assert asyncio.run(run()) == [50, 100, 50, 0]
    assert desk.slot(Slot.EXPERIMENT_B_DECISIONS) == 0


def test_late_vectors_of_an_experiment_are_no_fault_of_a_model(desk_of, bundles):
    async def run():
        return [await desk.one(vector, due_ns=1) for vector in vectors(20)]

    desk = desk_of(experiment(bundles))
    assert {one.degraded for one in asyncio.run(run())} == {OVERLOADED}
    assert [one.errors for one in desk.experiment.values()] == [0, 0]


def test_a_challenger_that_fails_leaves_the_champion_its_word(desk_of, bundles):
    class Broken:
        def score(self, _rows):
            raise RuntimeError("the weights are gone")

    async def run():
        return [one for seed in range(30) for one in await desk.all(vectors(20, seed))]

    lineup = experiment(bundles)
    lineup.challenger.scorer = Broken()
    desk = desk_of(lineup)
    answers = asyncio.run(run())
    assert {one.degraded for one in answers if one.variant.lower() == "a"} == {None}
    assert {one.degraded for one in answers if one.variant.lower() == "b"} == {FAILED, CIRCUIT_OPEN}
    assert desk.experiment["a"].errors == 0


def test_only_the_champions_scores_are_watched_for_drift(desk_of, bundles):
    seen = []
    desk = desk_of(experiment(bundles), observe=lambda rows, scores: seen.append((len(rows), scores)))
    answers = asyncio.run(desk.all(vectors(100)))
    desk.predictor.settle()
    ((rows, scores),) = seen
    of_a = [one.fraud_probability for one in answers if one.variant.lower() == "a"]
    assert rows == len(of_a)
    assert bits(scores) == bits(of_a)


def test_whatever_fails_inside_nobody_is_left_without_an_answer(desk_of, served, caplog, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError

    desk = desk_of(served)
    with monkeypatch.context() as broken:
        broken.setattr(desk.predictor._cache, "put", fail)
        answers = asyncio.run(desk.all(vectors(20)))
    assert {type(one) for one in answers} == {SentinelError}
    assert "20 vectors" in caplog.text
    assert desk.slot(Slot.ERRORS) == 20
    assert 0 <= asyncio.run(desk.all(vectors(1)))[0].fraud_probability <= 1


def test_what_cannot_be_observed_is_answered_and_counted(desk_of, served, caplog):
    def fail(_rows, _scores):
        raise ZeroDivisionError

    desk = desk_of(served, observe=fail)
    answers = asyncio.run(desk.all(vectors(20)))
    assert {type(one) for one in answers} == {Prediction}
    assert desk.slot(Slot.REQUESTS) == 20
    assert "could not be observed" in caplog.text


@pytest.mark.parametrize("n", [3, SETTLE_ROWS])
def test_answers_are_counted_when_they_are_many_or_after_a_moment(desk_of, served, n):
    async def run():
        await desk.all(vectors(n))
        at_once = cells[Slot.REQUESTS]
        await desk.all(vectors(3))  # from the cache
        await asyncio.sleep(3 * SETTLE_S)
        return at_once, cells[Slot.REQUESTS]

    desk = desk_of(served)
    cells = desk.counters._cells
    assert asyncio.run(run()) == (n if n == SETTLE_ROWS else 0, n + 3)


def test_what_was_repeated_is_forgotten_when_it_does_not_come_again(desk_of, served):
    async def run():
        for _ in range(2):
            await desk.one(often)
        for vector in vectors(4):
            await desk.one(vector)
            desk.predictor.settle()
            kept.append(len(desk.predictor.repeats))
            await asyncio.sleep(0.15)

    (often, *_), kept, desk = vectors(1, seed=9), [], desk_of(served, ttl_s=0.2)
    asyncio.run(run())
    assert kept[0] == 1
    assert kept[-1] == 0


def test_long_bodies_are_not_kept(desk_of, served):
    desk, told = desk_of(served), []
    question = msgspec.json.encode(Question(vectors(1)[0]))

    async def ask_twice(body):
        for _ in range(2):
            desk.predictor.ask(body, time.monotonic_ns(), NEVER_NS, told.append)
            await asyncio.sleep(0)
        assert msgspec.json.decode(told[-1])["cache_hit"]
        return desk.predictor.remembered(body)

    short, long = question.ljust(LONGEST_REPEAT), question.ljust(LONGEST_REPEAT + 1)
    assert msgspec.json.decode(asyncio.run(ask_twice(short)))["cache_hit"]
    assert asyncio.run(ask_twice(long)) is None
    assert short in desk.predictor.repeats
    assert long not in desk.predictor.repeats


# switches


def test_every_answer_names_the_version_that_scored_it_across_many_switches(desk_of, bundles):
    lineups = {
        name: Lineup(n, Contender(bundles[name], thresholds))
        for n, (name, thresholds) in enumerate({"v1": ALLOW_ALL, "v2": BLOCK_ALL, "v3": Thresholds(0.01, 0.5)}.items())
    }
    known = {name: scores_alone(bundles[name], vectors(50)) for name in lineups}

    async def run():
        rng, served = np.random.default_rng(5), "v1"
        for turn in range(300):
            for step in range(4):
                if rng.random() < 0.3:
                    served = f"v{rng.integers(1, 4)}"
                    desk.predictor.switch(lineups[served])
                n = int(rng.integers(50))
                asked_of[turn, step] = n, served
                desk.ask((turn, step), vectors_50[n])
            await asyncio.sleep(0)

    vectors_50, asked_of, desk = vectors(50), {}, desk_of(lineups["v1"])
    asyncio.run(run())
    assert len(desk.told) == 1200
    for name, answer in desk.told.items():
        n, served = asked_of[name]
        assert answer.model_version == served
        assert answer.fraud_probability == known[served][n]
        action = lineups[served].champion.thresholds.action(answer.fraud_probability)
        assert answer.decision == {"approve": "allow"}.get(action, action)
    assert len({answer.model_version for answer in desk.told.values()}) == 3


def test_vectors_under_way_are_answered_by_the_model_whose_features_they_are(desk_of, bundles):
    async def run():
        for n, vector in enumerate(asked):
            desk.ask(n, vector)
        desk.predictor.switch(Lineup(2, Contender(bundles["v4"])))
        narrow = vectors(5, width=8)
        for n, vector in enumerate(narrow):
            desk.ask(100 + n, vector)
        await asyncio.sleep(0)
        return narrow

    asked, desk = vectors(5), desk_of(Lineup(1, Contender(bundles["v1"])))
    narrow = asyncio.run(run())
    wide = [desk.told[n] for n in range(5)]
    assert {(one.model_version, one.degraded) for one in wide} == {("v1", None)}
    assert bits([one.fraud_probability for one in wide]) == bits(scores_alone(bundles["v1"], asked))
    after = [desk.told[100 + n] for n in range(5)]
    assert {(one.model_version, one.degraded) for one in after} == {("v4", None)}
    assert bits([one.fraud_probability for one in after]) == bits(scores_alone(bundles["v4"], narrow))


def test_a_challenger_of_other_features_never_scores_the_champions_vectors(desk_of, bundles):
    desk = desk_of(experiment(bundles, 100.0, "v4"))
    answers = asyncio.run(desk.all(vectors(40)))
    assert {(one.model_version, one.degraded) for one in answers} == {("v1", None)}
    assert bits([one.fraud_probability for one in answers]) == bits(scores_alone(bundles["v1"], vectors(40)))
