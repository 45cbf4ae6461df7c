"""Log lines: text as people read it, JSON as machines do, and no object that can stop them."""

import errno
import io
import json
import logging
import shutil
import sys
import urllib.request
from datetime import datetime

import msgspec
import pytest

from sentinel.commands.server_process import ServerFailed, ServerProcess, free_port
from sentinel.config import read_settings
from sentinel.errors import InvalidDefinition
from sentinel.telemetry.logs import MOST_FAULTS, JsonFormatter, Sparing, SteadyFile, SteadyHandler, configure_logging

OURS = (SteadyHandler, SteadyFile)
_log = logging.getLogger("sentinel.test")


@pytest.fixture
def configure(capsys):
    """configure_logging without pytest's own handlers, which stop a test at an odd object; gives what is written."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def configured(*given):
        root.handlers[:] = [one for one in root.handlers if isinstance(one, OURS)]
        configure_logging(*given)
        return lambda: capsys.readouterr().err.splitlines()

    yield configured
    for one in root.handlers:
        if isinstance(one, OURS):
            one.close()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def configure_json(configure):
    """The same for JSON, from INFO on; gives the lines that are written."""

    def configured():
        written = configure("info", "json")
        return lambda: [msgspec.json.decode(line) for line in written()]

    return configured


class Odd:
    """Cannot be shown."""

    def __str__(self):
        raise LookupError("no")

    __repr__ = __str__


class Endless:
    """Cannot be shown either."""

    def __str__(self):
        return str(self)


def test_text_has_time_level_name_and_message(configure):
    lines = configure()
    _log.info("too quiet")
    _log.warning("%d left", 3)
    (line,) = lines()
    assert line.endswith(" WARNING sentinel.test: 3 left")


def test_a_json_line_tells_when_where_and_what(configure_json):
    lines = configure_json()
    _log.info('%s says "hi"\nand leaves', "she")
    (line,) = lines()
    assert datetime.fromisoformat(line.pop("time")).utcoffset().total_seconds() == 0
    assert line == {"level": "INFO", "logger": "sentinel.test", "message": 'she says "hi"\nand leaves'}


def test_ids_come_from_extra(configure_json):
    lines = configure_json()
    _log.info("one", extra={"request_id": "r-1", "trace_id": 7})
    _log.info("two", extra={"request_id": None})
    one, two = lines()
    assert (one["request_id"], one["trace_id"]) == ("r-1", "7")
    assert "request_id" not in two


def test_an_exception_stays_on_its_line(configure_json):
    lines = configure_json()
    try:
        int("broken\nin two")
    except ValueError:
        _log.exception("it failed", stack_info=True)
    (line,) = lines()
    assert line["message"] == "it failed"
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert "ValueError" in line["exception"]
    assert "test_logs.py" in line["stack"]


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda: _log.info("%s here", Odd()), "%s here [LookupError]"),
        (lambda: _log.info("%s here", Endless()), "%s here [RecursionError]"),
        (lambda: _log.info("%d %d", 1), "%d %d [TypeError]"),
        (lambda: _log.info(Odd()), "Odd [LookupError]"),
        (lambda: _log.info("odd id", extra={"request_id": Odd()}), "odd id [LookupError]"),
        (lambda: _log.info("half \ud83d of a pair"), "half \\ud83d of a pair"),
        (lambda: _log.info(b"bytes"), "b'bytes'"),
    ],
)
def test_odd_objects_become_a_line_all_the_same(configure_json, write, message):
    lines = configure_json()
    write()
    (line,) = lines()
    assert line["message"] == message
    assert line["level"] == "INFO"


def test_odd_exceptions_become_a_line_too(configure_json):
    lines = configure_json()

    class OddError(Exception):
        __str__ = Odd.__str__

    _log.error("it failed", exc_info=OddError())
    (line,) = lines()
    assert "OddError" in line["exception"]


def test_text_survives_odd_objects(configure):
    lines = configure("INFO")
    _log.info("%s here", Odd())
    (line,) = lines()
    assert line.endswith("INFO sentinel.test: %s here [LookupError]")


def test_a_stream_that_is_gone_does_not_stop_the_caller(configure, monkeypatch, tmp_path):
    with (tmp_path / "closed").open("w") as closed:
        monkeypatch.setattr(sys, "stderr", closed)
        configure("INFO", "json")
    monkeypatch.setattr(sys, "stderr", None)
    _log.info("nobody reads this")


def test_configuring_again_replaces_what_was(configure):
    configure("INFO", "json")
    lines = configure("INFO", "text")
    _log.info("once")
    assert len(lines()) == 1


# to a file


@pytest.fixture
def file(tmp_path):
    return tmp_path / "some" / "folder" / "sentinel.log"


def test_a_file_gets_the_lines_instead_and_is_gone_on_with(configure, file):
    for style in ("text", "json"):
        errors = configure("INFO", style, file)
        _log.info("in %s", style)
        _log.info("%s here", Odd())
    text, odd, as_json, _ = file.read_text().splitlines()
    assert text.endswith("INFO sentinel.test: in text")
    assert odd.endswith("INFO sentinel.test: %s here [LookupError]")
    assert msgspec.json.decode(as_json)["message"] == "in json"
    assert errors() == []


def test_a_file_of_5_mb_is_begun_anew_and_five_older_ones_are_kept(configure, file):
    configure("INFO", "text", file)
    size, lines = 10_000, 3_700
    for n in range(lines):
        _log.info("%05d %s", n, "x" * size)
    files = [file, *(file.with_name(f"{file.name}.{n}") for n in range(1, 6))]
    assert sorted(file.parent.iterdir()) == sorted(files)
    assert all(5_000_000 - 2 * size < one.stat().st_size <= 5_000_000 for one in files[1:])
    assert files[0].stat().st_size <= 5_000_000
    kept = [int(line.split()[4]) for one in reversed(files) for line in one.read_text().splitlines()]
    assert kept == list(range(lines - len(kept), lines))
    assert kept[0] > 0


def test_a_file_that_cannot_be_written_is_named(file, tmp_path):
    (tmp_path / "some").write_text("a file where a folder should be")
    with pytest.raises(InvalidDefinition, match=r"no log lines can be written to .*sentinel\.log"):
        configure_logging("INFO", "text", file)


def test_the_environment_says_how_much_is_told_and_where(tmp_path):
    assert (read_settings({}, {}).log_level, read_settings({}, {}).log_to) == ("WARNING", None)
    given = read_settings({}, {"SENTINEL_LOG_LEVEL": "DEBUG", "SENTINEL_LOG_TO": str(tmp_path / "log")})
    assert (given.log_level, given.log_to) == ("DEBUG", tmp_path / "log")
    with pytest.raises(InvalidDefinition, match="LOUD"):
        read_settings({}, {"SENTINEL_LOG_LEVEL": "LOUD"})


@pytest.fixture
def serving(two_models_home, tmp_path):
    """A server that has changed its champion, which is a warning; with an environment of its own."""
    shutil.copytree(two_models_home, tmp_path / "home")
    started = []

    def serve(**environment):
        server = ServerProcess(tmp_path / "home", "127.0.0.1", free_port("127.0.0.1"), environment=environment)
        started.append(server)
        server.start()
        asked = urllib.request.Request(
            f"http://127.0.0.1:{server.port}/admin/reload", b"", {"content-type": "application/json"}
        )
        with urllib.request.urlopen(asked, timeout=30) as answer:
            assert json.load(answer)["new_version"] == "v2"
        server.stop()
        return (server.home / "server.log").read_text()

    yield serve
    for server in started:
        server.stop()


SWAP = "v2 is the champion now, v1 was"


def test_a_server_writes_its_lines_where_it_is_told_to(serving, file):
    assert SWAP not in serving(SENTINEL_LOG_TO=str(file), SENTINEL_LOG_STYLE="json")
    lines = [msgspec.json.decode(line) for line in file.read_text().splitlines()]
    assert [(one["level"], one["logger"]) for one in lines if one["message"] == SWAP] == [
        ("WARNING", "sentinel.serve.rollout")
    ]


@pytest.mark.parametrize(("level", "is_told"), [("WARNING", True), ("ERROR", False)])
def test_a_server_tells_no_less_than_its_level(serving, level, is_told):
    assert (SWAP in serving(SENTINEL_LOG_LEVEL=level)) == is_told


def test_a_server_with_an_unknown_level_does_not_start(serving):
    with pytest.raises(ServerFailed, match="LOUD"):
        serving(SENTINEL_LOG_LEVEL="LOUD")


def test_the_same_fault_is_written_some_times_a_minute_and_counted(configure):
    written = configure("warning", "text")
    for n in range(1_000):
        try:
            {}[n]
        except KeyError:
            _log.exception("number %d failed", n)
    _log.error("another fault")
    lines = written()
    assert [line.split(": ", 1)[1] for line in lines if " ERROR " in line] == [
        *(f"number {n} failed" for n in range(4)),
        "number 4 failed (for up to a minute the like is only counted)",
        "another fault",
    ]
    assert sum("KeyError" in line for line in lines) == 5


def record_at(created, message="fault", level=logging.ERROR):
    record = logging.LogRecord("sentinel", level, "file.py", 1, message, (), None)
    record.created = created
    return record


def test_the_next_minute_tells_how_many_there_were():
    sparing = Sparing()
    assert sum(sparing.filter(record_at(1000.0 + n / 100)) for n in range(500)) == 5
    later = record_at(1060.0)
    assert sparing.filter(later)
    assert json.loads(JsonFormatter().format(later))["repeats"] == "495 like it were not written since the last one"
    assert sparing.filter(record_at(1.0)), "the clock was set back"
    after = record_at(61.0)
    assert sparing.filter(after)
    assert "repeats" not in json.loads(JsonFormatter().format(after))


def test_what_is_no_fault_is_always_written_and_what_is_known_is_bounded():
    sparing = Sparing()
    assert all(sparing.filter(record_at(1.0, level=logging.INFO)) for _ in range(100))
    for n in range(10_000):
        assert sparing.filter(record_at(1.0, f"fault {n}"))
    assert len(sparing._seen) == MOST_FAULTS


class Full(io.StringIO):
    """A file on a full disk."""

    def write(self, text):  # noqa: ARG002
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_under_the_log_file_is_said_once_a_minute_and_not_with_every_line(tmp_path, configure):
    written = configure("warning", "text", tmp_path / "log")
    (handler,) = [one for one in logging.getLogger().handlers if isinstance(one, SteadyFile)]
    handler.stream.close()
    handler.stream = Full()
    for n in range(100):
        _log.error("%d %s", n, "x" * 10_000)
        _log.error(f"other {n}")
    assert written() == ["log lines cannot be written: [Errno 28] No space left on device"]
