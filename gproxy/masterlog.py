"""The master process's log: each line is written at once, and none is waited for.

The master has no greenlets and no threads to wait for a pipe that nobody reads, and must
not stand still. So a line that the target does not take now is dropped; how many were, the
next line that gets through is preceded by.

Others share standard error, so its descriptor can't be made non-blocking. What serves instead:

| target | |
|---|---|
| socket (journald) | MSG_DONTWAIT |
| pipe, FIFO, terminal | opened anew through /proc, non-blocking: that is ours alone |
| the same, not ours to open; regular file | poll, then write |

In the last row another process may take the room of a pipe between poll and write; then the
master waits until somebody reads. Nothing better can be had there, and it takes a full pipe,
a lost race and another user's pipe.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import stat
from collections.abc import Callable
from contextlib import suppress

from gproxy.core.settings import LogSettings
from gproxy.logformat import OwnHandler, end_of_piece, formatter, install

STDERR = 2

Write = Callable[[bytes], int]  # how many bytes were taken; OSError, BlockingIOError too, when none were


def setup_master_logging(settings: LogSettings) -> None:
    """Send what the `gproxy` loggers say to standard error, until `setup_logging` in a worker replaces that."""
    install(MasterHandler(STDERR, formatter(settings)), settings)


class MasterHandler(OwnHandler):
    """Writes to a descriptor and never waits. `dropped` is the number of lines lost and not yet told."""

    def __init__(self, fd: int, formatter: logging.Formatter):
        super().__init__()
        self.setFormatter(formatter)
        self.dropped = 0
        self._torn = False  # the last line was written in part
        self._own_fd = _opened_anew(fd)
        self._write = _writer(fd, self._own_fd)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 - a wrong format string must not end the master
            self.handleError(record)
            return
        if self.dropped and self._send(self.format(_losses(self.dropped))):
            self.dropped = 0
        self.dropped += not self._send(line)

    def _send(self, line: str) -> bool:
        """Whether all of it was taken."""
        data = b"\n" * self._torn + line.encode(errors="backslashreplace") + b"\n"
        done = 0
        try:
            while done < len(data):
                end = min(end_of_piece(data, done, select.PIPE_BUF), done + select.PIPE_BUF)
                done += self._write(data[done:end])
        except OSError:
            pass
        if done:
            self._torn = data[done - 1] != ord("\n")
        return done == len(data)

    def close(self) -> None:
        if self._own_fd >= 0:
            os.close(self._own_fd)
            self._own_fd = -1
        super().close()


def _losses(lines: int) -> logging.LogRecord:
    message = "log lines that could not be written, and are lost: %d"
    return logging.LogRecord("gproxy.masterlog", logging.WARNING, __file__, 0, message, (lines,), None)


def _opened_anew(fd: int) -> int:
    """Our own non-blocking way to the same pipe or terminal; -1 where there is none."""
    with suppress(OSError):
        if not _is(fd, stat.S_ISREG):  # it would have an offset of its own there
            return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    return -1


def _writer(fd: int, own_fd: int) -> Write:
    if own_fd >= 0:
        return lambda data: os.write(own_fd, data)
    if _is(fd, stat.S_ISSOCK):
        return lambda data: _send_now(fd, data)
    return lambda data: _write_if_room(fd, data)


def _is(fd: int, kind: Callable[[int], bool]) -> bool:
    try:
        return kind(os.fstat(fd).st_mode)
    except OSError:  # closed: each write will fail, and be counted
        return False


def _send_now(fd: int, data: bytes) -> int:
    borrowed = socket.socket(fileno=fd)
    try:
        return borrowed.send(data, socket.MSG_DONTWAIT)
    finally:
        borrowed.detach()


def _write_if_room(fd: int, data: bytes) -> int:
    """`data` is no longer than PIPE_BUF: so much fits where poll says that one can write."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    if not poll.poll(0):
        raise BlockingIOError
    return os.write(fd, data)
