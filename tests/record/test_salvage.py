"""What is damaged is given up and named, and nothing else: everything that is intact is kept, and the log goes on."""

import contextlib
import random
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from sentinel.errors import LogDamaged, StorageProblem
from sentinel.record.file_log import FileLog
from sentinel.record.log import Follower, Kind
from sentinel.record.log_reader import FileLogReader
from sentinel.record.loss import loss_in
from sentinel.record.salvage import Salvage
from sentinel.record.segment import PACKED, SegmentHead, bases_in, encode, head_at, record_at, seed_of, segment_name
from sentinel.record.verify import verify

HOME = Path("/simulated/log")
SEGMENT = 1_024


def opened(disk) -> FileLog:
    return FileLog(HOME, 5, disk, SEGMENT)


def small_log(disk, records: int = 8) -> dict[int, bytes]:
    """Some records of three entries in segments of four, the older ones compressed: body by position."""
    log = opened(disk)
    written = {}
    for n in range(records):
        body = bytes([n]) * 60 + b"x" * 127
        written[log.write(Kind.DECIDED, 3, 10 * n, body)] = body
        if n == records // 2:
            log.upkeep.work()
    log.close()
    return written


def content(disk, base: int) -> bytearray:
    return disk._names[HOME / segment_name(base)].seen


def records_of(disk, base: int) -> list[tuple[int, int, int]]:
    """Of each record of a segment, its head included: where it begins, where its payload ends, and its position."""
    file, found, offset = disk.open(HOME / segment_name(base)), [], 0
    while head := head_at(file, offset):
        found.append((offset, offset + 68 + head.stored, head.position))
        offset += head.size
    return found


def damage_of(disk) -> LogDamaged | None:
    try:
        opened(disk).close()
    except LogDamaged as damage:
        return damage
    return None


def accept_all(disk) -> list:
    """Give up what is named until the log opens."""
    given_up = []
    while (damage := damage_of(disk)) is not None:
        assert len(given_up) < 20
        salvage = Salvage(HOME, damage.position, disk)
        salvage.accept(77)
        given_up.append(salvage.damage)
    return given_up


def entries(log) -> dict[int, bytes]:
    found = {}
    for page in Follower(log, log.first).rest(limit=5):
        for record in page:
            if record.kind == Kind.DECIDED:
                found[record.position] = record.body
    return found


def assert_whole(disk, expected: dict[int, bytes]) -> None:
    with closing(opened(disk)) as log:
        assert entries(log) == expected
        position = log.write(Kind.DECIDED, 1, log.clock(0), b"and on")
        assert position >= max(expected, default=0)
        assert entries(FileLogReader(HOME, disk))[position] == b"and on"
        log.upkeep.work()  # what is mended is compressed, too
    found = verify(HOME, disk)
    assert found.findings == []
    assert entries(opened(disk)) == {**expected, position: b"and on"}


@pytest.mark.parametrize("seed", range(40))
def test_whatever_byte_changes_no_more_than_its_record_is_lost(simulated_disk, seed):
    disk, rng = simulated_disk.SimulatedDisk(seed), random.Random(seed)
    written = small_log(disk, rng.choice((1, 4, 5, 8, 11)))
    bases = bases_in(disk.names(HOME))
    base = rng.choice(bases)
    begin, end, position = rng.choice(records_of(disk, base))
    content(disk, base)[rng.randrange(begin, end)] ^= 1 << rng.randrange(8)
    damage = damage_of(disk)
    assert (damage.segment, damage.position) == (segment_name(base), position)
    assert f"sentinel log accept-loss {position}`" in str(damage)
    salvage = Salvage(HOME, position, disk)
    seen = salvage.damage
    is_head = begin == 0
    assert (seen.segment, seen.begin, seen.end) == (segment_name(base), position, position + 3 * (not is_head))
    assert seen.decided in ({0} if is_head else {0, 3})
    assert seen.decided + seen.unknown <= seen.end - seen.begin
    aside = bytes(content(disk, base)[begin : begin + seen.bytes])
    kept = disk._names[HOME / salvage.accept(77)]
    assert kept.seen == kept.kept == aside
    assert len(aside) >= end - begin - 60  # but for zeros at the end
    assert_whole(disk, {at: body for at, body in written.items() if is_head or at != position})
    (loss,) = verify(HOME, disk).losses
    assert (loss.begin, loss.end, loss.loss.accepted_us) == (position, seen.end, 77)
    assert loss.loss.kept == f"lost-{position:020}.bytes"


