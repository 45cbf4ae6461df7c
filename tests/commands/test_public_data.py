"""Fetching public data from a server that is slow, cuts off, lies, or has moved."""

import hashlib
import io
import json
import os
import pickle
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from sentinel.cli import app
from sentinel.commands.download import Patience
from sentinel.commands.public_data import get_data
from sentinel.commands.server_process import free_port
from sentinel.detectors import load_detector
from sentinel.errors import DataProblem, InvalidDefinition
from sentinel.events.files import read_history
from sentinel.simulate.creditcard import creditcard_rows

QUICK = Patience(tries=3, pause_s=0.01, silence_s=5.0)
CONTENT = os.urandom(3 << 20)


class Source(ThreadingHTTPServer):
    """Serves `content`. `cuts` are the bytes after which the next answers end; `asked` are the headers of all calls."""

    daemon_threads = True

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), Answering)
        self.content, self.cuts, self.asked = content, [], []
        self.takes_ranges, self.status, self.tag, self.pause_s = True, 200, '"one"', 0.0
        self.url = f"http://127.0.0.1:{self.server_port}/creditcard.csv"


class Answering(BaseHTTPRequestHandler):
    def do_GET(self):
        source = self.server
        source.asked.append(self.headers)
        if source.status != 200:
            self.send_error(source.status)
            return
        begin, wanted = 0, self.headers.get("range")
        if wanted and source.takes_ranges and self.headers.get("if-range") == source.tag:
            begin = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if begin > len(source.content):
                self.send_error(416)
                return
        self.send_response(206 if begin else 200)
        self.send_header("etag", source.tag)
        self.send_header("content-length", str(len(source.content) - begin))
        self.end_headers()
        end = begin + source.cuts.pop(0) if source.cuts else len(source.content)
        for at in range(begin, end, 100_000):
            self.wfile.write(source.content[at : min(at + 100_000, end)])
            threading.Event().wait(source.pause_s)
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def source():
    server = Source(CONTENT)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def get(into, source, sha256=None, name="creditcard", patience=QUICK, environment=os.environ):
    told = []
    got = get_data(name, into, source.url, sha256, lambda *one: told.append(one), environment, patience)
    assert told
    return got


def digest(content):
    return hashlib.sha256(content).hexdigest()


def test_it_is_fetched_recorded_and_the_second_time_verified_without_the_network(tmp_path, source):
    got = get(tmp_path, source)
    assert (got.how, got.sha256, got.bytes) == ("fetched", digest(CONTENT), len(CONTENT))
    assert (tmp_path / "creditcard.csv").read_bytes() == CONTENT
    again = get(tmp_path, source, digest(CONTENT))
    assert (again.how, len(source.asked)) == ("verified", 1)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["creditcard.csv", "creditcard.csv.origin.json"]


def test_what_is_cut_off_goes_on_where_it_ended(tmp_path, source):
    source.cuts = [1_000_000, 500_000]
    assert get(tmp_path, source, digest(CONTENT)).how == "fetched"
    assert [one.get("range") for one in source.asked] == [None, "bytes=1000000-", "bytes=1500000-"]


def test_a_later_call_goes_on_from_what_an_earlier_one_left(tmp_path, source):
    source.cuts = [1_000_000, 500_000, 1]
    with pytest.raises(DataProblem, match=r"1,500,001 bytes are here, run this again"):
        get(tmp_path, source)
    assert not (tmp_path / "creditcard.csv").exists()
    assert get(tmp_path, source).sha256 == digest(CONTENT)
    assert source.asked[-1]["range"] == "bytes=1500001-"


def test_a_part_of_another_version_is_thrown_away(tmp_path, source):
    source.cuts = [1_000_000, 1, 1]
    with pytest.raises(DataProblem):
        get(tmp_path, source)
    source.content, source.tag = CONTENT[::-1], '"two"'
    get(tmp_path, source)
    assert (tmp_path / "creditcard.csv").read_bytes() == CONTENT[::-1]


def test_a_server_that_knows_no_ranges_is_asked_for_all_of_it(tmp_path, source):
    source.takes_ranges, source.cuts = False, [1_000_000]
    assert get(tmp_path, source).sha256 == digest(CONTENT)


def test_a_source_that_shrank_is_fetched_anew(tmp_path, source):
    source.cuts = [1_000_000, 1, 1]
    with pytest.raises(DataProblem):
        get(tmp_path, source)
    source.content = CONTENT[:1000]
    assert get(tmp_path, source).bytes == 1000


def test_a_slow_one_is_waited_for_and_a_silent_one_is_not(tmp_path, source):
    source.content, source.pause_s = CONTENT[:400_000], 0.1
    assert get(tmp_path / "slow", source).bytes == 400_000
    source.pause_s = 1.0
    with pytest.raises(DataProblem, match="timed out"):
        get(tmp_path / "silent", source, patience=Patience(tries=1, silence_s=0.2))


def test_something_else_than_what_was_asked_for_is_removed(tmp_path, source):
    with pytest.raises(DataProblem, match="what was fetched is removed"):
        get(tmp_path, source, "0" * 64)
    assert not list(tmp_path.glob("creditcard.csv*[!n]"))


def test_a_file_that_was_altered_is_not_used(tmp_path, source):
    get(tmp_path, source)
    with (tmp_path / "creditcard.csv").open("ab") as file:
        file.write(b"x")
    with pytest.raises(DataProblem, match="was altered after"):
        get(tmp_path, source)


def test_a_file_that_somebody_put_there_is_used_and_recorded(tmp_path, source):
    (tmp_path / "creditcard.csv").write_bytes(b"mine")
    assert get(tmp_path, source).how == "recorded"
    assert get(tmp_path, source).how == "verified"
    with pytest.raises(DataProblem, match="not 0000"):
        get(tmp_path, source, "0" * 64)
    assert source.asked == []


