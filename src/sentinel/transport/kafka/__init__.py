"""Kafka as a way in and out: transactions, outcomes and events are read from topics, decisions are written to one."""
