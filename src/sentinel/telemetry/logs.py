"""Log lines on standard error: text for people, or a JSON object a line for machines."""

import logging
import sys
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Literal, TextIO, TypeAlias

import msgspec

from sentinel.errors import InvalidDefinition

Style: TypeAlias = Literal["text", "json"]

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
        )
        return msgspec.json.encode(line).decode()


class _Steady(logging.Handler):
    """Writes every record in some form: one whose arguments cannot be shown is written without them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record; no fault of its arguments reaches the caller."""
        try:
            super().emit(record)
        except RecursionError:  # the one fault that the standard library hands on
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the standard library's name
        """Called while the fault is handled."""
        if isinstance(record, _Bare):  # then the stream is what is broken
            super().handleError(record)
            return
        fault = type(sys.exc_info()[1]).__name__
        template = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        bare = _Bare(record.name, record.levelno, record.pathname, record.lineno, "%s [%s]", (template, fault), None)
        bare.created, bare.msecs = record.created, record.msecs
        self.emit(bare)


class SteadyHandler(_Steady, logging.StreamHandler[TextIO]):
    """To standard error."""


class SteadyFile(_Steady, RotatingFileHandler):
    """To a file, which is begun anew when it is large."""


class _Bare(logging.LogRecord):
    """What is left of a record that could not be written: its template, and what went wrong."""


def configure_logging(level: str = "WARNING", style: Style = "text", to: Path | None = None) -> None:
    """Log lines of this level and above to standard error, instead of whatever was configured before.

    `to` is a file to write to instead: at 5 MB it is begun anew, and five older ones are kept.
    """
    handler: logging.Handler = SteadyHandler()
    if to is not None:
        try:
            to.parent.mkdir(parents=True, exist_ok=True)
            handler = SteadyFile(to, maxBytes=_FILE_BYTES, backupCount=_OLDER_FILES, encoding="utf-8")
        except OSError as error:
            raise InvalidDefinition(f"no log lines can be written to {to}: {error.strerror}") from error
    handler.setFormatter(JsonFormatter() if style == "json" else logging.Formatter(_TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _named(record: logging.LogRecord, name: str) -> str | None:
    value = getattr(record, name, None)
    return None if value is None else _clean(str(value))


def _clean(text: str) -> str:
    """Halves of surrogate pairs cannot be encoded; they are spelled out."""
    return text.encode(errors="backslashreplace").decode()
