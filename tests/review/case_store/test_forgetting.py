"""Forgetting: what people wrote about whoever is erased goes, all else stays; and what is done leaves in time."""

import json
from contextlib import closing

import pytest
import sqlalchemy as sa
from made_records import decided_record

from sentinel.errors import NotFound
from sentinel.record.views.place import ViewPlace
from sentinel.record.written.occurrences import Condition, note
from sentinel.record.written.tables import messages, occurrences
from sentinel.review.case_store.case import case_of, events_of, payments_of
from sentinel.review.case_store.forgetting import (
    MOST_FORGOTTEN,
    Subject,
    erase_in_cases,
    forget_done,
    forget_occurrences,
)
from sentinel.review.case_store.tables import case_events, case_payments, case_signs, cases
from sentinel.review.cases.moves import Outcome
from tests.record.views.test_views import project

SAID = "called Mrs Meyer at home"


@pytest.fixture
def view(tmp_path):
    place = ViewPlace(tmp_path)
    yield place
    place.close()


@pytest.fixture
def written(office):
    """Three cases, about each of which somebody wrote: of c1, of c2, and of c3."""
    for card in ("c1", "c2", "c3"):
        number = office.comes(card).number
        office.desk.note(number, SAID, office.ana, 5)
        office.desk.link(number, "https://wiki.example/meyer", "Mrs Meyer", office.ana, 6)
        office.desk.escalate(number, office.version(number), "operator", "as Mrs Meyer says", office.ana, 7)
    return office


def said_in(database, number):
    """All that is kept about a case, and in messages about it, as one text."""
    with database.reading() as reader:
        events = [one.details for one in events_of(reader, number)]
        sent = reader.scalars(sa.select(messages.c.body).where(messages.c.about == f"case {number}")).all()
    return json.dumps(events) + "".join(sent)


def test_what_people_wrote_about_a_subject_goes_and_that_they_did_stays(written, view):
    before = {n: said_in(written.database, n) for n in (1, 2, 3)}
    assert all(word in text for text in before.values() for word in (SAID, "wiki.example", "as Mrs Meyer says"))
    assert erase_in_cases(written.database, view, Subject("card", ["its former hash", "c2"])) == 1
    assert [said_in(written.database, n) for n in (1, 3)] == [before[1], before[3]]
    left = said_in(written.database, 2)
    assert not any(word in left for word in ("Meyer", "meyer", "wiki.example"))
    with written.database.reading() as reader:
        history = [(one.what, one.who) for one in events_of(reader, 2)]
        assert history == [("opened", "sentinel"), ("noted", "ana"), ("linked", "ana"), ("escalated", "ana")]
        assert events_of(reader, 2)[-1].details == {"to": "operator", "reason": "erased"}
        assert case_of(reader, 2).escalated_to == "operator"
    assert erase_in_cases(written.database, view, Subject("card", ["c2"])) == 1  # as often as one likes
    assert said_in(written.database, 2) == left


def test_cases_of_another_key_with_a_decision_of_the_subject_are_found_by_the_view(written, view, made):
    record = decided_record(1, [{"id": f"t{n}", "card": f"c{n}", "shop": "s2" if n == 3 else "s1"} for n in (1, 2, 3)])
    with closing(view.open()) as opened:
        project(opened, made, [record])
    before = said_in(written.database, 1)
    assert erase_in_cases(written.database, view, Subject("shop", ["s2"])) == 1
    assert "Meyer" not in said_in(written.database, 3)
    assert said_in(written.database, 1) == before


def test_cases_that_are_done_for_long_leave_with_all_that_belongs_to_them(office):
    for n in range(4):
        office.comes(f"c{n}", signs=("rule x",))
    office.decide(1, Outcome.FRAUD, office.ana, 10, is_fraud=True)
    office.desk.close(2, office.version(2), "", office.ana, 20)
    with office.database.writing() as writer:
        assert forget_done(writer, 20) == 1
        assert forget_done(writer, 20) == 0
    with office.database.reading() as reader:
        with pytest.raises(NotFound):
            case_of(reader, 1)
        for table in (case_events, case_payments, case_signs):
            assert set(reader.scalars(sa.select(table.c.number))) == {2, 3, 4}
        assert len(payments_of(reader, 3)) == 1


def test_many_leave_a_bounded_number_at_a_time(office):
    with office.database.writing() as writer:
        for n in range(MOST_FORGOTTEN + 5):
            office_row = {
                "key_field": "card", "key_value": f"c{n}", "key_sha256": f"{n}", "open_key": None, "state": "closed",
                "why": "", "opened_us": 1, "due_us": 2, "priority": "low", "loss": 0, "amount": 0, "largest": 0,
                "payments": 0, "decimals": 2, "newest_us": 1, "decided_us": n, "version": 1,
            }  # fmt: skip
            writer.execute(cases.insert().values(office_row))
        assert forget_done(writer, 1_000) == MOST_FORGOTTEN
        assert forget_done(writer, 1_000) == 4


def test_no_number_is_given_twice(office):
    """Where a file gives out the highest number and one, the newest case has to stay until there is a newer one."""
    number = office.comes("c1").number
    office.desk.close(number, office.version(number), "", office.ana, 1)
    with office.database.writing() as writer:
        assert forget_done(writer, 1_000) == 0
    assert office.comes("c2").number == number + 1
    with office.database.writing() as writer:
        assert forget_done(writer, 1_000) == 1


def test_what_has_ended_long_ago_is_told_of_no_longer(database):
    with database.writing() as writer:
        note(writer, [Condition("drift", "v1", "it drifts"), Condition("gate", "v2", "refused")], 0, 10)
        note(writer, [Condition("gate", "v2", "refused")], 0, 20)
        assert forget_occurrences(writer, 10) == 0
        assert forget_occurrences(writer, 11) == 1
        assert writer.scalars(sa.select(occurrences.c.kind)).all() == ["gate"]  # it goes on


def test_what_is_erased_is_not_left_in_the_file_or_its_journal(office, view, tmp_path):
    for n in range(20):
        office.desk.note(office.comes("c1").number, f"{SAID} {n}", office.ana, 5)

    def kept():
        return b"".join(one.read_bytes() for one in tmp_path.rglob("written.db*"))

    assert erase_in_cases(office.database, view, Subject("card", ["c1"])) == 1
    assert b"Meyer" not in kept()
    with office.database.writing() as writer:
        writer.execute(sa.text("UPDATE cases SET why = 'Mrs Meyer'"))
    if office.database.name.endswith("written.db"):
        assert b"Meyer" in kept()  # it is there that it would be
