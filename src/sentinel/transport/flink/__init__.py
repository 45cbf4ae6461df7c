"""A detector as a job of Apache Flink: topics in, decisions out, the profile of every key in checkpointed state."""
