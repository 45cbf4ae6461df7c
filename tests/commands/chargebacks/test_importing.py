"""Files of disputes as outcomes: matched by id or by what the bank knows, once, and taken back by their name."""

import json
import shutil
from contextlib import closing

import polars as pl
import pytest
from typer.testing import CliRunner

from sentinel.cli import app
from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.record.applied import log_folder
from sentinel.record.entries import outcome_rows
from sentinel.record.known_outcomes import KnownOutcomes
from sentinel.record.log import Follower, Kind
from sentinel.record.log_reader import FileLogReader

HOST = "127.0.0.1"
BEGIN_S = 1_738_400_000  # 2025-02-01 08:53 UTC


def payments():
    """Forty, of four cards, two an hour; the last two are alike."""
    made = [
        {"transaction_id": f"t{i}", "event_time": BEGIN_S + 1_800 * i, "amount": 10.25 + i, "card": f"card-{i % 4}", "shop": "s"}
        for i in range(40)
    ]  # fmt: skip
    return [*made, {**made[39], "transaction_id": "t40"}]


@pytest.fixture(scope="module")
def served(shop_home, post, tmp_path_factory):
    home = tmp_path_factory.mktemp("disputes") / "home"
    shutil.copytree(shop_home, home)
    server = ServerProcess(home, HOST, free_port(HOST))
    server.start()
    try:
        post(server.port, "/v1/score", payments())
    finally:
        server.stop()
    return home


@pytest.fixture
def home(served, tmp_path):
    shutil.copytree(served, tmp_path / "home")
    return tmp_path / "home"


