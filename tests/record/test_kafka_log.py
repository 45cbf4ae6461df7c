"""The log in Kafka: who may write it, what comes back after a fault, and topics in which no log is safe."""

import json
import os
import signal
import subprocess
import time
from contextlib import closing, suppress

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from sentinel.errors import LogDamaged, NotTheOwner, StorageProblem
from sentinel.record.file_log import FileLog
from sentinel.record.kafka.connection import client_settings
from sentinel.record.kafka.home import HomeKafkaLog
from sentinel.record.kafka.kafka_log import KafkaLog
from sentinel.record.kafka.message import INPUTS
from sentinel.record.kafka.place import Place, place_in
from sentinel.record.kafka.reader import KafkaLogReader
from sentinel.record.kafka.standby_log import StandbyLog
from sentinel.record.kafka.standing import StandingTopic
from sentinel.record.kafka.topics import prepare
from sentinel.record.log import Enclosed, Follower, Kind, Taken
from sentinel.record.projector import note_traces
from sentinel.telemetry.otlp import ExportingTracer
from sentinel.transport.flink.topics import check_topics
from sentinel.transport.kafka.connection import Connection
from sentinel.transport.kafka.topics import DECISIONS, check

TRACE_HEADER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def new_place(new_kafka_place):
    return new_kafka_place()


def bodies(log):
    return [record.body for page in Follower(log, 1).rest() for record in page]


def write(log, *written):
    for body in written:
        log.write(Kind.DECIDED, 2, log.clock(0), body)


def admin_of(settings):
    return AdminClient(dict(settings))


def make(settings, topic, partitions=1, **config):
    named = {name.replace("_", "."): value for name, value in config.items()}
    admin = admin_of(settings)
    admin.create_topics([NewTopic(topic, partitions, 1, config=named)])[topic].result(10)


def test_a_successor_goes_on_and_its_predecessor_writes_no_more(new_place):
    with closing(KafkaLog(*new_place)) as first:
        write(first, b"a", b"b")
        first.flush()
        with closing(KafkaLog(*new_place)) as second:
            assert (second.log_id, second.durable) == (first.log_id, first.durable)
            write(second, b"c")
            second.flush()
            write(first, b"lost")
            with pytest.raises(StorageProblem, match="another process has become the writer"):
                first.flush()
            for _ in range(2):
                with pytest.raises(StorageProblem, match="this one writes no more"):
                    first.recover()
                with pytest.raises(StorageProblem, match="this one writes no more"):
                    write(first, b"lost")
            write(second, b"d")
            second.flush()
            assert bodies(second) == [b"a", b"b", b"c", b"d"]


def test_a_writer_that_closes_says_so_and_one_that_was_fenced_does_not(new_place):
    def writer():
        with closing(StandingTopic(*new_place)) as topic:
            return topic.writer

    first = KafkaLog(*new_place)
    write(first, b"a")
    first.flush()
    assert not writer().ended
    with closing(KafkaLog(*new_place)) as second:
        assert second.durable == 3
        first.close()
        assert not writer().ended
    assert writer().ended


def test_a_reader_elsewhere_sees_what_is_committed_with_the_same_chain_and_standing(new_place):
    with closing(KafkaLog(*new_place)) as log:
        write(log, b"a")
        log.write(Kind.APPLIED, 1, 5, b"rules", standing="rules")
        with closing(KafkaLogReader(*new_place)) as reader:
            follower = Follower(reader, 1)
            assert [one.body for page in follower.rest() for one in page] == [b"a", b"rules"]
            write(log, b"b")
            log.flush()
            until = time.monotonic() + 10
            while not (found := follower.next()):
                assert time.monotonic() < until
            assert found == log.read(4, 1)
            assert reader.standing() == log.standing() == {"rules": log.at(3)}
            assert (reader.log_id, reader.first, reader.durable) == (log.log_id, 1, 6)


def test_what_is_written_later_is_not_seen_before_it_is_committed(new_place):
    with closing(KafkaLog(*new_place)) as log:
        told = []
        log.on_durable(lambda: told.append(log.durable))
        position = log.write(Kind.DECIDED, 3, 0, b"a")
        assert log.at(position + 2).body == b"a"
        log.flush()
        assert told[-1] == log.durable == position + 3