@pytest.mark.parametrize("seed", range(40))
def test_several_damages_are_named_and_given_up_one_after_the_other(simulated_disk, seed):
    disk, rng = simulated_disk.SimulatedDisk(seed), random.Random(1_000 + seed)
    written = small_log(disk, 12)
    hit = set()
    for _ in range(rng.randint(2, 6)):
        base = rng.choice(bases_in(disk.names(HOME)))
        begin, end, position = rng.choice(records_of(disk, base))
        if begin == 0:
            continue
        content(disk, base)[rng.randrange(begin + 68, end)] ^= 1 << rng.randrange(8)  # the same bit may flip back
        hit.add(position)
    given_up = accept_all(disk)
    left = {at: body for at, body in written.items() if at not in hit}
    found = entries(opened(disk))
    assert set(found) <= set(written)
    assert {at: body for at, body in found.items() if at in left} == left
    assert len(given_up) <= len(hit)
    assert_whole(disk, found)


@pytest.mark.parametrize("base", [1, 10, 19])
def test_a_segment_that_is_missing_is_lost_and_nothing_behind_it(simulated_disk, base):
    disk = simulated_disk.SimulatedDisk(3)
    written = small_log(disk)
    disk.unlink(HOME / segment_name(base))
    (seen,) = accept_all(disk)
    assert seen.begin == base
    assert_whole(disk, {at: body for at, body in written.items() if not base <= at < seen.end})


def test_what_stands_is_found_though_the_head_is_damaged_that_repeats_it(simulated_disk):
    disk = simulated_disk.SimulatedDisk(3)
    log = opened(disk)
    log.write(Kind.APPLIED, 1, 0, b"models", standing="applied")
    log.close()
    small_log(disk)
    standing = opened(disk).standing()
    newest = max(bases_in(disk.names(HOME)))
    content(disk, newest)[80] ^= 1
    (seen,) = accept_all(disk)
    assert (seen.begin, seen.end) == (newest, newest)
    assert opened(disk).standing() == standing == FileLogReader(HOME, disk).standing()
    assert standing["applied"].body == b"models"


def test_two_segments_side_by_side_are_given_up_in_turn(simulated_disk):
    disk = simulated_disk.SimulatedDisk(3)
    written = small_log(disk, 16)
    for base in (10, 19):
        disk.unlink(HOME / segment_name(base))
    accept_all(disk)
    assert_whole(disk, {at: body for at, body in written.items() if not 10 <= at < 28})


def test_the_two_oldest_segments_are_given_up_in_turn(simulated_disk):
    disk = simulated_disk.SimulatedDisk(3)
    written = small_log(disk, 16)
    for base in (1, 10):
        disk.unlink(HOME / segment_name(base))
    accept_all(disk)
    assert_whole(disk, {at: body for at, body in written.items() if at >= 19})


def test_a_segment_of_another_log_is_set_aside_whole(simulated_disk):
    disk, other = simulated_disk.SimulatedDisk(3), simulated_disk.SimulatedDisk(4)
    written = small_log(disk)
    small_log(other)
    content(disk, 10)[:] = strange = bytes(content(other, 10))
    (seen,) = accept_all(disk)
    assert disk._names[HOME / f"lost-{10:020}.bytes"].seen == strange
    assert (seen.decided, seen.unknown) == (0, 9)
    assert_whole(disk, {at: body for at, body in written.items() if not 10 <= at < 19})


def test_entries_that_were_cut_off_keep_their_positions(simulated_disk):
    disk = simulated_disk.SimulatedDisk(3)
    written = small_log(disk)
    begin, _, position = records_of(disk, 19)[-1]
    del content(disk, 19)[begin:]
    (seen,) = accept_all(disk)
    assert (seen.begin, seen.end, seen.before_us, seen.bytes) == (position, 25, None, 0)
    with closing(opened(disk)) as log:
        assert log.durable == 25, "what else refers to these positions must not meet other entries there"
    assert_whole(disk, {at: body for at, body in written.items() if at != position})