@pytest.mark.parametrize(
    ("status", "said"), [(404, "if it has moved, say where it is with --url"), (403, "it wants an account")]
)
def test_a_refusal_says_what_to_do(tmp_path, source, status, said):
    source.status = status
    with pytest.raises(DataProblem, match=f"says {status}: {said}|says {status}; {said}"):
        get(tmp_path, source)
    assert len(source.asked) == 1


def test_without_a_network_it_says_so(tmp_path):
    port = free_port("127.0.0.1")
    asked = ["data", "get", "creditcard", "--into", str(tmp_path), "--url", f"http://127.0.0.1:{port}/x"]
    done = CliRunner().invoke(app, asked, env={"PYTEST": "1"})
    assert done.exit_code == 1
    assert "cannot be reached" in done.output
    assert "is there a network" in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("name", "url", "sha256", "said"),
    [
        ("amex", None, None, "take creditcard, ieee, handbook"),
        ("creditcard", "ftp://x/y", None, "begins with http"),
        ("creditcard", "file:///etc/passwd", None, "begins with http"),
        ("creditcard", None, "abc", "64 hexadecimal digits"),
    ],
)
def test_what_cannot_be_asked_for(tmp_path, name, url, sha256, said):
    with pytest.raises(InvalidDefinition, match=said):
        get_data(name, tmp_path, url, sha256, lambda *_: None)


def test_a_source_with_an_account_says_which_variables(tmp_path):
    with pytest.raises(DataProblem, match="KAGGLE_USERNAME and KAGGLE_KEY"):
        get_data("ieee", tmp_path, None, None, lambda *_: None, environment={})


def test_no_account_is_sent_to_another_address(tmp_path, source):
    source.content = zipped({"a/train_transaction.csv": b"TransactionID\n1\n", "a/test_transaction.csv": b"no"})
    account = {"KAGGLE_USERNAME": "me", "KAGGLE_KEY": "secret"}
    got = get(tmp_path, source, name="ieee", environment=account)
    assert source.asked[0].get("authorization") is None
    assert (tmp_path / "train_transaction.csv").read_bytes() == b"TransactionID\n1\n"
    assert got.sha256 == digest(source.content)
    assert get(tmp_path, source, got.sha256, name="ieee").how == "verified"  # of the archive, which is gone
    assert not list(tmp_path.glob("*.part*"))


def zipped(members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (zipped({"readme.txt": b"x"}), "has no .*creditcard.csv; it has readme.txt"),
        (zipped({"a/creditcard.csv": b"x", "b/creditcard.csv": b"y"}), "2 files that could be meant"),
    ],
)
def test_an_archive_without_the_file(tmp_path, source, content, said):
    source.content = content
    with pytest.raises(DataProblem, match=said):
        get(tmp_path, source)
    assert not (tmp_path / "creditcard.csv").exists()


def test_the_zipped_card_data_trains(tmp_path, source):
    csv = creditcard_rows(900, 100, 3).write_csv().encode()
    source.content = zipped({"creditcard.csv": csv})
    get(tmp_path, source)
    assert len(read_history(tmp_path / "creditcard.csv", load_detector("creditcard").schema)) == 1_000


def day(of, n=50):
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(of)
    times = pandas.Timestamp("2018-04-01") + pandas.to_timedelta(np.sort(rng.integers(0, 86_400, n)) + of * 86_400, "s")
    return pandas.DataFrame(
        {
            "TRANSACTION_ID": np.arange(n) + of * n, "TX_DATETIME": times,
            "CUSTOMER_ID": rng.integers(0, 99, n).astype(str).astype(object), "TERMINAL_ID": rng.integers(0, 99, n),
            "TX_AMOUNT": np.round(rng.random(n) * 100, 2), "TX_TIME_SECONDS": 0, "TX_TIME_DAYS": of, "TX_FRAUD": rng.integers(0, 2, n),
            "TX_FRAUD_SCENARIO": 0,
        }
    )  # fmt: skip


@pytest.mark.parametrize("protocol", [4, 5])
def test_the_days_of_the_handbook_become_one_file(tmp_path, source, protocol):
    days = {f"raw-main/data/2018-04-0{of + 1}.pkl": pickle.dumps(day(of), protocol) for of in (1, 0)}
    source.content = zipped({**days, "raw-main/README.md": b"x"})
    got = get(tmp_path, source, name="handbook")
    frame = pl.read_parquet(got.file)
    assert frame["tx_id"].to_list() == list(range(100))
    assert frame["tx_amount"].to_list() == [*day(0)["TX_AMOUNT"], *day(1)["TX_AMOUNT"]]
    assert frame["customer_id"].to_list() == [int(one) for of in (0, 1) for one in day(of)["CUSTOMER_ID"]]
    assert len(read_history(tmp_path / "handbook.parquet", load_detector("handbook").schema)) == 100


class Attack:
    def __reduce__(self):
        return os.system, ("touch /tmp/never",)


def test_a_pickle_that_would_run_something_is_not_read(tmp_path, source):
    pytest.importorskip("pandas")
    source.content = zipped({"raw-main/data/2018-04-01.pkl": pickle.dumps(Attack())})
    with pytest.raises(DataProblem, match=r"asks for (posix|nt)\.system"):
        get(tmp_path, source, name="handbook")
    assert not (tmp_path / "handbook.parquet").exists()


def test_the_record_says_where_it_came_from(tmp_path, source):
    get(tmp_path, source)
    record = json.loads((tmp_path / "creditcard.csv.origin.json").read_text())
    assert (record["url"], record["file_sha256"]) == (source.url, digest(CONTENT))
