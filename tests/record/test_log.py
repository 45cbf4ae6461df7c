"""What every log promises, whatever it is kept on."""

import threading
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentinel.errors import StorageProblem
from sentinel.record.file_log import FileLog
from sentinel.record.kafka.kafka_log import KafkaLog
from sentinel.record.log import Follower, Kind


@pytest.fixture(params=["FileLog", "FakeLog", "KafkaLog"])  # a new log is one more entry
def new_log(request, tmp_path, fake_log):
    """Makes empty logs of one kind, in which what was written is durable when `write` returns; all are closed in the end."""
    logs = []
    if request.param == "KafkaLog":
        new_place = request.getfixturevalue("new_kafka_place")

    def make():
        name = f"log-{len(logs)}"
        if request.param == "FileLog":
            logs.append(FileLog(tmp_path / name, 0, segment_bytes=1_024))
        elif request.param == "FakeLog":
            logs.append(fake_log.FakeLog(name))
        else:
            logs.append(PatientKafkaLog(*new_place()))
        return logs[-1]

    yield make
    for log in logs:
        log.close()


class PatientKafkaLog(KafkaLog):
    """Waits for each commit."""

    def write(self, *given, **more):
        position = super().write(*given, **more)
        self.flush()
        return position


@pytest.fixture
def log(new_log):
    return new_log()


def write(log, *bodies: bytes, rows: int = 1) -> list[int]:
    return [log.write(Kind.DECIDED, rows, log.clock(0), body) for body in bodies]


def bodies(log, position: int = 0) -> list[bytes]:
    return [record.body for page in Follower(log, position).rest(limit=2) for record in page]


def test_an_empty_log_has_nothing_to_read(log):
    assert log.first == log.durable
    assert log.read(log.first, 10) == []
    assert log.standing() == {}


def test_what_was_written_is_read_as_it_was_written(log):
    position = log.write(Kind.OUTCOMES, 3, 1_700_000_000_000_000, b"three outcomes")
    (record,) = log.read(position, 10)
    assert record[:5] == (position, Kind.OUTCOMES, 3, 1_700_000_000_000_000, b"three outcomes")


KINDS = st.sampled_from([kind for kind in range(255) if kind != Kind.LOSS])
"""Of any body; a loss has one that says with which chain the log goes on."""


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    written=st.lists(st.tuples(KINDS, st.integers(1, 5_000), st.binary(max_size=700)), max_size=12),
    limit=st.integers(1, 9_000),
)
def test_a_follower_sees_every_record_once_and_in_order(new_log, written, limit):
    log = new_log()
    for kind, rows, body in written:
        log.write(kind, rows, log.clock(0), body)
    seen = [record for page in Follower(log, 0).rest(limit) for record in page]
    assert [(record.kind, record.rows, record.body) for record in seen] == written
    assert all(later.position >= one.position + one.rows for one, later in pairwise(seen))


def test_the_durable_end_is_behind_the_last_entry(log):
    (position,) = write(log, b"a", rows=5)
    assert log.durable >= position + 5


def test_a_page_holds_as_many_entries_as_asked_or_some_more(log):
    write(log, b"a", b"b", b"c", rows=10)
    assert [record.body for record in log.read(log.first, 11)] == [b"a", b"b"]


def test_reading_from_within_a_record_begins_with_that_record(log):
    _, second = write(log, b"a", b"b", rows=10)
    assert [record.body for record in log.read(second + 9, 1)] == [b"b"]


def test_an_entry_is_found_at_its_position(log):
    positions = write(log, *(b"%d" % n * 100 for n in range(20)), rows=3)
    assert [log.at(position + 2).body for position in positions] == [b"%d" % n * 100 for n in range(20)]


def test_there_is_nothing_at_the_end(log):
    write(log, b"a")
    with pytest.raises(StorageProblem, match="is not in the log"):
        log.at(log.durable)


def test_an_empty_body_is_a_record(log):
    write(log, b"")
    assert bodies(log) == [b""]


