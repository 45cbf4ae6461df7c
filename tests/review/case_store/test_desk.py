"""Cases as people work on them: one at a time each, nothing lost, and everything told once."""

import json
import threading

import pytest
import sqlalchemy as sa

from sentinel.errors import Conflict, Forbidden, InvalidInput, NotFound
from sentinel.record.written.tables import messages
from sentinel.review.case_store.case import MOST_PAYMENTS, events_of, payments_of
from sentinel.review.case_store.desk import MOST_WRITTEN
from sentinel.review.case_store.writing import sums, tell_overdue
from sentinel.review.cases.deadlines import USUAL, read_deadlines
from sentinel.review.cases.moves import CaseState, Outcome

DEADLINES = read_deadlines(USUAL)
HOUR = 3_600_000_000


def told(database):
    with database.reading() as reader:
        rows = reader.execute(sa.select(messages.c.kind, messages.c.about).order_by(messages.c.number))
        return [(row.kind, row.about) for row in rows]


def test_later_decisions_of_a_key_join_its_case(office):
    first = office.comes("c1", amount=10_000, probability=0.5)
    again = office.comes("c1", amount=2_000, probability=1.0, now_us=2_000_000)
    other = office.comes("c2")
    assert (again.number, other.number) == (first.number, first.number + 1)
    assert (first.loss, again.loss, again.payments, again.amount, again.largest) == (5_000, 7_000, 2, 12_000, 10_000)
    assert (again.version, again.opened_us) == (2, 1_000_000)
    with office.database.reading() as reader:
        assert [one.transaction_id for one in payments_of(reader, first.number)] == ["t2", "t1"]
    assert told(office.database) == [("case.opened", "case 1"), ("case.joined", "case 1"), ("case.opened", "case 2")]


def test_a_larger_risk_is_due_sooner_and_a_smaller_one_not_later(office):
    opened = office.comes(amount=1_100, probability=1.0)
    assert (opened.priority, opened.due_us - opened.opened_us) == ("normal", 8 * HOUR)
    larger = office.comes(amount=1_000_000, probability=1.0)
    assert (larger.priority, larger.due_us - larger.opened_us) == ("high", HOUR)
    assert office.comes(amount=1, probability=0.0).due_us == larger.due_us


def test_after_it_is_done_the_next_decision_opens_another_one(office):
    first = office.comes()
    office.decide(first.number, Outcome.FRAUD, office.ana, 9, is_fraud=True)
    early = office.desk.to_reopen(first.number, office.version(first.number), office.ana, 10)
    second = office.comes()
    assert second.number == first.number + 1
    with pytest.raises(Conflict, match="a newer case of the same card"):  # so no outcome is taken back
        office.desk.to_reopen(first.number, office.version(first.number), office.ana, 10)
    with pytest.raises(Conflict, match="a newer case of the same card"):
        office.desk.reopen(early, "", office.ana, 10)
    office.decide(second.number, Outcome.LEGITIMATE, office.ana, 11, is_fraud=False)
    begun = office.desk.to_reopen(first.number, office.version(first.number), office.ana, 12)
    assert begun.case.number == first.number
    again = office.desk.reopen(begun, "a mistake", office.ana, 12 * HOUR)
    assert (again.state, again.outcome, again.decided_us, again.opened_us) == (
        CaseState.REOPENED,
        None,
        None,
        12 * HOUR,
    )
    assert again.loss == first.loss
    assert again.due_us > 12 * HOUR


def test_what_a_payment_adds_is_what_all_of_them_make(office):
    for n, (amount, probability) in enumerate([(999, 0.333), (5, 0.5), (-700, 1.0), (123_457, 0.0171), (3, 0.5)]):
        case = office.comes(amount=amount, probability=probability, now_us=1_000_000 - n)
    with office.database.reading() as reader:
        of_all = sums(reader, case.number, DEADLINES, {"opened_us": case.opened_us, "decimals": 2})
    assert of_all == {name: getattr(case, name) for name in of_all}


def test_amounts_of_another_unit_are_added_in_that_of_the_case(office):
    office.comes(amount=10_000, decimals=2, probability=1.0)
    assert office.comes(amount=50, decimals=0, probability=1.0).amount == 15_000


