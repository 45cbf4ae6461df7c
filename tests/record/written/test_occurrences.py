"""Occurrences: told when they begin, once, and not again within a quiet period."""

from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.record.written import occurrences, outbox
from sentinel.record.written.occurrences import Condition
from sentinel.record.written.written_database import WrittenDatabase

A, B = Condition("drift.alarm", "v1", "differs"), Condition("breaker.open", "model", "open")


@pytest.fixture
def database(tmp_path):
    with closing(WrittenDatabase(tmp_path)) as opened:
        yield opened


def note(database, holding, now_us, quiet_us=100):
    with database.writing() as writer:
        return occurrences.note(writer, holding, quiet_us, now_us)


def test_what_begins_is_told_once_and_again_when_it_begins_again_later(database):
    assert note(database, [A], 1) == [A]
    assert note(database, [A, B], 2) == [B]
    assert note(database, [A, B], 3) == []
    assert note(database, [B], 4) == []
    assert note(database, [A, B], 50) == [], "it is quiet"
    assert note(database, [], 60) == []
    assert note(database, [A], 101) == [A]
    with database.reading() as reader:
        told = outbox.newest(reader, 10)
    assert told == [], "nobody wants them yet"
    with database.writing() as writer:
        assert outbox.deal(writer, lambda _: ("w",), 200, 10) == 3


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 60), st.sets(st.sampled_from([A, B]))), max_size=20))
def test_it_is_as_a_look_at_the_whole_story_says(tmp_path_factory, story):
    told, now_us, held, last = [], 1_000, set(), {}
    with closing(WrittenDatabase(tmp_path_factory.mktemp("written"))) as database:
        for passed, holding in story:
            now_us += passed
            expected = {one for one in holding - held if one not in last or now_us - last[one] >= 100}
            assert set(note(database, sorted(holding), now_us)) == expected
            last |= dict.fromkeys(expected, now_us)
            held = holding
            told += expected