def test_the_newest_record_of_a_standing_name_is_found_however_much_is_written_since(log):
    log.write(Kind.APPLIED, 1, 0, b"old rules", standing="rules")
    newest = log.write(Kind.APPLIED, 1, 0, b"new rules", standing="rules")
    log.write(Kind.ACTIVATION, 1, 0, b"a state", standing="activation:1")
    write(log, *[b"much" * 50] * 30)
    standing = log.standing()
    assert {name: record.body for name, record in standing.items()} == {
        "rules": b"new rules",
        "activation:1": b"a state",
    }
    assert standing["rules"] == log.at(newest)


def test_the_clock_never_runs_backwards(log):
    log.write(Kind.HEARTBEAT, 1, 1_000, b"")
    assert log.clock(900) == 1_000
    assert log.clock(1_100) == 1_100
    with pytest.raises(ValueError, match="after 1000"):
        log.write(Kind.HEARTBEAT, 1, 999, b"")


def test_the_first_entry_after_a_moment_is_found(log):
    positions = [log.write(Kind.DECIDED, 2, 10 * (n // 2), b"%d" % n * 100) for n in range(20)]
    assert log.first_after(-1) == positions[0]
    assert log.first_after(0) == positions[2]
    assert log.first_after(9) == positions[2]
    assert log.first_after(80) == positions[18]
    assert log.first_after(90) == log.durable


def test_the_chain_tells_two_histories_apart(new_log):
    one, other, third = new_log(), new_log(), new_log()
    write(one, b"a", b"b")
    write(other, b"a", b"b")
    write(third, b"x", b"b")
    assert one.at(2).chain == other.at(2).chain != third.at(2).chain


def test_all_records_are_read_along_the_chain_from_a_position_on(log):
    write(log, *(b"%d" % n * 100 for n in range(100)), rows=3)
    assert [one.body for one in log.chained_from(1)] == [b"%d" % n * 100 for n in range(100)]
    later = list(log.chained_from(151))
    assert later[0].position <= 151
    assert later[-1].position == 298


def test_what_was_pruned_is_refused_and_the_rest_is_read(log):
    write(log, *(b"%d" % n * 200 for n in range(20)))
    log.prune(11)
    assert 1 < log.first <= 11
    assert [record.position for record in log.read(log.first, 100)] == list(range(log.first, 21))
    with pytest.raises(StorageProblem, match="no longer kept"):
        log.read(1, 1)


def test_recovering_without_a_fault_changes_nothing(log):
    write(log, b"a")
    log.recover()
    write(log, b"b")
    assert bodies(log) == [b"a", b"b"]


def test_any_thread_reads_while_the_writer_writes(log):
    seen, done = [], threading.Event()

    def follow():
        follower = Follower(log, 0)
        while not (done.is_set() and follower.lag == 0):
            seen.extend(record.body for record in follower.next(3))

    reader = threading.Thread(target=follow)
    reader.start()
    written = [b"%d" % n * 30 for n in range(200)]
    write(log, *written)
    done.set()
    reader.join()
    assert seen == written


def test_a_delayed_log_shows_only_what_is_durable_except_at_a_position(fake_log):
    log, told = fake_log.FakeLog(delayed=True), []
    log.on_durable(lambda: told.append(log.durable))
    first, second = write(log, b"a", b"b")
    assert bodies(log) == []
    assert log.at(first).body == b"a"
    log.advance()
    assert bodies(log) == [b"a"]
    assert told == [second]


def test_recovering_voids_what_is_not_durable(fake_log):
    log = fake_log.FakeLog(delayed=True)
    write(log, b"a", b"b")
    log.advance()
    log.fence()
    for _ in range(2):
        with pytest.raises(StorageProblem):
            write(log, b"c")
    log.recover()
    write(log, b"d")
    log.advance()
    assert bodies(log) == [b"a", b"d"]


def test_recovering_fails_as_long_as_the_fault_lasts(fake_log):
    log = fake_log.FakeLog()
    log.fail()
    with pytest.raises(StorageProblem):
        log.recover()
    log.heal()
    log.recover()
    write(log, b"a")
    assert bodies(log) == [b"a"]
