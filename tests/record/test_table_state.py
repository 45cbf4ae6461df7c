"""The state of the tables: from the log alone, from snapshots of it, and what of the log it needs."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentinel.errors import StorageProblem
from sentinel.events.reference_tables.versions import Row
from sentinel.record.entries import TableRows, table_in
from sentinel.record.feature_state import activation_of
from sentinel.record.file_log import FileLog
from sentinel.record.log import Kind
from sentinel.record.snapshots import Snapshots
from sentinel.record.table_state import NAME, TableState, append_rows, tables_origin

NOW_US = 1_738_400_000_000_000


def entry(*rows, table="cards", kind="exact"):
    return TableRows.of(table, kind, [Row(*row) for row in rows], "feed")


@pytest.fixture
def log(fake_log):
    return fake_log.FakeLog()


@pytest.fixture
def snapshots(tmp_path):
    return Snapshots(tmp_path / "snapshots")


def contents(state):
    return bytes(state.tables.snapshot()["tables"])


def test_an_entry_comes_back_from_the_log_as_it_was(log):
    rows = [Row("c1", -5, b'{"limit":1.5}'), Row("M\u00fcller", 2**60, b"")]
    position = append_rows(log, TableRows.of("cards", "exact", rows, "feed"), NOW_US)
    record = log.at(position)
    assert (record.kind, record.rows, table_in(record).rows, table_in(record).told_by) == (Kind.TABLE, 2, rows, "feed")


def test_the_log_says_from_where_on_there_are_rows(log):
    assert activation_of(log, NAME) is None
    log.write(Kind.HEARTBEAT, 1, NOW_US, b"")
    append_rows(log, entry(("c", 1, b"1")), NOW_US)
    begin = activation_of(log, NAME)
    assert log.at(begin).kind == Kind.ACTIVATION
    append_rows(log, entry(("c", 2, b"1")), NOW_US)
    assert activation_of(log, NAME) == begin


def test_without_rows_nothing_is_read_and_nothing_is_known(log, snapshots):
    log.write(Kind.HEARTBEAT, 1, NOW_US, b"")
    state = TableState.of(log, snapshots)
    assert (state.position, len(state.tables.of("cards", "exact"))) == (log.durable, 0)


STEPS = st.lists(
    st.one_of(
        st.lists(
            st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.sampled_from((b"", b"1", b"2"))),
            min_size=1, max_size=4,
        ),
        st.sampled_from(("beat", "save", "month")),
    ),
    max_size=25,
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, damaged=st.booleans())
def test_a_start_from_snapshots_is_as_good_as_the_whole_log(fake_log, tmp_path_factory, steps, damaged):
    log, now_us = fake_log.FakeLog(), NOW_US
    folder = tmp_path_factory.mktemp("snapshots")
    snapshots = Snapshots(folder)
    for step in steps:
        now_us += 1_000
        if step == "beat":
            log.write(Kind.HEARTBEAT, 1, now_us, b"")
        elif step == "month":
            now_us += 30 * 86_400_000_000
        elif step == "save":
            TableState.of(log, snapshots).snapshot(log, snapshots)
        else:
            append_rows(log, entry(*step), now_us)
    if damaged:
        for path in sorted(folder.glob("tables-*.npz"))[-1:]:
            path.write_bytes(path.read_bytes()[:-30])
    one, other = TableState.of(log, snapshots), TableState.of(log, Snapshots(tmp_path_factory.mktemp("none")))
    assert (one.position, contents(one)) == (other.position, contents(other))


def test_a_log_that_lacks_what_follows_the_newest_snapshot_is_refused(tmp_path, snapshots):
    log = FileLog(tmp_path / "log", NOW_US, segment_bytes=4_096)
    for n in range(200):
        append_rows(log, entry((f"c{n}", n, b'{"limit":1.0}')), NOW_US)
    first = TableState.of(log, snapshots)
    first.snapshot(log, snapshots)
    log.prune(first.position - 50)
    assert log.first > activation_of(log, NAME)
    assert contents(TableState.of(log, snapshots)) == contents(first)
    for path in snapshots.folder.glob("tables-*.npz"):
        path.unlink()
    with pytest.raises(StorageProblem, match="the tables need the log from position 1 on, and it begins at"):
        TableState.of(log, snapshots)
    log.close()


def test_a_snapshot_of_another_log_is_not_used(fake_log, log, snapshots):
    append_rows(log, entry(("c", 1, b"1")), NOW_US)
    TableState.of(log, snapshots).snapshot(log, snapshots)
    assert snapshots.positions(NAME, tables_origin(log)) == [log.durable]
    other = fake_log.FakeLog()
    append_rows(other, entry(("c", 1, b"2")), NOW_US)
    if other.log_id != log.log_id:
        assert TableState.of(other, snapshots).tables.of("cards", "exact").values_at("c", 5) == b"2"
