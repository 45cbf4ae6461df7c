"""The projector brings a view to the end of the log, and neither a fault nor a kill makes it lose or repeat a row."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys

import pytest
from child_processes import parent_of, running, wait_until

from sentinel.errors import StorageProblem
from sentinel.record.file_log import FileLog
from sentinel.record.log import Kind
from sentinel.record.problem import problem_of
from sentinel.record.projector import Projector, follow, schemas_of
from sentinel.record.views import DecisionQuery
from sentinel.record.views.place import ViewPlace
from sentinel.record.views.sqlite import FILE, SqliteView, rebuild


@pytest.fixture
def view(tmp_path):
    with contextlib.closing(SqliteView(tmp_path / FILE)) as one:
        yield one


@pytest.fixture
def log(fake_log):
    return fake_log.FakeLog()


def decide(log, made, *ids, schema=None):
    body = made.decided([{"id": name} for name in ids], *([schema] if schema else []))
    log.write(Kind.DECIDED, len(ids), 1, body)


def ids_in(view):
    return [row.transaction_id for row in reversed(view.search(DecisionQuery(limit=500)).rows)]


def test_it_starts_without_what_computes_features_and_scores():
    """Every server has one, and a compiler takes as long to load as all else of it."""
    code = "import sys, sentinel.record.projector as _; print({'numba', 'onnxruntime'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_it_follows_the_log(view, log, made):
    projector = Projector(view, log, lambda: made.SCHEMAS)
    assert not projector.step()
    decide(log, made, "a", "b")
    log.write(Kind.HEARTBEAT, 1, 1, b"")
    assert projector.lag == 3
    assert not projector.step()
    assert projector.lag == 0
    assert ids_in(view) == ["a", "b"]
    assert view.position[:3] == ("fake", log.durable, log.records[-1].chain)


def test_it_goes_on_where_another_one_ended(view, log, made):
    decide(log, made, "a")
    Projector(view, log, lambda: made.SCHEMAS).step()
    decide(log, made, "b")
    Projector(view, log, lambda: made.SCHEMAS).step()
    assert ids_in(view) == ["a", "b"]


def test_one_step_is_bounded(view, log, made):
    for n in range(100):
        decide(log, made, *(f"{n}-{m}" for m in range(50)))
    projector = Projector(view, log, lambda: made.SCHEMAS)
    assert projector.step()
    assert 4_096 <= view.counts().decisions < 4_096 + 50
    assert not projector.step()
    assert view.counts().decisions == 5_000


def test_a_step_that_failed_is_made_again(view, log, made, tmp_path):
    projector = Projector(view, log, lambda: made.SCHEMAS)
    decide(log, made, "a")
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as tool:
        tool.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageProblem, match="locked"):
            projector.step()
        assert projector.lag == 1
    projector.step()
    assert ids_in(view) == ["a"]


def test_two_projectors_share_the_work(view, log, made):
    one, other = (Projector(view, log, lambda: made.SCHEMAS) for _ in range(2))
    decide(log, made, "a")
    one.step()
    decide(log, made, "b")
    assert other.step(), "it has stored nothing, and looks again"
    assert not other.step()
    decide(log, made, "c")
    while one.step():
        pass
    assert ids_in(view) == ["a", "b", "c"]


def test_a_view_of_another_log_is_refused(view, log, made, fake_log):
    decide(log, made, "a")
    Projector(view, log, lambda: made.SCHEMAS).step()
    other = fake_log.FakeLog("other")
    decide(other, made, "a")
    with pytest.raises(StorageProblem, match=r"another log; .*`sentinel views rebuild`"):
        Projector(view, other, lambda: made.SCHEMAS)


def test_a_log_with_another_past_is_refused(view, log, made, fake_log):
    decide(log, made, "a")
    Projector(view, log, lambda: made.SCHEMAS).step()
    restored = fake_log.FakeLog()
    with pytest.raises(StorageProblem, match="position 2 already"):
        Projector(view, restored, lambda: made.SCHEMAS)
    decide(restored, made, "b")
    with pytest.raises(StorageProblem, match="another log"):
        Projector(view, restored, lambda: made.SCHEMAS)


def test_what_the_log_has_pruned_leaves_the_view_too(view, log, made):
    decide(log, made, "a")
    decide(log, made, "b")
    projector = Projector(view, log, lambda: made.SCHEMAS)
    projector.step()
    log.prune(2)
    projector.step()
    assert ids_in(view) == ["b"]
    late = Projector(view, log, lambda: made.SCHEMAS)
    decide(log, made, "c")
    late.step()
    assert ids_in(view) == ["b", "c"]


def test_a_new_view_of_a_pruned_log_begins_with_what_is_kept(view, log, made):
    decide(log, made, "a")
    decide(log, made, "b")
    log.prune(2)
    Projector(view, log, lambda: made.SCHEMAS).step()
    assert ids_in(view) == ["b"]


def test_what_was_pruned_before_the_view_had_it_is_told(view, log, made, caplog):
    decide(log, made, "a")
    Projector(view, log, lambda: made.SCHEMAS).step()
    decide(log, made, "b")
    decide(log, made, "c")
    log.prune(3)
    Projector(view, log, lambda: made.SCHEMAS).step()
    assert ids_in(view) == ["c"]
    assert "positions 2 to 3" in caplog.text


def test_an_unknown_schema_is_told_once(view, log, made, caplog):
    projector = Projector(view, log, lambda: made.SCHEMAS)
    for name in ("a", "b"):
        decide(log, made, name, schema="unknown")
        projector.step()
    assert view.counts().without_keys == 2
    assert caplog.text.count("no model has the schema unknown") == 1


def test_a_schema_that_came_with_a_new_model_is_found(view, log, made):
    schemas = {}
    projector = Projector(view, log, lambda: schemas)
    projector.step()
    schemas |= made.SCHEMAS
    decide(log, made, "a")
    projector.step()
    assert view.counts().without_keys == 0


def test_the_schemas_of_a_home_are_those_of_its_models(shop_home, tmp_path):
    assert [schema.keys for schema in schemas_of(shop_home).values()] == [("card", "shop")]
    (tmp_path / "models" / "v1").mkdir(parents=True)  # a bundle that is being written
    assert schemas_of(tmp_path) == {}


@pytest.fixture
def home(tmp_path):
    with contextlib.closing(FileLog(tmp_path / "log", now_us=1)):
        pass
    return tmp_path


def test_a_view_that_is_damaged_is_told_of_until_it_is_rebuilt(home, made, monkeypatch):
    monkeypatch.setattr("sentinel.record.projector._RETRY_S", 0)
    with contextlib.closing(FileLog(home / "log", now_us=1)) as log:
        decide(log, made, "a")
        wait_until(lambda: log.durable > 1)
    (home / FILE).write_bytes(b"damaged" * 1_000)
    told = []

    def wanted():
        told.append(problem_of(home, "projector"))
        if len(told) == 4:
            rebuild(home / FILE)
        return len(told) < 10

    follow(home, ViewPlace(home), wanted)
    assert told[0] is None
    assert "file is not a database" in told[3]
    assert told[-1] is None
    with contextlib.closing(SqliteView(home / FILE)) as view:
        assert ids_in(view) == ["a"]


def test_a_projector_that_is_killed_again_and_again_neither_loses_nor_repeats_a_row(home, made):
    names = [f"t{n}" for n in range(9_000)]
    with (
        contextlib.closing(FileLog(home / "log", now_us=1)) as log,
        contextlib.closing(SqliteView(home / FILE)) as view,
    ):
        for n in range(0, len(names), 50):
            decide(log, made, *names[n : n + 50])
        wait_until(lambda: log.durable > len(names))
        seen = 0
        while seen < len(names):
            process = projector_process(home)
            wait_until(lambda: view.counts().decisions > seen)  # noqa: B023 - called at once
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            seen = view.counts().decisions
        found, query = [], DecisionQuery(limit=500)
        while query:
            page = view.search(query)
            found += [row.transaction_id for row in page.rows]
            query = page.next and DecisionQuery(limit=500, cursor=page.next)
        assert found == names[::-1]


def test_the_process_ends_with_its_parent(home):
    parent, child = parent_of("sentinel.record.projector", home)
    wait_until(lambda: (home / FILE).exists())
    parent.communicate("")
    wait_until(lambda: not running(child))


def projector_process(home):
    return subprocess.Popen([sys.executable, "-m", "sentinel.record.projector", "--home", str(home)])