def test_the_newest_entry_has_the_positions_of_all_inputs(new_place):
    with closing(KafkaLog(*new_place)) as log:
        log.write(Kind.DECIDED, 1, 0, b"a", inputs={"transactions-0": 17, "events-0": 4})
        write(log, b"decided over HTTP")
        log.flush()
    with closing(KafkaLog(*new_place)) as log:
        assert log.newest_inputs == {"transactions-0": 17, "events-0": 4}


def test_what_is_written_together_is_committed_together_with_what_was_read_and_what_is_enclosed(new_place):
    place, settings = new_place
    with closing(KafkaLog(place, settings)) as log:
        make(settings, f"{place.prefix}letters")
        with log.together() as unit:
            write(log, b"a", b"b")
            log.write(Kind.APPLIED, 1, log.clock(0), b"rules", standing="rules")  # waits for nothing within
            assert log.durable == 1
            unit.take(
                Taken({"transactions-0": 5}, [Enclosed(f"{place.prefix}letters", b"poison", b"c", [("why", b"x")])])
            )
            unit.take(Taken({"transactions-0": 7}, traces=[TRACE_HEADER]))
        log.flush()
        with log.together() as unit:  # nothing came of it
            unit.take(Taken({"transactions-0": 9}))
        with suppress(RuntimeError), log.together() as unit:
            write(log, b"c")
            unit.take(Taken({"transactions-0": 11}))
            raise RuntimeError  # what is written stays, and is read again
        log.flush()
        assert (log.newest_inputs, log.written_inputs) == ({"transactions-0": 9},) * 2
        assert bodies(log) == [b"a", b"b", b"rules", b"", b"c"]
        assert log.standing()["rules"].body == b"rules"
    letters = Consumer({**settings, "group.id": "check", "isolation.level": "read_committed"})
    letters.assign([TopicPartition(f"{place.prefix}letters", 0, 0)])
    (letter,) = letters.consume(1, 60)
    assert (letter.value(), letter.key(), letter.headers()) == (b"poison", b"c", [("why", b"x")])
    letters.close()


def test_what_was_traced_on_its_way_in_is_projected_under_the_same_trace(new_place):
    with closing(KafkaLog(*new_place)) as log:
        with log.together() as unit:
            write(log, b"a")
            unit.take(Taken({"transactions-0": 1}, traces=[TRACE_HEADER]))
        log.flush()
    spans = InMemorySpanExporter()
    tracer = ExportingTracer(spans)
    with closing(KafkaLogReader(*new_place)) as reader:
        until = time.monotonic() + 30
        while not reader.read(1, 10):
            assert time.monotonic() < until
        for _ in range(2):
            note_traces(reader, tracer, time.monotonic_ns())
    tracer.close()
    (span,) = spans.get_finished_spans()
    assert (span.name, f"{span.context.trace_id:032x}") == ("project", TRACE_HEADER.split("-")[1])


def test_one_stands_by_until_it_takes_over_and_the_other_stands_by_then(new_place):
    with closing(StandbyLog(*new_place)) as first, closing(StandbyLog(*new_place)) as second:
        first.url, second.url = "http://first", "http://second"
        assert first.log_id == second.log_id  # whoever came first has founded it
        with pytest.raises(NotTheOwner, match="this process stands by"):
            write(first, b"a")
        first.take_over()
        write(first, b"a")
        first.flush()
        wait_until(lambda: second.look() or second.durable == first.durable)
        with pytest.raises(NotTheOwner, match="http://first owns the log"):
            write(second, b"b")
        second.take_over()
        write(second, b"b")
        second.flush()
        write(first, b"lost")
        with pytest.raises(NotTheOwner, match="another process has become the writer"):
            first.flush()
        first.recover()
        wait_until(lambda: first.look() or first.durable == second.durable)
        assert "http://second owns the log" in str(first.fault)
        first.take_over()
        write(first, b"c")
        first.flush()
        second.step_down()
        second.recover()
        wait_until(lambda: second.look() or second.durable == first.durable)
        assert bodies(second) == bodies(first) == [b"a", b"b", b"c"]


