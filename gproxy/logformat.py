"""What a log line looks like, where lines may be cut apart, and whose handler the `gproxy` loggers have.

Without gevent, for the master process.
"""

from __future__ import annotations

import json
import logging
import re

from gproxy.accesslog import timestamp
from gproxy.core.settings import LogSettings

SPACE = 32

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class OwnHandler(logging.Handler):
    """One of gproxy's own handlers. The `gproxy` loggers have one at a time."""


def install(handler: OwnHandler, settings: LogSettings) -> None:
    """Make it the handler of the `gproxy` loggers, in place of an earlier one."""
    logger = logging.getLogger("gproxy")
    for earlier in [h for h in logger.handlers if isinstance(h, OwnHandler)]:
        logger.removeHandler(earlier)
        earlier.close()
    logger.addHandler(handler)
    logger.setLevel(settings.level.upper())
    logger.propagate = False


def formatter(settings: LogSettings) -> logging.Formatter:
    return JsonFormatter() if settings.format == "json" else TextFormatter()


class TextFormatter(logging.Formatter):
    """`2026-11-23T12:00:00.123Z info gproxy.health[4711]: message`; a traceback follows, indented."""

    def format(self, record: logging.LogRecord) -> str:
        message = _CONTROL.sub(_escaped, record.getMessage())
        head = f"{timestamp(record.created)} {record.levelname.lower()} {record.name}[{record.process}]: {message}"
        return "\n    ".join([head, *_traceback(self, record).splitlines()])


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, process id, logger, message, and traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": timestamp(record.created),
            "level": record.levelname.lower(),
            "process": record.process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if traceback := _traceback(self, record):
            fields["traceback"] = traceback
        return json.dumps(fields, separators=(",", ":"))


def end_of_piece(data: bytes, start: int, limit: int) -> int:
    """Where the piece of `data` ends that begins at `start` and has whole lines in at most `limit` bytes.

    A line longer than that is a piece. What is indented belongs to the line before (a traceback),
    and stays with it if that is possible. `data` ends with a newline.
    """
    if len(data) - start <= limit:
        return len(data)
    end = last = data.rfind(b"\n", start, start + limit)
    while end >= 0 and data[end + 1] == SPACE:
        end = data.rfind(b"\n", start, end)
    if end < 0:
        end = last if last >= 0 else data.find(b"\n", start + limit)
    return end + 1


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    """The exception's, or a stack that is no exception's."""
    return formatter.formatException(record.exc_info) if record.exc_info else record.stack_info or ""


def _escaped(match: re.Match[str]) -> str:
    return f"\\x{ord(match[0]):02x}"