def test_who_is_second_is_told_who_has_it(office):
    case = office.comes()
    office.desk.take(case.number, case.version, office.ana, 5)
    with pytest.raises(Conflict, match=r"from version 1 to 2 \(taken by 'ana' at 1970"):
        office.desk.take(case.number, case.version, office.bob, 6)
    with pytest.raises(Conflict, match="has to be escalated or open or reopened"):
        office.desk.take(case.number, 2, office.bob, 6)
    with pytest.raises(Conflict, match="'ana' has the case"):
        office.desk.to_decide(case.number, 2, office.bob, 6)
    assert office.desk.release(case.number, 2, office.lee, 7).holder is None  # an operator may
    with pytest.raises(NotFound, match="no case 77"):
        office.desk.take(77, None, office.bob, 8)


def test_of_many_who_ask_at_once_each_gets_another_case(office):
    for n in range(6):
        office.comes(f"c{n}")
    got, faults = [], []

    def ask(name):
        try:
            while (found := office.desk.take_next(office.ana._replace(name=name), 5)) is not None:
                got.append((found.number, found.holder == name))
        except Exception as error:  # noqa: BLE001 - it is raised below
            faults.append(error)

    threads = [threading.Thread(target=ask, args=(f"a{n}",)) for n in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    if faults:
        raise faults[0]
    assert sorted(got) == [(n, True) for n in range(1, 7)]


def test_next_is_the_most_urgent_that_one_may_have(office):
    small, large, larger = (office.comes(card, amount=amount) for card, amount in (("a", 5), ("b", 500), ("c", 50_000)))
    office.desk.escalate(larger.number, 1, "operator", "", office.ana, 5)
    assert office.desk.take_next(office.ana, 6).number == large.number
    escalated = office.desk.take_next(office.lee, 6)
    assert (escalated.number, escalated.escalated_to) == (larger.number, None)
    assert office.desk.take_next(office.ana, 6).number == small.number
    assert office.desk.take_next(office.ana, 6) is None


def test_escalation_waits_for_a_role(office):
    case = office.comes()
    up = office.desk.escalate(case.number, 1, "operator", "too large for me", office.ana, 5)
    assert (up.state, up.escalated_to, up.holder) == (CaseState.ESCALATED, "operator", None)
    with pytest.raises(Forbidden, match="waits for the role operator"):
        office.desk.take(case.number, 2, office.bob, 6)
    assert office.desk.take(case.number, 2, office.lee, 7).escalated_to is None


def test_deciding_says_what_each_payment_was_but_where_another_source_has_told(office):
    case = office.comes()
    office.comes()
    with office.database.writing() as writer:
        writer.execute(
            sa.text("UPDATE case_payments SET is_fraud = :no, source = 'bank' WHERE position = 1"), {"no": False}
        )
    begun = office.desk.to_decide(case.number, 2, office.ana, 8)
    assert [one.transaction_id for one in begun.payments] == ["t2"]
    done = office.desk.decide(begun, Outcome.FRAUD, {2: True}, office.ana, 9)
    assert (done.state, done.outcome, done.decided_by, done.decided_us, done.loss) == ("decided", "fraud", "ana", 9, 0)
    with office.database.reading() as reader:
        assert [(one.is_fraud, one.source) for one in payments_of(reader, case.number)] == [
            (True, "analyst"),
            (False, "bank"),
        ]


def test_all_payments_of_a_case_are_decided_however_many_are_shown(office):
    for _ in range(MOST_PAYMENTS + 2):
        number = office.comes("c1").number
    begun = office.desk.to_decide(number, office.version(number), office.ana, 8)
    assert len(begun.payments) == begun.case.payments == MOST_PAYMENTS + 2
    with office.database.reading() as reader:
        assert len(payments_of(reader, number)) == MOST_PAYMENTS


def test_a_case_has_so_many_notes_and_links_and_all_else_goes_on(office):
    case = office.comes()
    for n in range(MOST_WRITTEN - 1):
        office.desk.note(case.number, f"note {n}", office.ana, 5)
    office.desk.link(case.number, "https://wiki.example/7", "the shop", office.ana, 6)
    with pytest.raises(Conflict, match="200 notes and links already"):
        office.desk.note(case.number, "one more", office.ana, 7)
    with pytest.raises(Conflict, match="200 notes and links already"):
        office.desk.link(case.number, "https://wiki.example/8", "", office.bob, 7)
    assert office.desk.take(case.number, None, office.bob, 8).holder == "bob"
    other = office.comes("another")
    assert office.desk.note(other.number, "its first", office.ana, 9).version == 2


def test_notes_and_links_stay_in_the_history_whatever_is_in_them(office):
    case = office.comes()
    hostile = "<script>alert(1)</script> \u202egnp.exe\x00 4111 1111 1111 1111 " + "n" * 9_900
    office.desk.note(case.number, hostile, office.ana, 5)
    office.desk.link(case.number, "https://wiki.example/7", "the shop", office.bob, 6)
    with office.database.reading() as reader:
        events = events_of(reader, case.number)
    assert [(one.what, one.who, one.version) for one in events] == [
        ("opened", "sentinel", 1), ("noted", "ana", 2), ("linked", "bob", 3),
    ]  # fmt: skip
    assert events[1].details["text"] == hostile.replace("\x00", "").replace("4111 1111 1111 1111", "[card number]")
    for text in ("", " \n", "n" * 10_001):
        with pytest.raises(InvalidInput, match="Expected a note"):
            office.desk.note(case.number, text, office.ana, 7)
    for address in (
        "javascript:alert(1)",
        "http://a b",
        "https://x/4111111111111111",
        "https://x/\u202e",
        "data:text/html,x",
    ):
        with pytest.raises(InvalidInput, match="Expected an address"):
            office.desk.link(case.number, address, "", office.ana, 7)
    assert office.version(case.number) == 3


def test_a_deadline_that_passes_is_told_once(office):
    late, in_time = office.comes("a", amount=10**6), office.comes("b", amount=1)
    office.comes("c", amount=10**6)
    office.decide(3, Outcome.UNDECIDED, office.ana, 5)
    for now_us in (late.due_us, late.due_us + 1, late.due_us + 2):
        with office.database.writing() as writer:
            tell_overdue(writer, now_us, 10)
    assert [about for kind, about in told(office.database) if kind == "case.overdue"] == [f"case {late.number}"]
    with office.database.writing() as writer:
        assert tell_overdue(writer, in_time.due_us + 1, 10) == 1


def test_what_goes_out_names_no_card(office):
    office.comes("a-card-of-somebody")
    with office.database.reading() as reader:
        (body,) = reader.scalars(sa.select(messages.c.body))
    assert "somebody" not in body
    assert json.loads(body)["case"]["number"] == 1


def test_while_one_ends_a_case_nobody_else_acts_on_it(office):
    """Outcomes are told in between: they are those of whoever the case is decided by."""
    case = office.comes()
    begun = office.desk.to_decide(case.number, 1, office.ana, 5)
    acts = [
        lambda: office.desk.take(case.number, 1, office.bob, 6),
        lambda: office.desk.hand_over(case.number, 1, "bob", office.lee, 6),
        lambda: office.desk.escalate(case.number, 1, "operator", "", office.bob, 6),
        lambda: office.desk.close(case.number, 1, "", office.bob, 6),
        lambda: office.desk.to_decide(case.number, 1, office.bob, 6),
    ]
    for act in acts:
        with pytest.raises(Conflict, match=f"'ana' is ending case {case.number} at this moment"):
            act()
    assert office.desk.take_next(office.bob, 6) is None
    decided = office.desk.decide(begun, Outcome.FRAUD, {1: True}, office.ana, 7)
    assert (decided.outcome, decided.version) == ("fraud", 2)


def test_what_is_given_up_is_free_again_and_whoever_began_may_begin_anew(office):
    case = office.comes()
    office.desk.to_decide(case.number, 1, office.ana, 5)  # and is killed
    again = office.desk.to_decide(case.number, 1, office.ana, 6)
    office.desk.give_up(again)
    assert office.desk.take(case.number, 1, office.bob, 7).holder == "bob"


def test_who_tells_for_too_long_does_not_end_a_case_that_another_has_taken(office):
    case = office.comes()
    begun = office.desk.to_decide(case.number, 1, office.ana, 5)
    late_us = begun.until_us + 1
    taken = office.desk.take(case.number, 1, office.bob, late_us)
    taken = office.desk.release(case.number, taken.version, office.bob, late_us)  # so it is nobody's again
    with pytest.raises(Conflict, match="Somebody else has acted on case"):
        office.desk.decide(begun, Outcome.FRAUD, {1: True}, office.ana, late_us + 1)
    taken = office.desk.take(case.number, taken.version, office.bob, late_us + 1)
    again = office.desk.to_decide(case.number, taken.version, office.bob, late_us + 2)
    ended = office.desk.decide(again, Outcome.LEGITIMATE, {1: False}, office.bob, late_us + 3)
    assert (ended.outcome, ended.decided_by) == ("legitimate", "bob")
    with pytest.raises(Conflict, match="Somebody else has acted on case"):
        office.desk.decide(begun, Outcome.FRAUD, {1: True}, office.ana, late_us + 4)
    with office.database.reading() as reader:
        assert [one.is_fraud for one in payments_of(reader, case.number)] == [False]
