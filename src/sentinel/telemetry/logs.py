"""Log lines on standard error: text for people, a JSON object a line for machines; the same fault only now and then."""

import contextlib
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from threading import Lock
from typing import Literal, TextIO, TypeAlias

import msgspec

from sentinel.errors import InvalidDefinition

Style: TypeAlias = Literal["text", "json"]

MOST_WRITTEN, MINUTE_S = 5, 60.0
MOST_FAULTS = 256
_FILE_BYTES, _OLDER_FILES = 5_000_000, 5
_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class Line(msgspec.Struct, omit_defaults=True):
    """A log line as JSON. `time` is ISO 8601 in UTC; the ids are those of `extra`; what is not known is left out."""

    time: str
    level: str
    logger: str
    message: str
    request_id: str | None = None
    trace_id: str | None = None
    exception: str | None = None
    stack: str | None = None
    repeats: str | None = None


class JsonFormatter(logging.Formatter):
    """Makes one line of JSON of a record."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        line = Line(
            time=datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            level=record.levelname,
            logger=record.name,
            message=_clean(record.getMessage()),
            request_id=_named(record, "request_id"),
            trace_id=_named(record, "trace_id"),
            exception=_clean(self.formatException(record.exc_info)) if record.exc_info else None,
            stack=_clean(self.formatStack(record.stack_info)) if record.stack_info else None,
            repeats=_repeats(record),
        )
        return msgspec.json.encode(line).decode()


class TextFormatter(logging.Formatter):
    """Makes text of a record, with its traceback."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the standard library's name
        """The first line."""
        repeats = _repeats(record)
        return super().formatMessage(record) + (f" ({repeats})" if repeats else "")


class Sparing(logging.Filter):
    """Lets the same fault through some times a minute, and counts the rest: the next one that is written tells.

    The same is a warning or an error of one logger with one template, from one line of the code. `MOST_FAULTS` of them
    are known at a time. For any thread; the time is that of the records.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[tuple[object, ...], _Minute] = {}
        self._looking = Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be written."""
        if record.levelno < logging.WARNING:
            return True
        with self._looking:
            return self._counted(record)

    def _counted(self, record: logging.LogRecord) -> bool:
        fault = _fault_of(record)
        minute = self._seen.pop(fault, None)
        held_back = 0
        if minute is None or not 0 <= record.created - minute.began_s < MINUTE_S:
            held_back = minute.held_back if minute else 0
            minute = _Minute(record.created)
        while len(self._seen) >= MOST_FAULTS:
            del self._seen[next(iter(self._seen))]
        self._seen[fault] = minute
        minute.written += 1
        if minute.written > MOST_WRITTEN:
            minute.held_back += 1
            return False
        record.held_back, record.is_last = held_back, minute.written == MOST_WRITTEN
        return True


class _Minute:
    """What came of one fault since a moment."""

    def __init__(self, began_s: float) -> None:
        self.began_s = began_s
        self.written = self.held_back = 0


class _Steady(logging.Handler):
    """Writes every record in some form: one whose arguments cannot be shown is written without them."""

    _told_s = float("-inf")

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record; no fault of its arguments reaches the caller."""
        try:
            super().emit(record)
        except RecursionError:  # the one fault that the standard library hands on
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the standard library's name
        """Called while the fault is handled."""
        if isinstance(record, _Bare):  # then the stream is what is broken
            self._tell(record.created)
            return
        fault = type(sys.exc_info()[1]).__name__
        template = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        bare = _Bare(record.name, record.levelno, record.pathname, record.lineno, "%s [%s]", (template, fault), None)
        bare.created, bare.msecs = record.created, record.msecs
        self.emit(bare)

    def _tell(self, now_s: float) -> None:
        """Say on standard error that nothing can be written, once a minute."""
        if 0 <= now_s - self._told_s < MINUTE_S:
            return
        self._told_s = now_s
        if sys.stderr is None:
            return
        with contextlib.suppress(OSError, ValueError):  # it may be what is broken
            sys.stderr.write(f"log lines cannot be written: {sys.exc_info()[1]}\n")


class SteadyHandler(_Steady, logging.StreamHandler[TextIO]):
    """To standard error."""


class SteadyFile(_Steady, RotatingFileHandler):
    """To a file, which is begun anew when it is large."""


class _Bare(logging.LogRecord):
    """What is left of a record that could not be written: its template, and what went wrong."""


class _Hiding(logging.Formatter):
    """What another formatter makes, with whatever is secret hidden."""

    def __init__(self, formatter: logging.Formatter, hide: Callable[[str], str]) -> None:
        super().__init__()
        self._formatter, self._hide = formatter, hide

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        return self._hide(self._formatter.format(record))


def configure_logging(
    level: str = "WARNING", style: Style = "text", to: Path | None = None, hide: Callable[[str], str] | None = None
) -> None:
    """Log lines of this level and above to standard error, instead of whatever was configured before.

    Each is written as `hide` gives it back. `to` is a file to write to instead: at 5 MB it is begun anew, and five
    older ones are kept.
    """
    handler: logging.Handler = SteadyHandler()
    if to is not None:
        try:
            to.parent.mkdir(parents=True, exist_ok=True)
            handler = SteadyFile(to, maxBytes=_FILE_BYTES, backupCount=_OLDER_FILES, encoding="utf-8")
        except OSError as error:
            raise InvalidDefinition(f"no log lines can be written to {to}: {error.strerror}") from error
    formatter = JsonFormatter() if style == "json" else TextFormatter(_TEXT)
    handler.setFormatter(formatter if hide is None else _Hiding(formatter, hide))
    handler.addFilter(Sparing())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _fault_of(record: logging.LogRecord) -> tuple[object, ...]:
    """What is the same for records of the same fault."""
    template = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
    kind, trace = (record.exc_info[0], record.exc_info[2]) if record.exc_info else (None, None)
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = (trace.tb_frame.f_code.co_filename, trace.tb_lineno) if trace else (record.pathname, record.lineno)
    return record.name, record.levelno, template, kind and kind.__name__, *place


def _repeats(record: logging.LogRecord) -> str | None:
    """What is to be said of records like this one."""
    said = []
    if held_back := getattr(record, "held_back", 0):
        said.append(f"{held_back} like it were not written since the last one")
    if getattr(record, "is_last", False):
        said.append("for up to a minute the like is only counted")
    return "; ".join(said) or None


def _named(record: logging.LogRecord, name: str) -> str | None:
    value = getattr(record, name, None)
    return None if value is None else _clean(str(value))


def _clean(text: str) -> str:
    """Halves of surrogate pairs cannot be encoded; they are spelled out."""
    return text.encode(errors="backslashreplace").decode()
