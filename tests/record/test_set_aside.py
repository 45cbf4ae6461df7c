"""What does not fit the schema is named beside the log, once, and for as long as the log has it."""

from sentinel.record.set_aside import FILE, MOST, Odd, SetAside, named_in, odd_in


def test_what_was_found_is_still_named_after_a_start(tmp_path):
    SetAside(tmp_path).note([Odd(7, "t7", "too long"), Odd(3, "t3", "too long")])
    SetAside(tmp_path).note([Odd(7, "t7", "too long"), Odd(9, "t9", "no amount")])
    assert [one.position for one in named_in(tmp_path)] == [3, 7, 9]
    assert [one.position for one in named_in(tmp_path, first=7)] == [7, 9]


def test_no_more_are_named_than_a_file_can_hold(tmp_path):
    found = SetAside(tmp_path)
    for n in range(0, 3 * MOST, 700):
        found.note([Odd(n + i, "t", "too long") for i in range(700)])
    assert len(named_in(tmp_path)) == MOST


def test_a_file_that_was_cut_off_is_begun_anew(tmp_path):
    (tmp_path / FILE).write_bytes(b'{"position":')
    assert named_in(tmp_path) == []
    SetAside(tmp_path).note([Odd(1, "t1", "too long")])
    assert [one.position for one in named_in(tmp_path)] == [1]


def test_without_room_for_the_file_nothing_stops(tmp_path):
    SetAside(tmp_path / "away").note([Odd(1, "t1", "too long")])


def test_records_of_a_schema_that_is_known_are_looked_through(made):
    long, fits = {"id": "long", "card": "c" * 300}, {"id": "fits"}
    records = [
        made.decided_record(5, [fits, long]),
        made.outcomes_record(7, [{"id": "fits", "is_fraud": True, "about": 5}]),
        made.decided_record(8, [long], schema="another"),
        made.decided_record(9, [fits]),
    ]
    assert [(odd.position, odd.transaction_id) for odd in odd_in(records, made.SCHEMAS)] == [(6, "long")]
