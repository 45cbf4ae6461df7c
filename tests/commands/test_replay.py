"""What a stored decision says follows from its features, its model and its thresholds; a changed byte is found."""

import json
import math
import random
import shutil
import time
from contextlib import closing

import msgspec
import pytest
from typer.testing import CliRunner

from sentinel.cli import app
from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.events.times import iso
from sentinel.model.registry import Registry
from sentinel.model.signing import make_key_pair
from sentinel.record.applied import HomeDeployment, by_this_user, log_folder
from sentinel.record.audit import Change
from sentinel.record.disk import RealDisk
from sentinel.record.entries import body_of, decided_in, decision_rows
from sentinel.record.explaining import Explaining
from sentinel.record.file_log import FileLog
from sentinel.record.log import Kind
from sentinel.record.log_reader import FileLogReader
from sentinel.record.reasons import STANDING, reasons_in
from sentinel.record.segment import encode, head_at, record_at, segment_name

HOST = "127.0.0.1"


def payments(begin, end):
    return [
        {"transaction_id": f"t{i}", "event_time": 1_738_400_000 + i, "amount": 10 + 7 * i % 900, "card": f"card-{i % 9}",
         "shop": f"shop-{i % 7}"}
        for i in range(begin, end)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def served(shop_home, post, tmp_path_factory):
    """A home with 300 decisions of a model, alone and in batches, and 40 of its rules."""
    home = tmp_path_factory.mktemp("replay") / "home"
    shutil.copytree(shop_home, home)
    for begin, forced in ((0, "0"), (300, "1")):
        server = ServerProcess(home, HOST, free_port(HOST), environment={"SENTINEL_FORCE_CIRCUIT_OPEN": forced})
        server.start()
        try:
            for one in payments(begin, begin + 20):
                post(server.port, "/v1/score", one)
            for n in range(begin + 20, begin + (40 if begin else 300), 20):
                post(server.port, "/v1/score", payments(n, n + 20))
        finally:
            server.stop()
    return home


@pytest.fixture
def home(served, tmp_path):
    shutil.copytree(served, tmp_path / "home")
    return tmp_path / "home"


def replay(home, *given, code=0):
    done = CliRunner().invoke(app, ["replay", *given, "--home", str(home), "--json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if done.stdout else " ".join(done.stderr.split())


def test_not_one_bit_differs_whoever_decided(served):
    report = replay(served, "--all")
    assert (report["decisions"], report["differing"], report["impossible"], report["first"]) == (340, 0, 0, [])
    by_model, by_rules = replay(served, "t7"), replay(served, "t339")
    assert by_model["same"]
    assert by_model["degraded"] is None
    assert by_rules["same"]
    assert by_rules["degraded"]
    assert by_model["stored"] == by_model["replayed"]


PAN_ID = "4111111111111111"


def test_an_id_is_given_as_it_was_sent(home, post):
    """It has a card number, and the log has a hash in the place of that."""
    server = ServerProcess(home, HOST, free_port(HOST))
    server.start()
    try:
        post(server.port, "/v1/score", payments(900, 901)[0] | {"transaction_id": PAN_ID})
    finally:
        server.stop()
    receipt = replay(home, PAN_ID)
    assert receipt["same"]
    assert receipt["transaction_id"].startswith("s0_")
    assert replay(home, receipt["transaction_id"]) == receipt


def test_a_model_that_no_trusted_key_has_signed_computes_nothing(home, tmp_path):
    public, _ = make_key_pair(tmp_path / "team.key")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("SENTINEL_TRUSTED_KEYS_FILE", str(public))
        receipt = replay(home, "t7", code=1)
    assert receipt["replayed"] is None
    assert "v1 is not signed" in receipt["problem"]


def test_a_part_of_the_log_is_replayed(served):
    assert replay(served, "--all", "--most", "25")["decisions"] == 25
    with closing(FileLogReader(log_folder(served))) as log:
        begin = next(one for one in log.read(200, 99) if one.kind == Kind.DECIDED)
    counted = replay(served, "--all", "--since", iso(begin.received_us))["decisions"]
    assert 0 < counted < 200
    assert replay(served, "--all", "--since", iso(time.time_ns() // 1000))["decisions"] == 0


def test_what_is_not_there_is_said(home):
    assert "no decision of 'nobody'" in replay(home, "nobody", code=1)
    assert "give the id of a transaction, or --all" in replay(home, code=1)
    shutil.rmtree(home / "models")
    report = replay(home, "--all", code=1)
    assert (report["decisions"], report["differing"], report["impossible"]) == (340, 0, 340)
    assert "v1" in report["first"][0]["problem"]


def records_in(home):
    """Of each decided record of the only segment with decisions: its file, its place there, and itself."""
    with closing(FileLogReader(log_folder(home))) as log:
        seed, bases = log._seed, log._bases
        for base in bases:
            path = log_folder(home) / segment_name(base)
            with closing(log._open(base)) as file:
                offset = 0
                while found := record_at(file, offset, seed):
                    if found.record.kind == Kind.DECIDED:
                        yield path, found, seed
                    offset = found.end


def end_of(path, found):
    """Where the record ends, without the zeros that align the next one."""
    with closing(RealDisk().open(path)) as file:
        return found.begin + 68 + head_at(file, found.begin).stored


def put(path, place, data):
    with path.open("r+b") as file:
        file.seek(place)
        file.write(data)


def test_any_flipped_byte_of_a_decision_is_found(home):
    rng = random.Random(7)
    places = list(records_in(home))
    for _ in range(60):
        path, found, _ = rng.choice(places)
        place = rng.randrange(found.begin, end_of(path, found))
        before = path.read_bytes()[place]
        put(path, place, bytes([before ^ 1 << rng.randrange(8)]))
        said = replay(home, "--all", code=1)
        assert f"position {found.record.position}" in said
        put(path, place, bytes([before]))
    assert replay(home, "--all")["differing"] == 0


def test_a_decision_that_was_rewritten_with_a_right_checksum_is_found_by_the_chain(home):
    path, found, seed = list(records_in(home))[5]
    decided = msgspec.structs.replace(decided_in(found.record), levels=bytes([2] * found.record.rows))
    forged, _ = encode(found.record._replace(body=body_of(decided), chain=b"\1" * 16), "", found.durable, seed)
    data = bytearray(forged)
    assert len(data) == found.end - found.begin
    put(path, found.begin, data)
    name = decided.ids[0]
    for given in (("--all",), (name,)):
        assert f"position {found.record.position}: its chain does not continue" in replay(home, *given, code=1)


def test_a_log_that_is_made_anew_with_another_score_differs(home):
    log_id, records = copied(home)
    shutil.rmtree(home / "log")
    with closing(FileLog(home / "log", 1, log_id=log_id)) as log:
        for n, record in enumerate(records):
            body = record.body
            if record.kind == Kind.DECIDED and n % 10 == 0:
                decided = decided_in(record)
                score = bytearray(decided.scores)
                score[0] ^= 1  # the last bit of the mantissa
                body = body_of(msgspec.structs.replace(decided, scores=bytes(score)))
            log.write(record.kind, record.rows, record.received_us, body)
    report = replay(home, "--all", code=1)
    expected = sum(record.kind == Kind.DECIDED for record in records[::10])
    assert (report["decisions"], report["differing"], report["impossible"]) == (340, expected, 0)
    one = replay(home, report["first"][0]["transaction_id"], code=1)
    assert one["stored"][0] != one["replayed"][0]


def copied(home):
    with closing(FileLogReader(log_folder(home))) as log:
        return log.log_id, log.read(log.first, 10_000)


EVIL = "\x1b]0;owned\x07\x1b[2J\nroot: all is well\u202e\x9b31m[bold]"


def test_an_id_says_nothing_to_the_terminal(home, post):
    server = ServerProcess(home, HOST, free_port(HOST))
    server.start()
    try:
        post(server.port, "/v1/score", payments(900, 901)[0] | {"transaction_id": EVIL})
    finally:
        server.stop()
    HomeDeployment(home).change(lambda now: now, by_this_user("x"))
    HomeDeployment(home).note([Change("user \x9b1m", "\u202e", EVIL, EVIL, "[]", "[red]", 7)])
    for given in (["replay", EVIL], ["replay", EVIL + "x"], ["replay", EVIL, "--json"], ["audit"], ["audit", "--json"]):
        done = CliRunner().invoke(app, [*given, "--home", str(home)])
        assert all(line.isprintable() for line in done.output.split("\n")), (given, done.output)
        assert not any(line.startswith("root:") for line in done.output.split("\n"))
        if given[0] == "audit" and "--json" not in given:
            assert "[red]" in done.output
    assert replay(home, EVIL)["transaction_id"] == EVIL


def test_a_decision_is_explained_and_what_is_shown_adds_up(served):
    asked = CliRunner().invoke(app, ["explain", "t7", "--home", str(served), "--json"])
    assert asked.exit_code == 0, asked.output
    found = json.loads(asked.stdout)
    score, why = found["fraud_probability"], found["why"]
    total = why["expected"] + why["others"] + sum(one["contribution"] for one in why["reasons"])
    assert 1 / (1 + math.exp(-total)) == pytest.approx(score, rel=1e-5)
    assert why["reasons"]
    for_people = CliRunner().invoke(app, ["explain", "t7", "--home", str(served)])
    assert why["reasons"][0]["feature"] in for_people.output


def test_reasons_that_the_log_has_are_read_and_need_no_model(home):
    with closing(FileLogReader(log_folder(home))) as log:
        explaining = Explaining(log, Registry(home / "models"))
        found = []
        while not explaining.is_at_end:
            if (reasons := explaining.step()) is not None:
                found.append(reasons)
                explaining.taken(reasons)
        decisions = {row.position: row for record in log.chained_from(log.first) for row in rows_of(record)}
        log_id = log.log_id
    if found:  # what the explainer of the server had not come to
        with closing(FileLog(home / "log", 1, log_id=log_id)) as log:
            for reasons in found:
                log.write(Kind.REASONS, len(reasons.ids), 1_800_000_000_000_000, body_of(reasons), standing=STANDING)
    blocked = next(row.transaction_id for row in decisions.values() if row.decision != "approve")
    computed = json.loads(CliRunner().invoke(app, ["explain", "t7", "--home", str(home), "--json"]).stdout)
    assert computed["why_position"] is None
    shutil.rmtree(home / "models" / "v1")
    asked = CliRunner().invoke(app, ["explain", blocked, "--home", str(home), "--json"])
    assert asked.exit_code == 0, asked.output
    stored = json.loads(asked.stdout)
    with closing(FileLogReader(log_folder(home))) as log:
        kept = {at: (about, why) for record in log.chained_from(log.first) if record.kind == Kind.REASONS
                for at, about, why in reasons_in(record).rows(record.position)}  # fmt: skip
    about, why = kept[stored["why_position"]]
    assert about == stored["position"]
    assert json.loads(why) == stored["why"]
    for_people = CliRunner().invoke(app, ["explain", blocked, "--home", str(home)])
    assert f"as the log has it at position {stored['why_position']}" in for_people.output
    gone = CliRunner().invoke(app, ["explain", "t7", "--home", str(home)])
    assert gone.exit_code == 1


def rows_of(record):
    return decision_rows(record) if record.kind == Kind.DECIDED else []


def test_what_rules_decided_has_no_contributions(served):
    asked = CliRunner().invoke(app, ["explain", "t305", "--home", str(served)])
    assert asked.exit_code != 0
    assert "no model decided" in " ".join(asked.stderr.split())
