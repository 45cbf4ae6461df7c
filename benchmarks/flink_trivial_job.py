"""What a job of Flink costs that does next to nothing: one key, a counter and a sum in its state. Run by flink_job.py.

It reads the same description on standard input, and nothing of Sentinel.
"""

import json
import os
import struct
import sys
import sysconfig
from collections.abc import Iterator

os.environ["PYTHONPATH"] = sysconfig.get_paths()["purelib"]

from pyflink.common import Configuration, SimpleStringSchema, Types, WatermarkStrategy
from pyflink.datastream import CheckpointingMode, KeyedProcessFunction, RuntimeContext, StreamExecutionEnvironment
from pyflink.datastream.connectors.base import DeliveryGuarantee
from pyflink.datastream.connectors.kafka import (
    KafkaOffsetsInitializer,
    KafkaRecordSerializationSchema,
    KafkaSink,
    KafkaSource,
)
from pyflink.datastream.state import ValueStateDescriptor

STATE = "<qd"


class Count(KeyedProcessFunction):  # type: ignore[misc] # PyFlink lives in an environment of its own
    """Counts and adds up."""

    def open(self, runtime_context: RuntimeContext) -> None:
        self.state = runtime_context.get_state(ValueStateDescriptor("state", Types.PICKLED_BYTE_ARRAY()))

    def process_element(self, value: str, ctx: KeyedProcessFunction.Context) -> Iterator[str]:  # noqa: ARG002
        row = json.loads(value)
        before = self.state.value()
        n, total = (0, 0.0) if before is None else struct.unpack(STATE, before)
        self.state.update(struct.pack(STATE, n + 1, total + row["amount"]))
        yield json.dumps({"id": row["transaction_id"], "n": n + 1, "total": total + row["amount"]})


def main() -> None:
    spec = json.load(sys.stdin)
    given = Configuration()
    for name, value in {
        "python.execution-mode": "thread", "python.executable": sys.executable,
        "python.client.executable": sys.executable, **spec["flink"],
    }.items():  # fmt: skip
        given.set_string(name, value)
    env = StreamExecutionEnvironment.get_execution_environment(given)
    env.set_parallelism(spec["parallelism"])
    env.add_jars(*(f"file://{jar}" for jar in spec["jars"]))
    env.enable_checkpointing(spec["checkpoint_ms"], CheckpointingMode.EXACTLY_ONCE)
    source = (
        KafkaSource.builder()
        .set_properties(spec["kafka"])
        .set_topics(spec["prefix"] + "transactions")
        .set_group_id(spec["prefix"] + "trivial")
        .set_starting_offsets(KafkaOffsetsInitializer.earliest())
        .set_value_only_deserializer(SimpleStringSchema())
        .build()
    )
    written = (
        KafkaRecordSerializationSchema.builder()
        .set_topic(spec["prefix"] + "trivial")
        .set_value_serialization_schema(SimpleStringSchema())
        .build()
    )
    sink = (
        KafkaSink.builder()
        .set_bootstrap_servers(spec["kafka"]["bootstrap.servers"])
        .set_delivery_guarantee(DeliveryGuarantee.EXACTLY_ONCE)
        .set_transactional_id_prefix(spec["prefix"] + "trivial")
        .set_property("transaction.timeout.ms", "60000")
        .set_record_serializer(written)
        .build()
    )
    events = env.from_source(source, WatermarkStrategy.no_watermarks(), "transactions")
    keyed = events.key_by(lambda value: json.loads(value)["card"], key_type=Types.STRING())
    keyed.process(Count(), output_type=Types.STRING()).sink_to(sink)
    env.execute("trivial")


if __name__ == "__main__":
    main()
