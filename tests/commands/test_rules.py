"""Rules of a file, checked and tried on what a real server has decided."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from sentinel.cli import app
from sentinel.commands.server_process import ServerProcess, free_port

HOST = "127.0.0.1"
BOOK = """
rules:
  - {name: large online, when: "amount > 500 and channel == 'web'", do: review, reason: a large amount online}
  - {name: burst, when: count_by_card_24h >= 20, do: block, reason: many payments of the card within a day}
  - {name: nobody, when: score > 1, do: block, reason: never}
  - {name: odd, when: channel is missing and risk >= 0.5, do: challenge, reason: odd, state: shadow}
"""


def payments():
    return [
        {"transaction_id": f"t{n}", "event_time": 1_738_400_000 + n, "amount": 10 + 7 * n % 900, "card": f"card-{n % 9}",
         "shop": f"shop-{n % 7}", "risk": n % 10 / 10, **({} if n % 4 == 3 else {"channel": "web" if n % 3 else "pos"})}
        for n in range(270)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def home(shop_home, post, tmp_path_factory):
    """A home with 270 decisions, and the outcomes of 60."""
    home = tmp_path_factory.mktemp("rules") / "home"
    shutil.copytree(shop_home, home)
    server = ServerProcess(home, HOST, free_port(HOST))
    server.start()
    try:
        for n in range(0, 270, 30):
            post(server.port, "/v1/score", payments()[n : n + 30])
        post(server.port, "/v1/outcomes", [{"transaction_id": f"t{n}", "is_fraud": n % 2 == 0} for n in range(60)])
    finally:
        server.stop()
    return home


@pytest.fixture
def book(tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text(BOOK)
    return path


def run(home, *given, code=0, as_json=True):
    done = CliRunner().invoke(app, ["rules", *map(str, given), "--home", str(home), *(["--json"] if as_json else [])])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if as_json and not code else done.stderr


def test_a_book_is_checked_against_the_champion(home, book):
    found = run(home, "check", book)
    assert found["fits"] == "v1"
    assert [rule["name"] for rule in found["rules"]] == ["large online", "burst", "nobody", "odd"]
    assert "4 rules fit v1:" in run(home, "check", book, as_json=False)


def test_what_cannot_be_read_ends_with_1_and_shows_the_place(home, book):
    book.write_text(BOOK.replace("count_by_card_24h", "count_by_card_1d"))
    said = run(home, "check", book, code=1)
    assert "there is no count_by_card_1d; did you mean count_by_card_" in " ".join(said.split())
    assert "^" in said
    assert "there is no file" in run(home, "backtest", book.parent / "none.yaml", code=1)
    book.write_text("rules: []")
    assert "has no rule" in run(home, "check", book, code=1)


def test_a_backtest_finds_what_the_rules_would_have_done(home, book):
    found = run(home, "backtest", book)
    rules = {rule["name"]: rule for rule in found["rules"]}
    sent = payments()
    large = {n for n, one in enumerate(sent) if one["amount"] > 500 and one.get("channel") == "web"}
    burst = set(range(19 * 9, 270))  # from the 20th payment of a card on
    odd = {n for n, one in enumerate(sent) if "channel" not in one and one["risk"] >= 0.5}
    assert found["transactions"] == 270
    assert rules["large online"]["hits"] == len(large)
    assert rules["burst"]["hits"] == len(burst)
    assert (rules["nobody"]["hits"], rules["odd"]["hits"]) == (0, len(odd))
    assert rules["large online"]["overlaps"]["burst"] == len(large & burst)
    assert (rules["large online"]["judged"], rules["large online"]["frauds"]) == (
        len(large & set(range(60))), len(large & set(range(0, 60, 2))),
    )  # fmt: skip
    assert found["would_be"]["decisions"]["block"] >= len(burst)
    assert found["was"]["decisions"]["block"] == sum(found["moved"]["block"].values())
    assert found["would_be"]["decisions"]["challenge"] == found["was"]["decisions"]["challenge"]


def test_for_people_it_is_a_table_and_a_period_can_be_chosen(home, book):
    told = run(home, "backtest", book, as_json=False)
    assert "large online" in told
    assert "burst shares hits with large online" in told
    assert "scored nothing" in " ".join(run(home, "backtest", book, "--to", "2020-01-01", code=1).split())


def test_the_words_of_a_rule_are_no_markup(home, tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text(json.dumps({"rules": [
        {"name": name, "when": "amount > 0 or channel == '[/x]'", "do": "tag", "reason": "r"} for name in ("[/red]", "[bold]")
    ]}))  # fmt: skip
    assert "channel == '[/x]'" in run(home, "check", path, as_json=False)
    said = run(home, "backtest", path, as_json=False)
    assert "[/red]" in said
    assert "[bold] shares hits with [/red] (270)" in said
