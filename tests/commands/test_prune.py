"""`sentinel log prune`: what is old leaves the log, with a server at work and without, and all that is needed stays."""

import json
import shutil
import time
import urllib.error
import urllib.request
from contextlib import closing

import pytest
from typer.testing import CliRunner

from sentinel.cli import app
from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.record.applied import HomeDeployment, log_folder
from sentinel.record.file_log import FileLog
from sentinel.record.log import Kind
from sentinel.record.verify import verify

HOST = "127.0.0.1"
SOON_S = 120


def prune(home, *arguments, code=0, **environment):
    done = CliRunner().invoke(app, ["log", "prune", "--home", str(home), *arguments], env=environment)
    assert done.exit_code == code, (done.exit_code, done.output, done.exception)
    return " ".join(done.stderr.split()) if "--json" not in arguments else json.loads(done.stdout)


def payments(begin, end):
    return [
        {"transaction_id": f"t{n}", "event_time": "2025-02-01T10:00:00Z", "amount": n, "card": f"c{n % 5}", "shop": "s"}
        for n in range(begin, end)
    ]


def until(condition, seconds=SOON_S):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)
    return found


@pytest.fixture
def home(tmp_path, made):
    """A home folder in whose log 90 decisions of 1970 stand in small segments, and in whose view as well."""
    with closing(FileLog(log_folder(tmp_path), 1, segment_bytes=4_096)) as log:
        for n in range(30):
            log.write(Kind.DECIDED, 3, 5, made.decided([{"id": f"t{n}-{m}"} for m in range(3)]))
    assert CliRunner().invoke(app, ["views", "rebuild", "--home", str(tmp_path)]).exit_code == 0
    return tmp_path


@pytest.fixture
def serve(four_models_home, tmp_path):
    """Starts a server over a copy of the home with four models, with an environment of its own."""
    shutil.copytree(four_models_home, tmp_path / "home")
    started = []

    def start(**environment):
        environment = {"SENTINEL_SNAPSHOT_EVERY": "1", **environment}
        started.append(ServerProcess(tmp_path / "home", HOST, free_port(HOST), environment=environment))
        started[-1].start()
        return started[-1]

    yield start
    for server in started:
        server.stop()
        assert "Traceback" not in (server.home / "server.log").read_text()


