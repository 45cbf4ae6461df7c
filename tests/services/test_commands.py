"""`python -m services`: what it prints for people and machines, and that it asks before it deletes."""

import argparse
import io
import json

import pytest
from page_server import page_server

from services.__main__ import _run


@pytest.fixture
def keeper(keep):
    return keep(page_server("page"), page_server("other"))


def run(keeper, command, **given):
    return _run(argparse.Namespace(command=command, **given), keeper)


def test_a_machine_is_told_where_it_answers_and_no_secret(keeper, capsys):
    run(keeper, "up", names=["page", "page"])
    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("answers after")) == ("", 1)
    run(keeper, "status", json=True)
    shown = capsys.readouterr().out
    (found,) = json.loads(shown)["services"]
    assert (found["name"], found["environment"]) == ("page", ["NEEDED", "SECRET"])
    assert keeper.running("page").environment["SECRET"] not in shown
    run(keeper, "status", json=False)
    said = capsys.readouterr().err
    assert found["url"] in said
    assert "not running: other" in said


@pytest.mark.parametrize(("answer", "code"), [("\n", 1), ("no\n", 1), ("", 1), ("yes\n", 0)])
def test_it_lists_and_asks_before_it_deletes(keeper, monkeypatch, capsys, answer, code):
    run(keeper, "up", names=["page"])
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    assert run(keeper, "clean", yes=False) == code
    assert str(keeper.folder / "page") in capsys.readouterr().err
    assert keeper.folder.exists() == (code == 1)
    assert (keeper.running("page") is None) == (code == 0)


def test_who_is_sure_is_not_asked(keeper, monkeypatch):
    run(keeper, "up", names=["page"])
    monkeypatch.setattr("sys.stdin", None)
    assert run(keeper, "clean", yes=True) == 0
    assert not keeper.folder.exists()
    assert run(keeper, "clean", yes=True) == 0


def test_a_stop_without_names_stops_all(keeper, capsys):
    run(keeper, "up", names=["page", "other"])
    run(keeper, "stop", names=[])
    assert keeper.all_running() == []
