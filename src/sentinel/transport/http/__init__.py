"""The HTTP API and its fast lane."""
