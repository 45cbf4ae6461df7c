"""The table of ids: all numbers of a hash are found, and nobody who chooses ids can make it slow."""

import numpy as np

from sentinel.record.id_table import IdTable


def test_ids_whose_hashes_begin_and_end_alike_do_not_lie_in_one_long_run():
    hashes = (np.arange(1, 60_001, dtype=np.uint64) << np.uint64(20)) | np.uint64(0xABC0_0000_0000_0001)
    table = IdTable(1 << 17)
    table.put(hashes, np.arange(60_000))
    assert table.numbers_of(hashes[[0, 59_999]]) == [0, 59_999]
    free = np.flatnonzero(table.hashes == 0)
    assert np.diff(free).max() < 300


def test_two_tables_do_not_place_alike():
    hashes = np.arange(1, 1_001, dtype=np.uint64)
    tables = [IdTable(4096), IdTable(4096)]
    for table in tables:
        table.put(hashes, np.arange(1000))
    assert (tables[0].hashes != tables[1].hashes).any()
    assert tables[0].numbers_of(hashes) == list(range(1000)) == tables[1].numbers_of(hashes)
