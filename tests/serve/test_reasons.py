"""Reasons as entries: of what was not approved, once, as they are when asked for, going on after restarts and faults."""

import shutil
from io import BytesIO

import msgspec
import numpy as np
import pytest

from sentinel.events.columns import hash_text
from sentinel.model.bundle import load_bundle, read_explainer
from sentinel.model.registry import Registry
from sentinel.policy.thresholds import Thresholds
from sentinel.record import explaining
from sentinel.record.applied import log_folder
from sentinel.record.explaining import LENGTH, NO, PROGRAM, YES, Explaining, Said, converse, follow
from sentinel.record.log import Kind
from sentinel.record.problem import problem_of
from sentinel.record.reasons import explained_upto, reasons_in
from sentinel.serve.lineup import Contender, Lineup


@pytest.fixture(scope="module")
def registry(shop_home):
    return Registry(shop_home / "models")


@pytest.fixture
def home(home_of, shop_home):
    bundle = load_bundle(shop_home / "models" / "v1")
    home = home_of(Lineup(1, Contender(bundle, Thresholds(review=0.2, block=0.4, challenge=0.1))))
    home.open()
    return home


def explain_all(home, explainer) -> None:
    while not explainer.is_at_end:
        reasons = explainer.step()
        if reasons is not None:
            assert home.engine.explain(reasons, home.now_us)
            explainer.taken(reasons)


def stored(home):
    """By the position of the decision: its id, and the JSON of its reasons."""
    found = {}
    for record in home.records():
        if record.kind == Kind.REASONS:
            entry = reasons_in(record)
            for name, about, why in zip(entry.ids, np.frombuffer(entry.about, "<i8").tolist(), entry.why, strict=True):
                assert about not in found, "nothing twice"
                found[about] = (name, why)
    return found


def unapproved(home):
    return [one for one in home.decisions() if one.decision != "approve" and one.decider.degraded is None]


def test_all_that_a_model_did_not_approve_has_the_reasons_that_are_computed_when_asked(home, registry):
    home.pay(range(300))
    explain_all(home, Explaining(home.log, registry))
    found, explainer = stored(home), read_explainer(registry.path("v1"))
    rows = unapproved(home)
    assert 50 < len(rows) < 300
    assert {row.position: row.transaction_id for row in rows} == {at: name for at, (name, _) in found.items()}
    for row in rows:
        assert found[row.position][1] == msgspec.json.encode(explainer.explain(row.features))
        key = np.uint64(hash_text(row.transaction_id))
        assert home.engine.journal.reasons_of(row.transaction_id, key, row.position)[1] == found[row.position][1]
        assert home.engine.journal.reasons_of(row.transaction_id, key, row.position + 1) is None
    home.pay(range(300, 320))
    home.assert_states_are_those_of_a_replay()


def test_one_goes_on_where_another_ended_in_the_middle_of_a_record(home, registry, monkeypatch):
    monkeypatch.setattr(explaining, "MOST_AT_ONCE", 3)
    home.pay(range(120), at_once=60)
    first = Explaining(home.log, registry)
    for _ in range(5):
        reasons = first.step()
        assert home.engine.explain(reasons, home.now_us)
        first.taken(reasons)
    home.reopen()
    explain_all(home, Explaining(home.log, registry))
    assert stored(home).keys() == {row.position for row in unapproved(home)}
    again = Explaining(home.log, registry)
    explain_all(home, again)
    assert len(stored(home)) == len(unapproved(home))


def test_what_another_one_has_recorded_is_refused(home, registry):
    home.pay(range(60))
    one, other = Explaining(home.log, registry), Explaining(home.log, registry)
    reasons, same = one.step(), other.step()
    assert home.engine.explain(reasons, home.now_us)
    before = home.log.durable
    assert not home.engine.explain(same, home.now_us)
    assert home.log.durable == before
    other.begin()
    explain_all(home, other)
    assert stored(home).keys() == {row.position for row in unapproved(home)}


def test_rules_have_no_reasons_and_a_model_that_is_gone_holds_nothing_up(home, registry, tmp_path, caplog):
    home.pay(range(40))
    shed = [home.payment(i) for i in range(40, 80)]
    home.handle(shed, due_ns=[0] * len(shed))
    gone = Registry(tmp_path / "models")
    (tmp_path / "models").mkdir()
    explainer = Explaining(home.log, gone)
    explain_all(home, explainer)
    assert explainer.left_out == len(unapproved(home)) > 0
    assert stored(home) == {}
    assert caplog.text.count("are left without reasons") == 1
    shutil.copytree(registry.folder, gone.folder, dirs_exist_ok=True)
    explain_all(home, Explaining(home.log, gone))
    assert stored(home).keys() == {row.position for row in unapproved(home)}


def all_said(said: BytesIO) -> list[Said]:
    data, heard = said.getvalue(), []
    while data:
        end = LENGTH + int.from_bytes(data[:LENGTH], "little")
        heard.append(msgspec.msgpack.decode(data[LENGTH:end], type=Said))
        data = data[end:]
    return heard


def test_a_log_that_is_away_is_waited_for_and_then_explained(home, registry, monkeypatch):
    monkeypatch.setattr(explaining, "_RETRY_S", 0.0)
    home.pay(range(30))
    folder, looks, told = log_folder(home.folder), [], []
    folder.rename(folder.with_name("away"))

    def goes_on() -> bool:
        looks.append(None)
        told.append(problem_of(home.folder, PROGRAM))
        if len(looks) == 3:
            folder.with_name("away").rename(folder)
        return True

    said = BytesIO()
    follow(home.folder, registry, goes_on, said, BytesIO())  # nobody answers: that ends it
    [heard] = all_said(said)
    assert heard.reasons is not None
    assert None not in told[1:3]
    assert problem_of(home.folder, PROGRAM) is None


def test_what_was_not_recorded_is_said_again(home, registry, monkeypatch):
    monkeypatch.setattr(explaining, "_RETRY_S", 0.0)
    home.pay(range(30))
    said, answers = BytesIO(), [NO, YES, b""]

    class Listener(BytesIO):
        def read(self, _size: int) -> bytes:
            return answers.pop(0)

    converse(Explaining(home.log, registry), lambda: True, said, Listener(), lambda: None)
    first, again, after = all_said(said)
    assert first == again
    assert first.reasons is not None
    assert after.reasons is None or after.reasons.since == first.reasons.upto


def test_a_log_begins_unexplained_and_says_how_far_it_is(home, registry):
    home.pay(range(60))
    assert explained_upto(home.log) == 0
    explain_all(home, Explaining(home.log, registry))
    rows = unapproved(home)
    assert rows[-1].position < explained_upto(home.log) <= home.log.durable


def test_time_to_record_is_bounded_by_few_bytes(home, registry):
    home.pay(range(600), at_once=200)
    reasons = Explaining(home.log, registry).step()
    assert len(reasons.ids) == explaining.MOST_AT_ONCE
    assert len(msgspec.msgpack.encode(reasons)) < 150_000
