"""Retention of an archive: segments leave it once everything in them is older than it is to be kept."""

from itertools import pairwise

from sentinel.objects.store import ObjectStore
from sentinel.record.archive.catalog import catalog_name, read_catalog
from sentinel.record.segment import Image, bases_in, head_at, segment_name

_HEAD_BYTES = 256


def forget_old(store: ObjectStore, log_id: str, before_us: int) -> int:
    """Delete the oldest segments of which every entry was received before this moment; how many.

    What a restore of the log as it is would need stays. Raises StorageProblem.
    """
    needed = read_catalog(store.get(catalog_name(log_id)), store.at, log_id).first
    bases = bases_in(one.name.rpartition("/")[2] for one in store.found(log_id))
    deleted = 0
    for base, until in pairwise(bases):
        if until > needed or _newest_us(store, log_id, until) >= before_us:
            break
        store.delete([f"{log_id}/{segment_name(base)}"])
        deleted += 1
    return deleted


def _newest_us(store: ObjectStore, log_id: str, base: int) -> int:
    """When the newest entry before a segment was received: the segment's head says so."""
    head = head_at(Image(store.beginning(f"{log_id}/{segment_name(base)}", _HEAD_BYTES)), 0)
    return head.received_us if head is not None else 1 << 62
