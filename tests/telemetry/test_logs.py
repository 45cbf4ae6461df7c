"""Log lines: text as people read it, JSON as machines do, and no object that can stop them."""

import logging
import sys
from datetime import datetime

import msgspec
import pytest

from sentinel.errors import InvalidDefinition
from sentinel.telemetry.logs import SteadyHandler, configure_logging, request_id, trace_id

_log = logging.getLogger("sentinel.test")


@pytest.fixture
def configure(capsys):
    """configure_logging without pytest's own handlers, which stop a test at an odd object; gives what is written."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def configured(*given):
        root.handlers[:] = [one for one in root.handlers if isinstance(one, SteadyHandler)]
        configure_logging(*given)
        return lambda: capsys.readouterr().err.splitlines()

    yield configured
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


def test_ids_come_from_the_context_or_from_extra(configure_json):
    lines = configure_json()
    tokens = request_id.set("r-1"), trace_id.set("t-1")
    _log.info("one")
    _log.info("two", extra={"request_id": "r-2", "trace_id": 7})
    request_id.reset(tokens[0])
    trace_id.reset(tokens[1])
    _log.info("three")
    one, two, three = lines()
    assert (one["request_id"], one["trace_id"]) == ("r-1", "t-1")
    assert (two["request_id"], two["trace_id"]) == ("r-2", "7")
    assert "request_id" not in three


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


def test_an_unknown_level_is_named():
    with pytest.raises(InvalidDefinition, match=r"'LOUD'.*DEBUG, INFO"):
        configure_logging("LOUD")