def run(home, *given, code=0):
    done = CliRunner().invoke(app, ["outcomes", *map(str, given), "--home", str(home), "--json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if code == 0 else " ".join(done.stderr.split())


def told(home):
    with closing(FileLogReader(log_folder(home))) as log:
        records = [record for page in Follower(log, log.first).rest() for record in page]
    return [
        (row.transaction_id, row.is_fraud)
        for record in records
        if record.kind in (Kind.OUTCOMES, Kind.UNMATCHED)
        for row in outcome_rows(record)
    ]


def truths(home):
    known, names = KnownOutcomes(lambda _: True), {}
    with closing(FileLogReader(log_folder(home))) as log:
        for page in Follower(log, log.first).rest():
            for record in page:
                known.take(record)
                if record.kind == Kind.OUTCOMES:
                    names |= {row.about: row.transaction_id for row in outcome_rows(record)}
    return {name: truth.is_fraud for at, name in names.items() if (truth := known.truth(at))}


def test_the_last_final_stage_counts_and_the_same_file_twice_adds_nothing(home, tmp_path):
    file, report = tmp_path / "c.csv", tmp_path / "report.csv"
    file.write_text(
        "case,transaction_id,stage,outcome_time\n"
        "1,t1,Chargeback,2025-02-20\n"
        "2,t1,representment won,2025-03-20\n"
        "3,t2,chargeback,2025-02-21\n"
        "4,t2,Representment_lost,2025-03-21\n"
        "5,t3,inquiry,2025-02-22\n"
        "6,t4,chargeback,2025-02-22\n"
        "7,t4,won,2025-02-22\n"
        "8,t5,chargeback,2025-01-22\n"
        "9,gone,chargeback,2025-02-23\n"
        "10,t6,chargeback,2025-02-01\n"
        "11,,chargeback,2025-02-01\n"
    )
    tried = run(home, "import", file, "--dry-run")
    assert (tried["recorded"], told(home)) == (5, [])
    done = run(home, "import", file, "--report", report)
    assert (done["recorded"], done["known"], done["unmatched"], done["rows"]) == (5, 0, 1, 11)
    assert pl.read_csv(report)["fate"].to_list() == [
        "told", "told", "told", "repeated", "not final", "contradicting", "contradicting", "early", "told", "told", "wrong",
    ]  # fmt: skip
    assert truths(home) == {"t1": 0, "t2": 1, "t6": 1}
    before = told(home)
    again = run(home, "import", file)
    assert (again["recorded"], again["known"], told(home)) == (0, 5, before)
    back = run(home, "revoke", "--key", done["told_by"], "--reason", "of another bank")
    assert (back["outcomes"], truths(home)) == (5, {})
    assert run(home, "import", file)["recorded"] == 5, "what was taken back may be told again"


def test_by_amount_card_and_date_through_the_server(home, tmp_path, post):
    file, report = tmp_path / "bank.csv", tmp_path / "report.csv"
    file.write_text(
        "betrag;karte;datum;grund\n"
        "12,25;card-2;01.02.2025;10.4\n"
        "12,25;card-1;01.02.2025;10.4\n"
        "49,25;card-3;02.02.2025;10.4\n"
        "13,25;card-3;03.02.2025;10.4\n"
        "x;card-3;03.02.2025;10.4\n"
    )
    given = [file, "--match", "amount,card,date", "--map", "betrag=amount,karte=card,datum=event_time,grund=reason",
             "--decimal", ",", "--time-format", "%d.%m.%Y", "--source", "bank", "--batch", "feb", "--report", report]  # fmt: skip
    server = ServerProcess(home, HOST, free_port(HOST))
    server.start()
    try:
        done = run(home, "import", *given)
        assert run(home, "import", *given)["recorded"] == 0
    finally:
        server.stop()
    assert (done["recorded"], done["told_by"]) == (1, "import:feb")
    assert pl.read_csv(report)["fate"].to_list() == ["told", "unmatched", "ambiguous", "unmatched", "wrong"]
    assert "t39, t40" in report.read_text()
    assert told(home) == [("t2", True)]
    assert run(home, "import", *given, "--days", "2")["fates"]["told"] == 2


def test_a_report_has_no_formula_for_a_spreadsheet(home, tmp_path):
    file, report = tmp_path / "c.csv", tmp_path / "report.csv"
    names = ["=HYPERLINK(1)", "+1", "-1", "@SUM(1)", "t1"]
    file.write_text("transaction_id\n" + "\n".join(names) + "\n")
    run(home, "import", file, "--dry-run", "--report", report)
    found = pl.read_csv(report)["transaction_id"].to_list()
    assert found == [*(f"'{one}" for one in names[:-1]), "t1"]


def test_an_amount_beyond_all_others_is_of_no_transaction(home, tmp_path):
    file = tmp_path / "c.csv"
    file.write_text("amount,card\n1e308,card-1\n-1e308,card-1\n1e999,card-1\n")
    assert run(home, "import", file, "--match", "amount,card")["fates"] == {"unmatched": 2, "wrong": 1}


@pytest.mark.parametrize(
    ("text", "given", "said"),
    [
        ("id\n1\n", [], "lacks transaction_id"),
        ("transaction_id,stage\nt1,second thoughts\n", [], "--stages"),
        ("transaction_id\nt1\n", ["--match", "date"], "beside the date one at least"),
        ("transaction_id\nt1\n", ["--match", "iban"], "match by id"),
        ("transaction_id\nt1\n", ["--map", "a=b"], "has no column 'a'"),
        (
            "transaction_id,told\nt1,x\n",
            ["--map", "told=seen"],
            "'told' cannot be 'seen'; a column can be transaction_id",
        ),
        ("transaction_id\nt1\n", ["--batch", "a b"], "batch"),
        ("transaction_id\nt1\n", ["--source", "the bank"], "source"),
        ("transaction_id\nt1\n", ["--stages", "won"], "is no STAGE=1"),
        ("transaction_id,outcome_time\nt1,2199-01-01\n", [], "wrong"),
        ("transaction_id,outcome_time\nt1,2099-01-01\n", [], "wrong"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_told(home, tmp_path, text, given, said):
    (tmp_path / "c.csv").write_text(text)
    if said == "wrong":
        assert run(home, "import", tmp_path / "c.csv", *given)["fates"] == {"wrong": 1}
    else:
        assert said in run(home, "import", tmp_path / "c.csv", *given, code=1)
    assert told(home) == []