def wait_until(what):
    until = time.monotonic() + 60
    while not what():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_log_is_found_from_its_middle_without_reading_all_of_it(new_place):
    with closing(KafkaLog(*new_place)) as log:
        for n in range(1_500):
            log.write(Kind.DECIDED, 1 + n % 3, n, b"%d" % n)
        log.flush()
        expected = {record.position: record for page in Follower(log, 1).rest() for record in page}
    with closing(KafkaLogReader(*new_place)) as reader:
        for position in list(expected)[::211]:
            assert reader.at(position) == expected[position]
            assert reader.first_after(expected[position].received_us - 1) == position
            assert reader.read(position, 1)[0] == expected[position]


def test_what_is_not_as_it_was_written_is_found(new_place):
    place, settings = new_place
    with closing(KafkaLog(place, settings)) as log:
        write(log, b"a")
        log.flush()
    other = Producer(dict(settings))
    other.produce(place.decisions, b"not a record", partition=0)
    assert other.flush(10) == 0
    with pytest.raises(LogDamaged, match="nothing else may write to this topic"):
        KafkaLog(place, settings)


def assert_said(what, call):
    """It is refused with this; before that maybe with something else, while the broker does not know the topic yet."""
    until = time.monotonic() + 60
    while True:
        with pytest.raises(StorageProblem) as found:
            call()
        if what in str(found.value):
            return
        assert time.monotonic() < until, found.value


def make_anew(place, settings):
    admin = admin_of(settings)
    admin.delete_topics([place.decisions])[place.decisions].result(10)
    until = time.monotonic() + 30
    while place.decisions in admin.list_topics(timeout=10).topics:
        assert time.monotonic() < until
        time.sleep(0.05)
    make(settings, place.decisions, cleanup_policy="delete", message_timestamp_type="LogAppendTime", retention_ms="-1",
         max_message_bytes=str(16 << 20))  # fmt: skip


def test_a_topic_that_was_made_anew_is_another_log(new_place):
    with closing(KafkaLog(*new_place)) as log:
        write(log, b"a", b"b", b"c")
        log.write(Kind.APPLIED, 1, 0, b"rules", standing="rules")
        with closing(KafkaLogReader(*new_place)) as reader:
            end = reader.durable
            make_anew(*new_place)
            assert_said("was made anew", lambda: reader.durable)
        write(log, b"d")
        with pytest.raises(StorageProblem, match="was made anew while it was written"):
            log.flush()
        assert log.durable == end
        assert_said("was made anew", log.recover)


def test_a_log_whose_topic_was_made_anew_is_not_opened_as_an_empty_one(new_place):
    with closing(KafkaLog(*new_place)) as log:
        log.write(Kind.APPLIED, 1, 0, b"rules", standing="rules")
    make_anew(*new_place)
    assert_said("ends before position 1, and 'rules' stands behind it", lambda: KafkaLog(*new_place))


WRONG = [
    ({"cleanup_policy": "compact"}, "has cleanup.policy=compact and needs cleanup.policy=delete"),
    ({"message_timestamp_type": "CreateTime"}, "needs message.timestamp.type=LogAppendTime"),
    ({"retention_ms": "86400000"}, "forgets after 1 days, before ids do; set retention.ms=950400000"),
    ({"retention_bytes": "1000000"}, "forgets by size"),
    ({"max_message_bytes": "1000000"}, "set max.message.bytes="),
]


@pytest.mark.parametrize(("wrong", "said"), WRONG, ids=[said for _, said in WRONG])
def test_topics_that_would_lose_the_log_are_refused_with_what_to_set(new_place, wrong, said):
    place, settings = new_place
    right = {"cleanup_policy": "delete", "message_timestamp_type": "LogAppendTime", "retention_ms": "-1",
             "max_message_bytes": str(16 << 20)}  # fmt: skip
    make(settings, place.decisions, **{**right, **wrong})
    with pytest.raises(StorageProblem, match=said):
        prepare(place, 10 * 86_400_000_000, settings)


def test_a_partition_that_is_not_there_is_named(new_place):
    place, settings = new_place
    prepare(place, None, settings)
    with pytest.raises(StorageProblem, match="has 1 partitions and this log is partition 1; add partitions"):
        prepare(Place(place.servers, place.prefix, 1), None, settings)


