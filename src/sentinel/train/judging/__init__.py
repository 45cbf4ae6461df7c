"""Judging: whether a model may do its work, and what speaks against it."""
