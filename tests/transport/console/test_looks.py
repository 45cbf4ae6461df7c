"""Looks have a rate: people are told and wait, others do not, and the audit has it."""

import pytest

from sentinel.commands.demo_console import ConsoleProcess
from sentinel.commands.people import people_of
from sentinel.commands.server_process import free_port
from sentinel.config import read_settings
from sentinel.transport.console.looks import Looks
from tests.transport.console.conftest import BY, HOST, PASSWORD, Caller


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    """A console without a server, where one may look three times a minute."""
    home = tmp_path_factory.mktemp("strict") / "home"
    home.mkdir()
    own = {"SENTINEL_SERVER_URL": f"http://{HOST}:9", "SENTINEL_CONSOLE_URL": "", "SENTINEL_LOOKS_PER_MINUTE": "3"}
    made = ConsoleProcess(home, HOST, free_port(HOST), environment=own)
    people = people_of(read_settings({"home": home}, {}))
    for name in ("ana", "ben"):
        people.add(name, "analyst", PASSWORD, BY, 1, must_change=False)
    made.start()
    yield made, people
    made.stop()
    people.database.close()


def test_who_looks_at_more_than_anybody_reads_is_told_and_waits(strict):
    console, people = strict
    ana, ben = (Caller(f"http://{HOST}:{console.port}") for _ in range(2))
    ana.log_in("ana")
    ben.log_in("ben")
    statuses = [
        ana.ask(path)[0] for path in ("/decisions/t-1", "/decisions/t-2", "/again/t-1", "/search", "/decisions/t-3")
    ]
    assert 429 not in statuses[:3]
    assert statuses[3:] == [429, 429]
    body = ana.ask("/search.csv")[2]
    assert "more than 3 receipts and searches" in body
    assert "go on in" in body
    assert ana.ask("/password")[0] == 200  # all else goes on
    assert ben.ask("/decisions/t-1")[0] != 429
    slowed = [change for _, change in people.not_audited() if change.what == "console: look at too much"]
    assert [(one.who, one.after) for one in slowed] == [("ana", "slowed")]  # once a minute


def test_what_shows_payments_or_who_is_on_a_list_is_a_look_wherever_it_stands(strict):
    console, people = strict
    people.add("eve", "analyst", PASSWORD, BY, 1, must_change=False)
    eve = Caller(f"http://{HOST}:{console.port}")
    eve.log_in("eve")
    eve.ask("/rules/edit?payment=t-1")
    eve.ask("/rules/rule?name=large")
    eve.ask("/lists/deny_cards/look-up", {"value": "c-1"}, {"x-csrf-token": eve.csrf()})
    assert eve.ask("/rules/edit?payment=t-2")[0] == 429
    assert eve.ask("/lists/deny_cards/look-up", {"value": "c-2"}, {"x-csrf-token": eve.csrf()})[0] == 429


def test_the_wait_ends_as_the_oldest_look_is_a_minute_old():
    looks = Looks(most=3)
    assert [looks.wait_s("ana", now_s) for now_s in (0.0, 1.0, 2.0, 30.0, 59.5, 60.0, 60.5, 61.0)] == [
        0,
        0,
        0,
        31,
        1,
        0,
        1,
        0,
    ]
    assert [looks.is_news("ana", now_s) for now_s in (30.0, 59.5, 90.0)] == [True, False, True]
