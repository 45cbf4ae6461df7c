"""Simulated payments with named fraud patterns."""