def test_a_record_that_was_rewritten_with_a_right_checksum_is_found_by_the_chain(simulated_disk):
    disk = simulated_disk.SimulatedDisk(3)
    written = small_log(disk)
    log_id = opened(disk).log_id
    begin, _, position = records_of(disk, 19)[1]
    found = record_at(disk.open(HOME / segment_name(19)), begin, seed_of(log_id))
    forged, _ = encode(
        found.record._replace(body=found.record.body[::-1]), found.standing, found.durable, seed_of(log_id)
    )
    content(disk, 19)[begin : begin + len(forged)] = forged
    (seen,) = accept_all(disk)
    assert (seen.begin, seen.end) == (position, position + 3)
    assert_whole(disk, {at: body for at, body in written.items() if at != position})


@pytest.mark.parametrize("base", [10, 19])
def test_a_head_that_names_another_chain_is_a_place_where_the_chain_breaks(simulated_disk, base):
    disk = simulated_disk.SimulatedDisk(3)
    written = small_log(disk)
    seed = seed_of(opened(disk).log_id)
    head = record_at(disk.open(HOME / segment_name(base)), 0, seed)
    named = msgspec.msgpack.decode(head.record.body, type=SegmentHead)
    other = msgspec.structs.replace(named, previous=b"\1" * 16)
    forged, _ = encode(
        head.record._replace(body=msgspec.msgpack.encode(other), chain=b"\1" * 16), "", head.durable, seed
    )
    content(disk, base)[: len(forged)] = forged
    given_up = accept_all(disk)
    assert [(one.begin, one.end) for one in given_up] in ([(base, base), (base, base + 3)], [(base, base + 3)])
    accept = [found.position for found in verify(HOME, disk).findings]
    for position in accept:
        Salvage(HOME, position, disk).accept(77)
    assert_whole(disk, {at: body for at, body in written.items() if at != base})


def test_nothing_is_given_up_where_nothing_is_damaged(simulated_disk):
    disk = simulated_disk.SimulatedDisk(3)
    small_log(disk)
    content(disk, 10)[300] ^= 1
    before = {path: bytes(inode.seen) for path, inode in disk._names.items()}
    for position in (1, 4, 19, 25, 99):
        with pytest.raises(StorageProblem, match="nothing is damaged at position"):
            Salvage(HOME, position, disk)
    assert before == {path: bytes(inode.seen) for path, inode in disk._names.items()}


@pytest.mark.parametrize("seed", range(30))
def test_a_loss_that_is_interrupted_is_accepted_or_not(simulated_disk, seed):
    disk = simulated_disk.SimulatedDisk(seed)
    written = small_log(disk)
    base, position = [(10, 13), (19, 19), (1, 4)][seed % 3]
    begin = next(begin for begin, _, at in records_of(disk, base)[1:] if at == position)
    disk.sync_folder(HOME)
    for inode in disk._names.values():
        disk.sync(inode)
    content(disk, base)[begin + 70] ^= 4
    disk._names[HOME / segment_name(base)].kept[:] = content(disk, base)
    disk.stop_after = 1 + seed // 3
    with contextlib.suppress(simulated_disk.PowerCut):
        Salvage(HOME, position, disk).accept(77)
    disk.stop_after = None
    disk.cut_power()
    accept_all(disk)
    assert_whole(disk, {at: body for at, body in written.items() if at != position})


def test_the_loss_is_an_entry_for_all_who_read_the_log(simulated_disk):
    disk = simulated_disk.SimulatedDisk(3)
    small_log(disk)
    content(disk, 10)[records_of(disk, 10)[2][0] + 70] ^= 1
    accept_all(disk)
    log = opened(disk)
    for position in (13, 14, 15):
        record = log.at(position)
        assert (record.kind, record.position, record.rows) == (Kind.LOSS, 13, 3)
        assert loss_in(record).loss.decided == 3
    assert log.at(16).kind == Kind.DECIDED
    assert content(disk, 1)[:4] == PACKED
