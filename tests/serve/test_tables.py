"""Rows of tables in the engine: looked up once, before anything else, and never ahead of the log."""

import http.client
import json
import shutil
from contextlib import closing

import pytest

from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.errors import StorageProblem, UnknownVersion
from sentinel.events.reference_tables.versions import Row
from sentinel.model.bundle import load_bundle
from sentinel.policy.deployment import Deployment
from sentinel.record.applied import apply
from sentinel.record.audit import SENTINEL, Change
from sentinel.record.entries import TableRows
from sentinel.record.feature_state import check_reads
from sentinel.record.log import Kind
from sentinel.review.shadow_scores import ShadowScores
from sentinel.serve.lineup import Contender, Lineup
from sentinel.shadow.scoring import Shadow
from sentinel.shadow.settings import ShadowSettings


@pytest.fixture(scope="module")
def lineup(table_shop_home):
    return Lineup(1, Contender(load_bundle(table_shop_home / "models" / "v1")))


@pytest.fixture
def log(fake_log):
    return fake_log.FakeLog()


@pytest.fixture
def home(home_of, lineup, log):
    home = home_of(lineup, log=log)
    home.open()
    return home


def tell(home, limit, card="card-1", valid_from_us=0):
    values = b'{"limit":%d.0}' % limit if limit is not None else b""
    entry = TableRows.of("cards", "exact", [Row(card, valid_from_us, values)], "feed")
    return home.engine.tell(entry, home.now_us, Change.of(SENTINEL, {}, {}, home.now_us))


def limit_of(home, i):
    (row,) = [row for row in home.decisions() if row.transaction_id == f"t{i}"]
    return json.loads(row.content)["cards_limit"]


def known(home):
    return home.engine.tables.tables.of("cards", "exact").values_at("card-1", home.now_us)


def test_rows_are_recorded_after_the_audit_and_found_from_then_on(home):
    home.handle([home.payment(0, card="card-1")])
    record = tell(home, 5)
    home.handle([home.payment(1, card="card-1"), home.payment(2, card="card-2")])
    assert [limit_of(home, i) for i in range(3)] == [None, 5.0, None]
    kinds = [one.kind for one in home.records() if one.kind != Kind.HEARTBEAT][-5:]
    assert kinds == [Kind.DECIDED, Kind.AUDIT, Kind.ACTIVATION, Kind.TABLE, Kind.DECIDED]
    assert home.log.at(record.position).kind == Kind.TABLE
    home.assert_states_are_those_of_a_replay()


def test_what_was_found_stays_whatever_the_table_says_later(home):
    tell(home, 5)
    first = home.handle([home.payment(1, card="card-1")])
    tell(home, 6)
    (again, new) = home.handle([home.payment(1, card="card-1"), home.payment(3, card="card-1")])
    assert (again.replayed, again.fraud_probability) == (True, first[0].fraud_probability)
    assert (limit_of(home, 1), limit_of(home, 3)) == (5.0, 6.0)
    assert not new.replayed
    (same, twin) = home.handle([home.payment(9, card="card-1")] * 2)
    assert (same.replayed, twin.replayed) == (False, True)
    home.assert_states_are_those_of_a_replay()


def test_rows_that_the_log_refuses_are_not_known_after_the_recovery(home, log):
    tell(home, 5)
    log.fence()
    with pytest.raises(StorageProblem):
        tell(home, 6)
    assert home.engine.is_ahead
    home.recover()
    assert known(home) == b'{"limit":5.0}'
    tell(home, 7)
    home.handle([home.payment(1, card="card-1")])
    assert limit_of(home, 1) == 7.0


def test_rows_that_never_became_durable_are_gone_with_what_found_them(home_of, lineup, fake_log):
    log = fake_log.FakeLog(delayed=True)
    home = home_of(lineup, log=log)
    home.open()
    log.advance(99)
    tell(home, 5)
    log.advance(99)
    tell(home, 6)
    home.answered([home.payment(1, card="card-1")])
    assert known(home) == b'{"limit":6.0}'
    home.recover()
    assert known(home) == b'{"limit":5.0}'
    home.answered([home.payment(1, card="card-1")])
    log.advance(99)
    assert limit_of(home, 1) == 5.0


def test_a_row_is_found_as_of_the_time_of_the_transaction_or_of_the_decision(home):
    paid_us = home.payment(1).event_time
    tell(home, 1, valid_from_us=paid_us)
    tell(home, 2, valid_from_us=paid_us + 1)
    home.handle([home.payment(1, card="card-1"), home.payment(0, card="card-1")])
    assert (limit_of(home, 1), limit_of(home, 0)) == (1.0, None)


def test_a_champion_that_declares_tables_follows_one_that_did_not_and_not_the_other_way(
    home_of, lineup, fake_log, shop_home
):
    before = Lineup(1, Contender(load_bundle(shop_home / "models" / "v1")))
    home = home_of(before, log=fake_log.FakeLog())
    home.open()
    home.pay(range(5))
    check_reads(home.log, lineup.champion.bundle.manifest)
    home.engine.switch(lineup, home.engine.prepare(lineup), home.now_us)
    home.lineup = lineup
    tell(home, 5)
    home.handle([home.payment(50, card="card-1")])
    assert limit_of(home, 50) == 5.0
    home.assert_states_are_those_of_a_replay()
    with pytest.raises(UnknownVersion, match="its schema is another one"):
        check_reads(home.log, before.champion.bundle.manifest)


def test_a_shadow_finds_in_the_log_what_the_champion_found_in_the_table(home_of, lineup, table_shop_home):
    home = home_of(lineup)
    shutil.copytree(table_shop_home / "models", home.folder / "models")
    home.open()
    apply(home.log, lambda _nothing: Deployment().with_champion("v1"), home.now_us)
    with closing(Shadow(home.folder, "v1", ShadowSettings())) as shadow:
        tell(home, 5)
        home.pay(range(30))
        tell(home, 6)
        tell(home, None)
        home.pay(range(30, 60))
        while shadow.step():
            pass
    with closing(ShadowScores(home.folder / "shadow.db")) as scores:
        found = {row.transaction_id: row.fraud_probability for row in scores.page_before("v1", None)}
    assert found == {row.transaction_id: row.fraud_probability for row in home.decisions()}
    assert len(found) == 60
    assert {limit_of(home, i) for i in (1, 24, 47)} == {5.0, None}


def test_one_process_of_several_knows_no_tables(table_shop_home, tmp_path):
    """They score vectors only, which carry their own features."""
    home = tmp_path / "home"
    shutil.copytree(table_shop_home, home)
    server = ServerProcess(home, "127.0.0.1", free_port("127.0.0.1"), environment={"SENTINEL_WORKERS": "2"})
    try:
        server.start()
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)) as connection:
            connection.request("POST", "/v1/tables/cards", b'{"card": "c"}', {"content-type": "application/json"})
            assert connection.getresponse().status == 404
    finally:
        server.stop()
