"""The audit: every change has its entry, entries are bounded, and they are read backwards as far as the log is kept."""

import contextlib

import msgspec
import pytest

from sentinel.errors import NotFound
from sentinel.policy.deployment import Deployment
from sentinel.record.applied import HomeDeployment, apply, log_folder
from sentinel.record.audit import LONGEST, SENTINEL, By, Change, append_change, audit_page
from sentinel.record.entries import index_keys
from sentinel.record.file_log import FileLog
from sentinel.record.log import Follower, Kind
from sentinel.record.log_reader import FileLogReader
from sentinel.record.verify import verify
from sentinel.record.views.rows import rows_of

ANN = By("ann", "10.0.0.7", "POST /admin/reload", '{"version": "v2"}')


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def log(home):
    with contextlib.closing(FileLog(log_folder(home), 1, segment_bytes=8_192)) as log:
        yield log


def change(n, text="x"):
    return Change.of(By(f"ann-{n}", "here", "keys create", text), {}, {"n": n}, n)


def whos(page):
    return [one.who for one in page.changes]


def test_a_change_says_who_made_it_from_where_with_what_and_what_came_of_it(log):
    apply(log, lambda deployment: deployment.with_champion("v1"), 5)
    apply(log, lambda deployment: deployment.with_champion("v2"), 6, ANN)
    newest, first = audit_page(log, 10).changes
    assert (newest.who, newest.where, newest.what, newest.asked) == (
        "ann", "10.0.0.7", "POST /admin/reload", '{"version": "v2"}',
    )  # fmt: skip
    assert msgspec.json.decode(newest.before) == {"revision": 1, "champion": "v1", "previous": []}
    assert msgspec.json.decode(newest.after) == {"revision": 2, "champion": "v2", "previous": ["v1"]}
    assert newest.at == "1970-01-01T00:00:00.000006Z"
    assert (first.who, first.what) == (SENTINEL.who, SENTINEL.what)


def test_its_entry_comes_before_the_change(log):
    apply(log, lambda deployment: deployment.with_champion("v1"), 5, ANN)
    assert [one.kind for one in Follower(log, 1).next()] == [Kind.AUDIT, Kind.APPLIED]


def test_a_command_is_made_by_the_user_of_its_process(home):
    HomeDeployment(home).promote("v1")
    (only,) = HomeDeployment(home).audit(5).changes
    assert only.who.startswith("user ")
    assert (only.where, only.what, only.asked) == ("command line", "promote", "v1")


def test_no_card_number_gets_into_it_wherever_it_stands():
    by = By("shop", "10.0.0.7", "POST /admin/ab/abort", '{"reason": "4111 1111 1111 1111"}')
    change = Change.of(by, {"reason": "4111111111111111"}, {"reason": "5555-5555-5555-4444"}, 0)
    assert change.asked == '{"reason": "[card number]"}'
    assert change.before == change.after == '{"reason":"[card number]"}'
    assert "1111" not in Change.of(by, {}, "x" * (LONGEST - 10) + "4111111111111111", 0).after


def test_long_texts_are_cut_and_say_so(log):
    append_change(log, Change.of(By("a", "b", "c", "é" * 100_000), {"x": "y" * 100_000}, [], 1), 1)
    (only,) = audit_page(log, 1).changes
    assert len(only.asked) <= LONGEST + 20
    assert only.asked.endswith(f"({100_000 - LONGEST} more)")
    assert len(only.before) <= LONGEST + 20
    assert len(log.at(1).body) < 8_192


def test_pages_go_back_to_the_first_across_segments_and_a_restart(home, log):
    for n in range(120):
        append_change(log, change(n), log.clock(n))
        log.write(Kind.HEARTBEAT, 1, log.clock(n), bytes(300))
    assert log.sizes.segments > 3
    with contextlib.closing(FileLogReader(log_folder(home))) as other:
        for reader in (log, other):
            page, seen = audit_page(reader, 50), []
            while True:
                seen += whos(page)
                if page.next is None:
                    break
                page = audit_page(reader, 50, page.next)
            assert seen == [f"ann-{n}" for n in reversed(range(120))]
    assert verify(log_folder(home)).findings == []


def test_what_was_pruned_with_its_segment_is_read_no_more(log):
    for n in range(120):
        append_change(log, change(n), log.clock(n))
    log.prune(log.first + 60)
    first = log.first
    assert first > 30
    page = audit_page(log, 500)
    assert whos(page) == [f"ann-{n}" for n in reversed(range(first - 1, 120))]
    assert page.next is None
    with pytest.raises(NotFound):
        audit_page(log, 5, first + 10_000)


@pytest.mark.parametrize("cursor", [1, 2, 999])
def test_a_cursor_that_is_none_is_said(log, cursor):
    log.write(Kind.HEARTBEAT, 2, 1, b"")
    append_change(log, change(1), log.clock(2))
    with pytest.raises(NotFound, match="begin without a cursor"):
        audit_page(log, 5, cursor)


def test_an_empty_log_has_none(log, tmp_path):
    assert audit_page(log, 5).changes == []
    assert HomeDeployment(tmp_path / "nothing").audit(5).changes == []


def test_followers_pass_it_by(log):
    append_change(log, change(1), 1)
    (record,) = Follower(log, 1).next()
    assert len(index_keys(record)) == 0
    rows = rows_of([record], lambda _: None)
    assert (len(rows.decisions), len(rows.outcomes), rows.end) == (0, 0, record.position + 1)


def test_no_field_of_the_deployment_is_left_out(log):
    apply(log, lambda _: msgspec.structs.replace(Deployment(), champion="v1", shadow="v2", fallback_only=True), 1, ANN)
    after = msgspec.json.decode(audit_page(log, 1).changes[0].after)
    assert after == {"revision": 1, "champion": "v1", "shadow": "v2", "fallback_only": True}