def get(server, path):
    try:
        with urllib.request.urlopen(f"http://{HOST}:{server.port}{path}", timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_server_is_asked_and_what_is_old_is_gone_everywhere(serve, post, tmp_path):
    archive = tmp_path / "archive"
    server = serve(SENTINEL_REMEMBER_IDS="5s", SENTINEL_ARCHIVE=str(archive))
    post(server.port, "/v1/score", payments(0, 50))
    until(lambda: prune(server.home, "--keep", "5s", "--archive", str(archive), "--json")["first"] > 50)
    post(server.port, "/v1/score", payments(50, 60))
    assert [get(server, f"/v1/decisions/{one}")[0] for one in ("t0", "t55")] == [404, 200]
    repeats = post(server.port, "/v1/score", [*payments(0, 1), *payments(55, 56)])
    assert [one["replayed"] for one in repeats] == [False, True]
    until(lambda: len(get(server, "/v1/decisions?limit=500")[1]["decisions"]) == 11)
    assert get(server, "/health")[1]["log"]["first"] > 50
    assert verify(log_folder(server.home)).findings == []
    (copies,) = archive.iterdir()
    assert copies.name == get(server, "/health")[1]["log"]["id"]
    for copy in copies.glob("*.segment"):  # put back, they are the log again
        shutil.copy(copy, log_folder(server.home))
    assert (verify(log_folder(server.home)).first, verify(log_folder(server.home)).findings) == (1, [])


def test_a_server_copies_its_log_to_its_own_archive_only(serve, tmp_path):
    """Whoever has a key for `operate` may otherwise have it where others read it."""
    server = serve(SENTINEL_ARCHIVE=str(tmp_path / "archive"))
    for other in (tmp_path / "web", tmp_path / "archive" / ".." / "web", "archive"):
        assert "its own archive only" in prune(server.home, "--archive", str(other), code=1)
    prune(server.home, "--keep", "180d", "--archive", str(tmp_path / "archive"))
    server.stop()
    server = serve()
    assert "set SENTINEL_ARCHIVE" in prune(server.home, "--keep", "180d", "--archive", str(tmp_path / "web"), code=1)
    assert not (tmp_path / "web").exists()


def test_a_model_whose_features_the_log_no_longer_has_is_refused_before_anything_changes(serve, post):
    """v3 was never served, and of what came in after its history some is gone; v2 has the features of v1."""
    server = serve(SENTINEL_REMEMBER_IDS="5s")
    post(server.port, "/v1/score", payments(0, 50))
    until(lambda: prune(server.home, "--keep", "5s", "--json")["first"] > 50)

    def promote(version, code):
        done = CliRunner().invoke(app, ["models", "promote", version, "--home", str(server.home)])
        assert done.exit_code == code
        return " ".join(done.stderr.split())

    assert "says 400" in (told := promote("v3", 1))
    assert "is no longer kept; train on a newer history" in told
    promote("v2", 0)
    server.stop()
    assert "is no longer kept; train on a newer history" in promote("v3", 1)
    server.start()
    assert post(server.port, "/v1/score", payments(60, 61))[0]["model_version"] == "v2"


def test_without_a_server_the_log_is_pruned_here(home, tmp_path):
    before = verify(log_folder(home))
    told = prune(home, "--archive", str(tmp_path / "archive"))
    found = verify(log_folder(home))
    assert (found.first, found.end, found.segments, found.findings) == (91, 93, 1, [])  # a heartbeat, and the audit
    assert f"{before.segments} segments" in told
    assert "removed" in told
    assert "the log begins at position 91" in told
    assert len(list((tmp_path / "archive").glob("*/*.segment"))) == before.segments
    (noted,) = HomeDeployment(home).audit(1).changes
    assert (noted.what, noted.before, noted.after) == ("log prune", '{"first":1}', '{"first":91}')
    again = prune(home, "--json")
    assert (again["removed"], again["removed_bytes"], again["held_by"], again["more"]) == (0, 0, [], False)


def test_a_dry_run_tells_the_same_and_removes_nothing(home):
    before = verify(log_folder(home))
    would = prune(home, "--dry-run", "--json")
    assert verify(log_folder(home)) == before
    assert (would["dry_run"], would["removed"], would["first"]) == (
        True,
        before.segments - 1,
        1,
    )  # one is not closed yet
    assert "would be removed" in prune(home, "--dry-run")
    assert prune(home, "--json")["removed"] == before.segments


def test_what_holds_it_back_is_told(home):
    (home / "views.db").unlink()
    for options in ((), ("--dry-run",)):
        told = prune(home, *options)
        assert "0 segments" in told
        assert "held back: the view, views.db, has read up to position 0" in told
    assert verify(log_folder(home)).first == 1


@pytest.mark.parametrize(
    ("arguments", "environment", "text"),
    [
        (("--keep", "forever"), {}, "say how much of it to keep with --keep"),
        ((), {"SENTINEL_KEEP_LOG": "forever"}, "say how much of it to keep with --keep"),
        (("--keep", "0d"), {}, "'0d' is no duration"),
        ((), {"SENTINEL_KEEP_LOG": "long"}, "'long' is no duration"),
        ((), {"SENTINEL_REMEMBER_IDS": "forever"}, "'forever' is no duration"),
    ],
)
def test_what_is_no_time_to_keep_is_refused(home, arguments, environment, text):
    for options in ((), ("--dry-run",)):
        assert text in prune(home, *arguments, *options, code=1, **environment)
    assert verify(log_folder(home)).first == 1


def test_the_settings_say_how_much_is_kept_when_nothing_else_does(home):
    with closing(FileLog(log_folder(home), 1)) as log:
        log.write(Kind.HEARTBEAT, 1, time.time_ns() // 1_000, b"")
    assert prune(home, "--dry-run", "--json", SENTINEL_KEEP_LOG="40000d")["removed"] == 0
    assert prune(home, "--dry-run", "--json", SENTINEL_KEEP_LOG="180d")["removed"] > 0
    found = prune(home, "--dry-run", "--json", SENTINEL_REMEMBER_IDS="40000d")
    assert found["removed"] == 0
    assert found["held_by"] == ["its ids are remembered for 40000 days (SENTINEL_REMEMBER_IDS)"]


def test_a_folder_without_a_log_is_left_as_it_is(tmp_path):
    for options in ((), ("--dry-run",)):
        assert "there is no log" in prune(tmp_path / "none", *options, code=1)
    assert not (tmp_path / "none").exists()


def test_an_archive_that_cannot_be_written_keeps_everything(home, tmp_path):
    (tmp_path / "archive").write_text("a file")
    told = prune(home, "--archive", str(tmp_path / "archive"), code=1)
    assert "cannot be read: Not a directory; free or repair that disk" in told
    assert verify(log_folder(home)).first == 1


def test_a_server_prunes_by_itself_and_shows_it(serve, post):
    server = serve(SENTINEL_REMEMBER_IDS="4s", SENTINEL_KEEP_LOG="4s")
    assert get(server, "/health")[1]["log"]["pruning"]["looked_at"] is None
    post(server.port, "/v1/score", payments(0, 50))
    until(lambda: get(server, "/health")[1]["log"]["first"] > 50)
    shown = until(lambda: (found := get(server, "/health")[1]["log"]) and found["pruning"]["pruned_at"] and found)
    assert shown["pruning"].keys() == {"looked_at", "pruned_at", "held_by", "problem", "warning"}
    assert shown["pruning"]["problem"] is None
    assert 0 <= shown["age_s"] < 40
    with urllib.request.urlopen(f"http://{HOST}:{server.port}/metrics/prom", timeout=30) as answer:
        figures = answer.read().decode()
    for name in ("first_position", "held_by", "pruned_seconds", "oldest_seconds"):
        assert f"\nsentinel_log_{name} " in figures
    server.stop()
    server.start()
    assert post(server.port, "/v1/score", payments(0, 1))[0]["replayed"] is False


def test_what_was_forgotten_stays_so_after_a_restart(serve, post):
    server = serve(SENTINEL_REMEMBER_IDS="3s")
    post(server.port, "/v1/score", payments(0, 5))
    assert post(server.port, "/v1/score", payments(0, 1))[0]["replayed"] is True
    time.sleep(3)
    server.stop()
    server.start()
    assert post(server.port, "/v1/score", payments(0, 1))[0]["replayed"] is False


def test_what_holds_a_log_back_for_long_is_a_warning(serve, post):
    server = serve(SENTINEL_KEEP_LOG="1s")  # ids are remembered for longer
    post(server.port, "/v1/score", payments(0, 50))
    warning = until(lambda: get(server, "/health")[1]["log"]["pruning"]["warning"])
    assert "twice as long ago as it is to be kept: its ids are remembered for 180 days" in warning
    assert get(server, "/health")[1]["log"]["first"] == 1
    assert post(server.port, "/v1/score", payments(0, 1))[0]["replayed"] is True


def test_a_server_with_a_key_wants_it(serve):
    server = serve(SENTINEL_ADMIN_KEY="an-admin-key-of-its-own", SENTINEL_KEEP_LOG="forever")
    for options in ((), ("--dry-run",)):
        assert "says 401" in prune(server.home, "--keep", "1d", *options, code=1)
    assert prune(server.home, "--keep", "1d", "--json", SENTINEL_ADMIN_KEY="an-admin-key-of-its-own")["removed"] == 0
