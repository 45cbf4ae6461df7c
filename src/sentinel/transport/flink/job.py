"""The job itself: from the topics through one keyed operator per key to the topics, exactly once."""

import sys
from pathlib import Path
from typing import Any

from py4j.java_gateway import get_java_class
from pyflink.common import Configuration, Duration, Types, WatermarkStrategy
from pyflink.datastream import CheckpointingMode, StreamExecutionEnvironment
from pyflink.datastream.connectors.kafka import KafkaOffsetsInitializer, KafkaSource
from pyflink.java_gateway import get_gateway
from pyflink.table import DataTypes, Schema, StreamTableEnvironment, TableDescriptor
from pyflink.util.java_utils import to_jarray

from sentinel.features.store import MemoryStore
from sentinel.transport.flink.job_spec import JobSpec
from sentinel.transport.flink.operators import (
    BYTES,
    DEAD_LETTERS,
    KEYED,
    WRITTEN,
    Decide,
    KeyOf,
    Know,
    Once,
    Read,
    bundle_at,
)

_EVENT = Types.PICKLED_BYTE_ARRAY()
_DEAD_LETTERS = (
    "SELECT f0, f1, MAP[CAST('reason' AS STRING), ENCODE(f2, 'UTF-8'), CAST('topic' AS STRING), ENCODE(f3, 'UTF-8')] "
    "FROM dead_letters"
)
"""As `sentinel consume` writes them, but that nobody knows where in its topic a message stood."""

_IDLE_S = 5  # a partition without events holds up no timer for longer


def run(spec: JobSpec) -> None:
    """Run the job until it is cancelled or fails."""
    env = _environment(spec)
    env.set_parallelism(spec.parallelism)
    env.add_jars(*(Path(jar).absolute().as_uri() for jar in spec.jars))
    env.enable_checkpointing(spec.checkpoint_ms, CheckpointingMode.EXACTLY_ONCE)
    tables = StreamTableEnvironment.create(env)
    decisions, dead = _flow(env, spec)
    tables.create_temporary_view("dead_letters", tables.from_data_stream(dead, _texts("f0", "f1", "f2", "f3").build()))
    writes = tables.create_statement_set()
    decided = tables.from_data_stream(decisions, _texts("f0", "f1").build())
    writes.add_insert(_topic(spec, "decisions", _texts("key", "value")).build(), decided)
    letters = _texts("key", "value").column_by_metadata("headers", DataTypes.MAP(DataTypes.STRING(), DataTypes.BYTES()))
    as_they_came = _topic(spec, "dead-letters", letters).option("value.raw.charset", BYTES)
    writes.add_insert(as_they_came.build(), tables.sql_query(_DEAD_LETTERS))
    writes.attach_as_datastream()
    env.execute(spec.name)


def _environment(spec: JobSpec) -> Any:
    """Where the job runs."""
    settings = _configuration(spec)
    if spec.cluster is None:
        return StreamExecutionEnvironment.get_execution_environment(settings)
    jvm, (host, port) = get_gateway().jvm, spec.cluster
    remote = jvm.org.apache.flink.streaming.api.environment.RemoteStreamEnvironment
    no_jars = to_jarray(jvm.String, [])  # they come with the settings, as for a cluster within the process
    return StreamExecutionEnvironment(remote(host, port, settings._j_configuration, no_jars, None))  # noqa: SLF001


def _flow(env: Any, spec: JobSpec) -> tuple[Any, Any]:
    """The decisions and the dead letters of all topics."""
    plan = bundle_at(spec.bundle).manifest.plan
    store = MemoryStore(plan)
    topics = ["transactions"]
    if any(group.labelled for group in store.compiled.groups):
        topics.append("outcomes")
    read = [_source(env, spec, topic) for topic in topics]
    dead = [one.get_side_output(DEAD_LETTERS) for one in read]
    events = read[0].union(*read[1:]) if len(read) > 1 else read[0]
    once = events.key_by(lambda event: event[0], key_type=Types.STRING()).process(Once(spec), output_type=_EVENT)
    once = once.name("once").uid("once")
    dead.append(once.get_side_output(DEAD_LETTERS))
    events = once
    for by in store.groups:
        column = int(store.compiled.groups[store.groups.index(by)].key)
        events = (
            events.key_by(KeyOf(spec, column), key_type=Types.LONG())
            .process(Know(spec, by), output_type=_EVENT)
            .name(by).uid(f"know {by}")
        )  # fmt: skip
    decisions = events.process(Decide(spec), output_type=KEYED).name("decide").uid("decide")
    written = once.get_side_output(WRITTEN).process(Decide(spec), output_type=KEYED).name("write").uid("write")
    return decisions.union(written), dead[0].union(*dead[1:])


def _source(env: Any, spec: JobSpec, topic: str) -> Any:
    """The events of a topic, from where the job stood, or from its beginning."""
    builder = (
        KafkaSource.builder()
        .set_properties(spec.kafka)
        .set_topics(f"{spec.prefix}{topic}")
        .set_group_id(f"{spec.prefix}{spec.name}")
        .set_starting_offsets(KafkaOffsetsInitializer.earliest())
        .set_property("isolation.level", "read_committed")
    )
    builder._j_builder.setDeserializer(_values())  # noqa: SLF001 - PyFlink has none that takes a record without a value
    stamped = WatermarkStrategy.for_monotonous_timestamps().with_idleness(Duration.of_seconds(_IDLE_S))
    stream = env.from_source(builder.build(), stamped, topic, Types.STRING()).uid(f"from {topic}")
    return stream.process(Read(spec, topic), output_type=_EVENT).name(f"read {topic}").uid(f"read {topic}")


def _values() -> Any:
    """Values as texts in which every byte is a character, None for a record without a value."""
    jvm = get_gateway().jvm
    kafka = jvm.org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema
    strings = get_java_class(jvm.org.apache.kafka.common.serialization.StringDeserializer)
    return kafka.valueOnly(strings, {"deserializer.encoding": BYTES})


def _texts(*names: str) -> Any:
    """The schema of rows of texts."""
    builder = Schema.new_builder()
    for name in names:
        builder = builder.column(name, DataTypes.STRING())
    return builder


def _topic(spec: JobSpec, topic: str, schema: Any) -> Any:
    """A topic that rows with a key and a value are written to, each once; what it is made of."""
    made = (
        TableDescriptor.for_connector("kafka")
        .schema(schema.build())
        .option("topic", f"{spec.prefix}{topic}")
        .option("key.format", "raw").option("key.fields", "key")
        .option("value.format", "raw").option("value.fields-include", "EXCEPT_KEY")
        .option("sink.delivery-guarantee", "exactly-once")
        .option("sink.transactional-id-prefix", f"{spec.prefix}{spec.name}-{topic}")
    )  # fmt: skip
    for name, value in spec.kafka.items():
        made = made.option(f"properties.{name}", value)
    return made.option("properties.transaction.timeout.ms", str(max(60_000, 10 * spec.checkpoint_ms)))


def _configuration(spec: JobSpec) -> Configuration:
    given = Configuration()
    settings = {
        "python.execution-mode": "thread",
        "python.executable": sys.executable,
        "python.client.executable": sys.executable,
        "pipeline.object-reuse": "true",  # nothing that goes from operator to operator is changed
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        **spec.flink,
    }
    if spec.restore is not None:
        settings["execution.state-recovery.path"] = spec.restore
    for name, value in settings.items():
        given.set_string(name, value)
    return given
