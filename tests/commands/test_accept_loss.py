"""What is lost is shown, given up only when that is wanted, and the home goes on: with its ids, its states, its view."""

import json
import os
import shutil
from contextlib import closing

import pytest
from typer.testing import CliRunner

from sentinel.cli import app
from sentinel.errors import LogDamaged, StorageProblem
from sentinel.record.applied import HomeDeployment, log_folder
from sentinel.record.file_log import FileLog
from sentinel.record.home_log import MARK, HomeLog
from sentinel.record.log import Kind
from sentinel.record.views.rows import Rows
from sentinel.record.views.sqlite import FILE, SqliteView
from sentinel.transport.access.store import KeyStore


def accept(home, position, *more, code=0, answer=None):
    done = CliRunner().invoke(app, ["log", "accept-loss", str(position), "--home", str(home), *more], input=answer)
    assert done.exit_code == code, done.output
    return " ".join(done.stderr.split()), done.stdout


def opened(home):
    return HomeLog.open(log_folder(home), 1)


def write(home, n=5):
    with closing(opened(home)) as log:
        for _ in range(n):
            log.write(Kind.DECIDED, 2, log.clock(1), b"decided" * 20)
        return log.log_id


def flip(home, position):
    (segment,) = log_folder(home).glob("*.segment")
    data = bytearray(segment.read_bytes())
    place = -1
    for _ in range(position // 2 + 1):
        place = data.index(b"decided" * 20, place + 1)
    data[place] ^= 1
    segment.write_bytes(data)


def test_it_shows_asks_and_does_nothing_without_a_yes(tmp_path):
    write(tmp_path)
    flip(tmp_path, 3)
    with pytest.raises(LogDamaged, match="sentinel log accept-loss 3"):
        opened(tmp_path)
    before = {path.name: path.read_bytes() for path in log_folder(tmp_path).iterdir() if path.name != "lock"}
    said, _ = accept(tmp_path, 3, code=1, answer="n\n")
    assert "positions 3 to 4, 2 entries; 2 of them are decisions, of 0 nothing can be told" in said
    assert before == {path.name: path.read_bytes() for path in log_folder(tmp_path).iterdir() if path.name != "lock"}
    said, _ = accept(tmp_path, 3, answer="y\n")
    assert "the damaged bytes are in log/lost-00000000000000000003.bytes" in said
    with closing(opened(tmp_path)) as log:
        kinds = [Kind.DECIDED, Kind.LOSS, *[Kind.DECIDED] * 3, Kind.AUDIT]
        assert [record.kind for record in log.read(1, 99)] == kinds
    (noted,) = HomeDeployment(tmp_path).audit(9).changes
    assert (noted.what, noted.asked, noted.where) == ("log accept-loss", "3", "command line")
    assert json.loads(noted.after)["end"] == 5
    shown = CliRunner().invoke(app, ["log", "verify", "--home", str(tmp_path)])
    assert shown.exit_code == 0
    assert "positions 3 to 4, given up" in " ".join(shown.stderr.split())


def test_while_there_is_more_to_give_up_the_audit_waits_beside_the_keys(tmp_path):
    write(tmp_path)
    for position in (7, 3):
        flip(tmp_path, position)
    accept(tmp_path, 3, "--yes")
    assert [one.asked for one in KeyStore(tmp_path).read().changes] == ["3"]
    accept(tmp_path, 7, "--yes")
    assert [one.asked for one in HomeDeployment(tmp_path).audit(9).changes] == ["7"]


def test_a_script_gets_the_facts(tmp_path):
    write(tmp_path)
    flip(tmp_path, 5)
    _, out = accept(tmp_path, 5, "--yes", "--json")
    facts = json.loads(out)
    assert (facts["begin"], facts["end"], facts["decided"]) == (5, 7, 2)


def test_where_nothing_is_damaged_nothing_is_given_up(tmp_path):
    write(tmp_path)
    for position in (1, 3, 11, 12):
        said, _ = accept(tmp_path, position, "--yes", code=1)
        assert "nothing is damaged" in said
    said, _ = accept(tmp_path / "elsewhere", 1, "--yes", code=1)
    assert "no home folder" in said


def test_while_a_server_owns_the_log_nothing_is_given_up(tmp_path):
    with closing(opened(tmp_path)):
        said, _ = accept(tmp_path, 1, "--yes", code=1)
    assert "in use by another Sentinel" in said


def project(home, log_id, position):
    view = SqliteView(home / FILE)
    view.project(Rows(position, b"chain", [], [], [], [], [], [], [], {}, {}, [], 0), log_id, 0, 1)
    view.close()


@pytest.mark.parametrize("witness", ["mark", "view", "ids", "snapshot"])
@pytest.mark.parametrize("gone", ["folder", "segments", "newest entries"])
def test_a_home_that_has_seen_more_than_its_log_has_is_no_fresh_one(tmp_path, witness, gone):
    home = tmp_path / "home"
    log_id = write(home)
    older = tmp_path / "older"
    shutil.copytree(home / "log", older)
    write(home)  # up to position 21
    if witness != "mark":
        (home / MARK).unlink()
    if witness == "view":
        project(home, log_id, 21)
    elif witness == "ids":
        (home / "ids").mkdir()
        (home / "ids" / "1-21.ids").write_text(json.dumps({"log_id": log_id, "first": 1, "end": 21}).ljust(4_096))
    elif witness == "snapshot":
        snapshot(home, log_id, 21)
    if gone == "segments":
        for segment in (home / "log").glob("*.segment"):
            segment.unlink()
    else:
        shutil.rmtree(home / "log")
    if gone == "newest entries":
        shutil.copytree(older, home / "log")
    position = 11 if gone == "newest entries" else 1
    with pytest.raises(LogDamaged, match=f"seen it up to .*21.*sentinel log accept-loss {position}`"):
        opened(home)
    with pytest.raises(LogDamaged):
        HomeDeployment(home).promote("v1")
    accept(home, position, "--yes")
    with closing(opened(home)) as log:
        assert (log.log_id, log.durable) == (log_id, 22)
        assert (log.at(20).kind, log.at(21).kind) == (Kind.LOSS, Kind.AUDIT)
        assert log.write(Kind.HEARTBEAT, 1, log.clock(1), b"") == 22


def snapshot(home, log_id, position):
    import numpy as np

    (home / "snapshots").mkdir()
    origin = np.frombuffer(f"plan {log_id} chain".encode(), np.uint8)
    np.savez(home / "snapshots" / f"state-{position:012d}.npz", origin=origin)


def test_another_log_in_a_home_is_refused(tmp_path):
    home, other = tmp_path / "home", tmp_path / "other"
    write(home)
    write(other)
    shutil.rmtree(home / "log")
    shutil.copytree(other / "log", home / "log")
    with pytest.raises(StorageProblem, match=f"remove {home / MARK} if another log is meant"):
        opened(home)
    (home / MARK).unlink()
    opened(home).close()


def test_a_home_without_a_log_that_was_never_served_is_fresh(tmp_path):
    (tmp_path / "models" / "v1").mkdir(parents=True)
    opened(tmp_path).close()
    shutil.rmtree(tmp_path / "log")
    opened(tmp_path).close()  # there was nothing in it


def test_what_the_last_writer_has_left_is_noted_even_without_a_server(tmp_path):
    with closing(FileLog.open(log_folder(tmp_path), 1)) as log:
        log.write(Kind.HEARTBEAT, 1, 1, b"")
    HomeDeployment(tmp_path).promote("v1")
    shutil.rmtree(tmp_path / "log")
    with pytest.raises(LogDamaged, match="position 4"):  # the promotion has an entry in the audit too
        opened(tmp_path)


def test_a_pipe_in_the_place_of_the_mark_holds_up_nobody(tmp_path):
    os.mkfifo(tmp_path / MARK)
    with pytest.raises(StorageProblem, match="no regular file"):
        HomeLog(tmp_path / "log", 0)
