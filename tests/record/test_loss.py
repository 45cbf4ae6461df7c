"""What is derived from a log goes on behind a loss: ids, snapshots and views, each with what it has."""

from contextlib import closing
from types import SimpleNamespace

import pytest

from sentinel.events.columns import hash_texts
from sentinel.record.disk import RealDisk
from sentinel.record.entries import decided_in
from sentinel.record.feature_state import origin_of
from sentinel.record.file_log import FileLog
from sentinel.record.ids import IdIndex
from sentinel.record.journal import Journal
from sentinel.record.log import Kind
from sentinel.record.projector import Projector
from sentinel.record.salvage import Salvage
from sentinel.record.segment import segment_name
from sentinel.record.views import DecisionQuery
from sentinel.record.views.sqlite import FILE, SqliteView


@pytest.fixture
def damaged(tmp_path, made):
    """Three batches of two decisions, of which the second is damaged; what was derived before that, by end position."""

    def derive(log):
        with closing(SqliteView(tmp_path / f"{log.durable}-{FILE}")) as view:
            while Projector(view, log, lambda: made.SCHEMAS).step():
                pass
        chains[log.durable] = log.at(log.durable - 1).chain.hex()

    chains: dict[int, str] = {}
    with closing(FileLog(tmp_path / "log", 1)) as log:
        for names in (("a", "b"), ("c", "d"), ("e", "f")):
            journal = Journal(log, IdIndex(tmp_path / "ids", log, generation=2))
            body = decided_in(made.decided_record(1, [{"id": name} for name in names]))
            journal.append_decided(body, hash_texts(names), 5)
            derive(log)
            journal.close()
        ids = IdIndex(tmp_path / "ids", log, generation=2)
        ids.tidy()
        ids.close()
    segment = tmp_path / "log" / segment_name(1)
    data = bytearray(segment.read_bytes())
    data[data.index(b'"transaction_id": "c"')] ^= 1
    segment.write_bytes(data)
    return SimpleNamespace(folder=tmp_path, chains=chains, schemas=made.SCHEMAS)


@pytest.fixture
def log(damaged):
    Salvage(damaged.folder / "log", 3, RealDisk()).accept(9)
    with closing(FileLog(damaged.folder / "log", 1)) as log:
        yield log


def test_what_is_lost_is_not_found_though_an_index_of_before_has_its_id(damaged, log):
    assert list((damaged.folder / "ids").glob("*.ids"))
    journal = Journal(log, IdIndex(damaged.folder / "ids", log, generation=2))
    names = list("abcdef")
    assert sorted(journal.find(names, hash_texts(names))) == ["a", "b", "e", "f"]
    assert journal.position_of("c", hash_texts(["c"])[0]) is None
    assert journal.outcomes_of("c", hash_texts(["c"])[0]) == []
    journal.close()


@pytest.mark.parametrize(("end", "kept"), [(3, "abef"), (5, "abcdef"), (7, "abcdef")])
def test_a_view_goes_on_wherever_it_was(damaged, log, end, kept):
    with closing(SqliteView(damaged.folder / f"{end}-{FILE}")) as view:
        projector = Projector(view, log, lambda: damaged.schemas)
        while projector.step():
            pass
        assert view.position.position == log.durable == 7
        names = [row.transaction_id for row in view.search(DecisionQuery()).rows]
        assert "".join(sorted(names)) == kept
        Projector(view, log, lambda: damaged.schemas)  # it is of this log, still


@pytest.mark.parametrize("end", [3, 4, 5, 7])
def test_a_snapshot_is_used_wherever_it_is(damaged, log, end):
    manifest = SimpleNamespace(plan_sha256="plan")
    born = f"plan {log.log_id} {damaged.chains.get(end, 'of the lost record')}"
    assert origin_of(log, manifest).is_of(end, born)
    assert not origin_of(log, manifest).is_of(end, born.replace(log.log_id, "another"))
    assert origin_of(log, manifest).is_of(7, f"plan {log.log_id} strange") is False


def test_a_reader_sees_the_loss_in_its_place(log):
    assert [(one.position, one.kind, one.rows) for one in log.read(1, 99)] == [
        (1, Kind.DECIDED, 2), (3, Kind.LOSS, 2), (5, Kind.DECIDED, 2),
    ]  # fmt: skip
    assert log.read(4, 1)[0].position == 3
