"""`sentinel cases` shows what is kept, as the API does, and says what to do where nothing is."""

import json
from contextlib import closing

import pytest
from typer.testing import CliRunner

from sentinel.cli.root import app
from sentinel.record.written.written_database import WrittenDatabase
from sentinel.review.case_store.asking import Asking, open_or_join
from sentinel.review.case_store.desk import Desk
from sentinel.review.cases.deadlines import USUAL, read_deadlines
from sentinel.review.cases.moves import Analyst


@pytest.fixture
def home(tmp_path):
    deadlines, who = read_deadlines(USUAL), Analyst("ana", {"analyst"})
    with closing(WrittenDatabase(tmp_path)) as database:
        for n, card in enumerate(("c1", "4111111111111111")):
            one = Asking(
                n, f"t{n}", 1_000_000 + n, 12_345, 2, 0.5, "review", "review", frozenset({"rule x"}), "card", card
            )  # fmt: skip
            with database.writing() as writer:
                open_or_join(writer, one, deadlines, 1_000_000)
        Desk(database, deadlines).take(1, 1, who, 2_000_000)
    return tmp_path


def run(home, *arguments):
    return CliRunner().invoke(app, ["cases", *arguments, "--home", str(home)])


def test_the_list_is_that_of_the_api(home):
    done = run(home, "list", "--json")
    found = json.loads(done.stdout)
    assert [(one["case"], one["state"], one["expected_loss"]) for one in found["cases"]] == [
        (1, "assigned", "61.72"), (2, "open", "61.72"),
    ]  # fmt: skip
    assert "case 1: card c1, 1 payments, 61.72 of 123.45 at stake, normal" in run(home, "list").output.replace("\n", "")
    assert json.loads(run(home, "list", "--holder", "ana", "--json").stdout)["total"] == 1
    assert "4111111" not in run(home, "list").output


def test_a_case_with_its_history(home):
    shown = run(home, "show", "1").output.replace("\n", "")
    assert "taken by ana" in shown
    assert "t0: 123.45, review, score 0.500, not known yet" in shown
    assert json.loads(run(home, "show", "1", "--json").stdout)["history"][1]["who"] == "ana"


@pytest.mark.parametrize("arguments", [("show", "77"), ("list", "--state", "lost"), ("list", "--limit", "0")])
def test_what_is_not_there(home, arguments):
    assert run(home, *arguments).exit_code == 1


def test_a_home_without_cases(tmp_path):
    done = run(tmp_path, "list")
    assert done.exit_code == 1
    assert not (tmp_path / "written.db").exists()
