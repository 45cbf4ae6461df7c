"""Telemetry: counters, logs and traces of a running server."""