def test_what_is_made_keeps_as_long_as_is_asked_and_a_day_more(new_place):
    place, settings = new_place
    prepare(place, 10 * 86_400_000_000, settings)
    resource = ConfigResource(ResourceType.TOPIC, place.decisions)
    admin = admin_of(settings)
    found = admin.describe_configs([resource])[resource].result(10)
    assert found["retention.ms"].value == str(11 * 86_400_000)


def test_where_no_broker_is_that_is_said():
    place = Place("127.0.0.1:9", "nowhere-")
    with pytest.raises(StorageProblem, match=r"topic nowhere-decisions at 127.0.0.1:9, cannot be opened"):
        KafkaLog(place, client_settings(place, {}))


def test_settings_of_the_client_are_named_as_it_names_them():
    given = {
        "SENTINEL_KAFKA_SECURITY_PROTOCOL": "SSL",
        "SENTINEL_KAFKA_PREFIX": "a-",
        "SENTINEL_KAFKA_SASL_USERNAME": " ",
    }
    settings = client_settings(Place("b:1"), given)
    assert (settings["security.protocol"], settings["bootstrap.servers"]) == ("SSL", "b:1")
    assert not {"prefix", "sasl.username"} & settings.keys()


def test_the_headers_of_a_message_name_its_inputs_as_json(new_place):
    with closing(KafkaLog(*new_place)) as log:
        log.write(Kind.DECIDED, 1, 0, b"a", inputs={"transactions-0": 1})
        log.flush()
        (message,) = log._lookup.fetch(0, 1, 1)
        assert json.loads(dict(message.headers())[INPUTS]) == {"transactions-0": 1}


def test_a_log_of_files_is_taken_as_it_is(new_place, tmp_path):
    with closing(FileLog(tmp_path, 0, segment_bytes=1_024)) as files:
        for n in range(30):
            files.write(Kind.DECIDED, 2, n, b"%d" % n * 60, standing=f"name-{n % 3}")
        with closing(KafkaLog(*new_place, log_id=files.log_id)) as log:
            for stored in files.stored(1):
                log.take(stored)
            log.flush()
            assert log.read(1, 1_000) == files.read(1, 1_000)
            assert log.standing() == files.standing()
            write(log, b"more")
            with pytest.raises(LogDamaged, match="does not continue"):
                log.take(next(files.stored(1)))


def test_a_leader_that_is_slow_holds_up_and_loses_nothing(own_kafka):
    place = Place(own_kafka.servers, "slow-")
    with closing(KafkaLog(place, client_settings(place, {}), copies=1)) as log:
        write(log, b"a")
        log.flush()
        own_kafka.signal(signal.SIGSTOP)
        write(log, b"b")
        time.sleep(1.0)
        assert (log.durable, log.fault) == (3, None)
        own_kafka.signal(signal.SIGCONT)
        log.flush()
        assert bodies(log) == [b"a", b"b"]


