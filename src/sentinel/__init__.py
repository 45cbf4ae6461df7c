"""Sentinel decides, in the moment of a transaction, whether to approve, review or block it."""

__version__ = "0.1.0"
