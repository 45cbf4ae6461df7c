"""The ways in and out: HTTP, for now."""