def test_after_an_unknown_commit_the_log_is_what_the_broker_has(own_kafka):
    """The broker dies in the middle of commits, again and again: what was durable stays, what comes after is once there."""
    place = Place(own_kafka.servers, "unknown-")
    settings = client_settings(place, {})
    log, durable, n = KafkaLog(place, settings, copies=1), [], 0
    for _ in range(2):
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            log.write(Kind.DECIDED, 1, n, b"%d" % n)
            n += 1
            time.sleep(0.001)
        known = log.durable
        own_kafka.kill()
        log.write(Kind.DECIDED, 1, n, b"%d" % n)
        with pytest.raises(StorageProblem):
            log.flush()
        n += 1
        own_kafka.start()
        give_up = time.monotonic() + 120
        while log.fault is not None:
            try:
                log.recover()
            except StorageProblem:
                assert time.monotonic() < give_up
        assert log.durable >= known
        assert [record.body for record in log.read(1, known - 1)][: len(durable)] == durable
        durable = bodies(log)
        assert len(set(durable)) == len(durable)
    log.write(Kind.DECIDED, 1, n, b"last")
    log.flush()
    assert bodies(log) == [*durable, b"last"]
    log.close()
    with closing(KafkaLogReader(place, settings)) as reader:
        assert bodies(reader) == [*durable, b"last"]


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 48 MiB."""
    if (
        os.getuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", _made(tmp_path)]).returncode
    ):
        pytest.skip("only root can mount a small disk")
    yield tmp_path / "small"
    subprocess.run(["umount", "-l", tmp_path / "small"], check=True)


def _made(folder):
    (folder / "small").mkdir()
    return folder / "small"


def test_a_broker_whose_disk_is_full_loses_nothing_and_goes_on_once_there_is_room(own_kafka, small_disk):
    own_kafka.stop()
    own_kafka.move_data(small_disk)
    own_kafka.start()
    place = Place(own_kafka.servers, "full-")
    log, filler, n = KafkaLog(place, client_settings(place, {}), copies=1), small_disk / "filler", 0
    filler.write_bytes(bytes(30 << 20))
    known = []
    while n < 100 and log.fault is None:
        log.write(Kind.DECIDED, 1, n, os.urandom(1 << 20))
        known.append(log.at(n + 1))
        n += 1
        with suppress(StorageProblem):
            log.flush()
    assert log.fault is not None
    durable = log.durable - 1
    own_kafka.kill()
    filler.unlink()
    own_kafka.start()
    give_up = time.monotonic() + 120
    while log.fault is not None:
        try:
            log.recover()
        except StorageProblem:
            assert time.monotonic() < give_up
    assert log.durable - 1 >= durable
    assert log.read(1, 1_000) == known[: log.durable - 1]
    log.write(Kind.DECIDED, 1, n, b"last")
    log.flush()
    log.close()


def test_a_log_is_not_kept_among_decisions_as_json_and_nothing_is_made_beside_them(new_place):
    place, settings = new_place
    make(settings, place.decisions, 2, cleanup_policy="delete", message_timestamp_type="LogAppendTime", retention_ms="-1",
         max_message_bytes=str(16 << 20))  # fmt: skip
    other = Producer(dict(settings))
    other.produce(place.decisions, b'{"transaction_id":"t1","decision":"approve"}', partition=1)
    assert other.flush(60) == 0
    assert_said("holds decisions as JSON", lambda: KafkaLog(place, settings))
    assert place.standing not in admin_of(settings).list_topics(timeout=60).topics


def test_decisions_as_json_are_not_written_to_the_topic_of_a_log(new_place):
    place, settings = new_place
    KafkaLog(place, settings).close()
    with pytest.raises(StorageProblem, match=r"holds the records of a log.*set another SENTINEL_KAFKA_PREFIX"):
        check(Connection(place.servers, place.prefix, settings), (DECISIONS,))
    with pytest.raises(StorageProblem, match="holds the records of a log"):
        check_topics({"bootstrap.servers": place.servers}, place.prefix, ("transactions", "decisions"))


def test_the_size_is_not_known_and_how_far_it_reaches_back_is(new_place):
    with closing(KafkaLog(*new_place)) as log:
        assert log.sizes == (0, 0, 0)
        for n in range(1, 6):
            log.write(Kind.DECIDED, 1, n * 1_000, b"%d" % n)
        log.flush()
        assert log.sizes == (0, 0, 1_000)
        with closing(KafkaLogReader(*new_place)) as reader:
            assert_soon(lambda: reader.sizes == (0, 0, 1_000))
            log.prune(4)
            assert log.sizes == (0, 0, 4_000)
            assert_soon(lambda: reader.sizes == (0, 0, 4_000))
            assert_soon(lambda: (reader.first, reader.pruned_us) == (4, 4_000))


def assert_soon(what):
    until = time.monotonic() + 60
    while not what():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_log_of_files_whose_oldest_entries_are_gone_does_not_move_and_stays_as_it_is(new_place, tmp_path):
    place, settings = new_place
    with closing(FileLog(tmp_path / "log", 0, segment_bytes=1_024)) as files:
        for n in range(30):
            files.write(Kind.DECIDED, 1, n, b"%d" % n * 100)
        files.prune(15)
        first, end = files.first, files.durable
    assert first > 1
    with pytest.raises(
        StorageProblem, match=r"oldest entries .* have left it, so it cannot move to Kafka; begin a fresh"
    ):
        HomeKafkaLog(tmp_path, place, None, 100)
    with closing(FileLog(tmp_path / "log", 0)) as files:
        assert (files.first, files.durable) == (first, end)
    assert place.decisions not in admin_of(settings).list_topics(timeout=60).topics
    assert place_in(tmp_path) is None
