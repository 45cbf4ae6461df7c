"""What a model is measured on: never what it learned from, and with the state that a server would have."""

from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest

from sentinel.detectors import load_detector
from sentinel.events.files import history_of_frame
from sentinel.events.replay import columns_of_frame
from sentinel.events.times import iso
from sentinel.features.store import MemoryStore
from sentinel.learner import XGBoost
from sentinel.model.bundle import load_bundle
from sentinel.model.registry import Registry
from sentinel.train.pipeline import train
from sentinel.train.rows.dataset import replay
from sentinel.train.rows.unseen import unseen_rows

N, LEARNED = 6000, 4000
SHOP = load_detector(str(Path(__file__).parents[2] / "shop_detector.py"))
DAY_US = 86_400_000_000
TOLD = msgspec.structs.replace(
    SHOP, name="told", schema=msgspec.structs.replace(SHOP.schema, outcome_time="known_at"),
    training=msgspec.structs.replace(SHOP.training, learner=XGBoost(trees=5)),
)  # fmt: skip
LABELLED = msgspec.structs.replace(SHOP, name="labelled", training=TOLD.training)


def frame_of(detector, make):
    frame = make(N, seed=7)
    delays = np.random.default_rng(3).integers(0, 5 * DAY_US, N)
    return frame.with_columns(known_at=pl.col("event_time") + delays) if detector is TOLD else frame


@pytest.fixture(scope="module", params=[LABELLED, TOLD], ids=lambda one: one.name)
def trained(request, tmp_path_factory, make_shop_frame):
    """A detector, its frame, and a bundle that has learned from the first rows of that."""
    detector = request.param
    frame = frame_of(detector, make_shop_frame)
    registry = Registry(tmp_path_factory.mktemp("models"))
    version = train(detector, history_of_frame(frame[:LEARNED], detector.schema), registry, lambda *_: None).version
    return detector, frame, load_bundle(registry.path(version))


def unseen(trained, frame):
    detector, _, bundle = trained
    return unseen_rows(bundle, detector, history_of_frame(frame, detector.schema), lambda *_: None)


def one_replay(trained):
    """The features of all rows, from the first on, as a server that was always there would have had them."""
    detector, frame, bundle = trained
    history = history_of_frame(frame, detector.schema).frame
    plan = bundle.manifest.plan
    return replay(MemoryStore(plan), columns_of_frame(plan.schema, history), lambda *_: None).astype(np.float32)


def test_a_file_that_goes_on_is_measured_with_what_the_server_would_remember(trained):
    _, frame, _ = trained
    found, whole = unseen(trained, frame), one_replay(trained)
    assert found.left_out == LEARNED
    assert found.rows.tobytes() == whole[LEARNED:].tobytes()
    assert found.labels.tolist() == frame["is_fraud"].cast(pl.Int8).to_list()[LEARNED:]
    assert f"the first {LEARNED:,} rows are of the time that it learned from: left out" in found.said
    assert iso(int(frame["event_time"][LEARNED - 1])) in found.said


def test_a_file_of_what_came_later_needs_no_more(trained):
    detector, frame, _ = trained
    found, whole = unseen(trained, frame[LEARNED:]), one_replay(trained)
    assert found.left_out == 0
    assert "left out" not in found.said
    if detector is LABELLED:  # else the outcomes of older rows are only in the file that has those
        assert found.rows.tobytes() == whole[LEARNED:].tobytes()
    counts = [n for n, one in enumerate(found.rows[0]) if detector.features[n].kind == "count"]
    assert found.rows[:, counts].tobytes() == whole[LEARNED:][:, counts].tobytes()
    cold = replay(
        MemoryStore(trained[2].manifest.plan), columns_of_frame(detector.schema, frame[LEARNED:]), lambda *_: None
    )
    assert found.rows.tobytes() != cold.astype(np.float32).tobytes()


def test_one_row_of_the_time_that_it_learned_from_is_left_out(trained):
    _, frame, _ = trained
    found = unseen(trained, frame[LEARNED - 1 :])
    assert (found.left_out, len(found.rows)) == (1, N - LEARNED)
    assert "the first row is of the time that it learned from: left out" in found.said


def test_its_own_history_is_measured_on_the_test_part(trained):
    _, frame, bundle = trained
    found = unseen(trained, frame[:LEARNED])
    assert found.said == "the test part of the model's own history"
    assert len(found.rows) == bundle.manifest.training["rows"]["test"]
    assert found.rows.tobytes() == one_replay(trained)[found.left_out : LEARNED].tobytes()


def test_what_may_have_been_learned_from_is_not_said_to_be_new(trained):
    _, frame, _ = trained
    found = unseen(trained, frame[100:LEARNED])
    assert (found.left_out, len(found.rows)) == (0, LEARNED - 100)
    assert "may hold what it learned" in found.said
    assert found.may_be_learned
    assert not unseen(trained, frame[:LEARNED]).may_be_learned
    assert not unseen(trained, frame).may_be_learned
    older = frame[:500].with_columns(pl.col(pl.Int64) - 40 * DAY_US)
    assert "older than the model's history" in unseen(trained, older).said
    assert not unseen(trained, older).may_be_learned


def test_what_comes_at_the_last_instant_of_the_history_is_of_it(trained):
    _, frame, bundle = trained
    at_the_end = frame[LEARNED:].with_columns(event_time=pl.when(pl.int_range(pl.len()) < 3)
                                              .then(bundle.manifest.history.last_us).otherwise("event_time"))  # fmt: skip
    assert unseen(trained, at_the_end).left_out == 3
