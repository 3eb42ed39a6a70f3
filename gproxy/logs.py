"""Log lines on their way out: no session ever waits for a disk, a pipe or a terminal.

    write() ──► lines in memory (bounded) ──► greenlet, every 0.2 s ──► one thread: os.write

A full buffer drops the new line and counts it. A target that fails is reported once,
loses and counts what it was given, and is tried again with the next batch. A stuck one
holds only its thread. A sink belongs to the process that made it: make it after a fork.

Several processes may write to the same target, and no line of one lands within a line of another:

| target | a batch is written | because |
|---|---|---|
| regular file | at once | the kernel lets one write in at a time; ours append |
| pipe, FIFO | in pieces of at most PIPE_BUF | POSIX: such a piece goes in whole or, O_NONBLOCK, not at all |
| unix stream socket (journald) | the same | Linux makes so small a write one buffer, queued whole or not at all |
| terminal, any other | the same | a promise of nobody, but a small write is seldom cut |

A piece ends where a line ends. A line longer than PIPE_BUF goes on its own, and if the
target is full, others may write into it: that can't be helped.
"""

from __future__ import annotations

import logging
import os
import select
import stat
import sys
from collections.abc import Callable
from threading import get_ident

import gevent
from gevent.event import Event
from gevent.threadpool import ThreadPool

from gproxy.core.settings import LogSettings
from gproxy.errors import GproxyError
from gproxy.logformat import OwnHandler, end_of_piece, formatter, install
from gproxy.net.background import forever

BUFFER = 4 * 1024 * 1024  # bytes of lines that may wait; at 120 bytes a line, about 35,000 lines
FLUSH_BYTES = 64 * 1024  # a write this large costs no more per line than a larger one
FLUSH_INTERVAL = 0.2  # seconds; what a crash may lose, and how late `tail -f` runs
EXIT_TIMEOUT = 1.0  # seconds that a stuck target may delay the process's exit
STDOUT = 1
STDERR = 2
NEWLINE = 10
BLOCKED_POLL = 1000  # ms; how long a closed sink's thread may go on waiting for its target

_log = logging.getLogger("gproxy.logs")


class LogTargetError(GproxyError):
    """A log file that can't be opened."""


def _ignore(_lines: int) -> None:
    pass


def _nothing() -> None:
    """There is nothing that a writer holds."""


class LogSink:
    """A target of lines: `-` for standard output, a path, or an open file descriptor such as `STDERR`.

    `write` is for the hub's thread; from another it is safe, but the line may leave later.
    `dropped` is called with the number of lines just lost.
    """

    def __init__(self, target: str | int, dropped: Callable[[int], object] = _ignore, *, limit: int = BUFFER):
        """LogTargetError if a path can't be opened for appending."""
        self.name = {"-": "standard output", STDERR: "standard error"}.get(target, str(target))
        self.limit = limit
        self._file = _File(target)
        self._dropped = dropped
        self.before_flush: Callable[[], object] = _nothing  # lets a writer hand in what it still holds
        self._lines: list[bytes] = []
        self._waiting = 0  # bytes in _lines
        self._in_thread: list[bytes] = []
        self._writing = 0  # bytes in _in_thread
        self._wake = Event()
        self._thread = get_ident()
        self._pool = ThreadPool(1)
        self._flusher: gevent.Greenlet | None = None
        self._lost = 0  # lines, since the target began to fail
        self._failing = False
        self._closed = False
        self._look_at_room()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "failing" if self._failing else "ok"
        return f"<LogSink {self.name} {state} waiting={self._waiting + self._writing}>"

    def start(self) -> None:
        """Flush from now on, every FLUSH_INTERVAL or FLUSH_BYTES, until `close`."""
        if self._flusher is None and not self._closed:
            self._flusher = gevent.spawn(forever, self._run, _log)

    def write(self, line: str | bytes) -> None:
        """Take one line without its newline. Never blocks."""
        data = line if isinstance(line, bytes) else line.encode(errors="backslashreplace")
        waiting = self._waiting + len(data) + 1
        if waiting > self._room and not self._has_room(waiting):
            self._dropped(1)
            return
        self._lines.append(data)
        self._waiting = waiting

    def _has_room(self, waiting: int) -> bool:
        """Whether one more line may wait, which is the last look at that before a flush is due."""
        if self._closed or waiting + self._writing > self.limit:
            return False
        if waiting >= FLUSH_BYTES and get_ident() == self._thread:
            self._wake.set()
        return True

    def _look_at_room(self) -> None:
        """After a change: how many bytes may wait without a second look."""
        self._room = -1 if self._closed else min(FLUSH_BYTES - 1, self.limit - self._writing)

    def reopen(self) -> None:
        """Open the path anew before the next write, because somebody has renamed the file."""
        self._file.stale = True
        self._wake.set()

    def flush(self, timeout: float = EXIT_TIMEOUT) -> bool:
        """Wait until all lines left, or for `timeout` seconds: then False."""
        self.start()
        self.before_flush()
        with gevent.Timeout(timeout, False):
            while self._lines or self._in_thread:
                self._wake.set()
                gevent.sleep(0.005)
        return not (self._lines or self._in_thread)

    def close(self, timeout: float = EXIT_TIMEOUT) -> None:
        """Flush for at most `timeout` seconds; what is left then is dropped, and so is what still comes."""
        if self._closed:
            return
        flushed = self.flush(timeout)
        self._closed = True
        self._look_at_room()
        if self._flusher is not None:
            self._flusher.kill()
        self._file.abandoned = True
        if flushed:  # if not, the thread is stuck on the descriptor, and ends with the process
            self._pool.kill()
            self._file.close()
        self._drop(len(self._lines) + len(self._in_thread))
        self._lines, self._waiting = [], 0

    def _run(self) -> None:
        self._wake.wait(FLUSH_INTERVAL)
        self._wake.clear()
        self.before_flush()
        if self._lines or self._file.stale:
            self._write_batch()

    def _write_batch(self) -> None:
        """Hand all lines to the thread, wait for it, note what became of them."""
        self._in_thread, self._writing = self._lines, self._waiting
        self._lines, self._waiting = [], 0
        self._look_at_room()
        lost, error = self._pool.apply(self._file.write, (self._in_thread,))
        self._in_thread, self._writing = [], 0
        self._look_at_room()
        self._drop(lost)
        if error is not None:
            self._failed(error, lost)
        elif self._failing:
            self._recovered()

    def _drop(self, lines: int) -> None:
        if lines:
            self._lost += lines
            self._dropped(lines)

    def _failed(self, error: OSError, lost: int) -> None:
        if self._failing:
            return
        self._failing = True
        if lost:
            _log.error("%s can't be written to: %s; log lines are lost until it can", self.name, error.strerror)
        else:
            _log.error("%s can't be opened anew: %s; lines go on to the file that it was", self.name, error.strerror)

    def _recovered(self) -> None:
        if self._lost:
            _log.warning("%s can be written to again, %d log lines were lost", self.name, self._lost)
        else:
            _log.warning("%s is open again, and no line was lost", self.name)
        self._failing, self._lost = False, 0


class _File:
    """A target's descriptor; `write` runs in the sink's thread, and nothing else touches it meanwhile."""

    def __init__(self, target: str | int):
        self._path = target if isinstance(target, str) and target != "-" else None
        self._fd = _descriptor(target)
        self._at_once = _whole_write(self._fd)
        self.abandoned = False  # a write that hangs must write no more, should it ever go on
        self._torn = False  # the last line was written in part
        self._stale = False

    @property
    def stale(self) -> bool:
        """Whether the path must be opened anew. Stays so until that succeeds."""
        return self._stale

    @stale.setter
    def stale(self, value: bool) -> None:
        self._stale = value and self._path is not None

    def write(self, lines: list[bytes]) -> tuple[int, OSError | None]:
        """Write lines; the number of lost ones, and the error if there was one. May block for ever."""
        not_reopened = self._reopen() if self._stale else None
        if not lines:
            return 0, not_reopened
        data = b"\n" * self._torn + b"\n".join(lines) + b"\n"
        lost, error = self._write_all(data)
        return lost, error or not_reopened

    def _write_all(self, data: bytes) -> tuple[int, OSError | None]:
        done, view = 0, memoryview(data)
        try:
            while done < len(data) and not self.abandoned:
                done += self._write_some(view[done : end_of_piece(data, done, self._at_once)])
        except OSError as error:
            self._torn = data[done - 1] != NEWLINE if done else self._torn
            return data.count(b"\n", max(done, self._torn)), error
        self._torn = False
        return 0, None

    def _write_some(self, data: memoryview) -> int:
        try:
            return os.write(self._fd, data)
        except BlockingIOError:  # whoever gave us the descriptor made it non-blocking
            poll = select.poll()
            poll.register(self._fd, select.POLLOUT)
            poll.poll(BLOCKED_POLL)
            return 0

    def _reopen(self) -> OSError | None:
        try:
            fd = _open(str(self._path))
        except OSError as error:
            return error
        os.close(self._fd)
        self._fd, self._stale, self._torn = fd, False, False
        self._at_once = _whole_write(fd)
        return None

    def close(self) -> None:
        """Close a file; standard output and borrowed descriptors stay open."""
        if self._path is not None:
            os.close(self._fd)


def _whole_write(fd: int) -> int:
    """How many bytes one write takes without another process's in between."""
    try:
        regular = stat.S_ISREG(os.fstat(fd).st_mode)
    except OSError:  # no such descriptor: the first write will say so
        return select.PIPE_BUF
    return sys.maxsize if regular else select.PIPE_BUF


def _descriptor(target: str | int) -> int:
    if isinstance(target, int):
        return target
    if target == "-":
        return STDOUT
    try:
        return _open(target)
    except OSError as error:
        raise LogTargetError(f"{target}: can't be opened for the log: {error.strerror}") from error


def _open(path: str) -> int:
    """Append, never truncate. O_NONBLOCK so that a FIFO without a reader is an error and no standstill."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    return os.open(path, flags, 0o640)


class SinkHandler(OwnHandler):
    """The `logging` module's way into a `LogSink`. At exit, `logging.shutdown` flushes it."""

    def __init__(self, sink: LogSink, formatter: logging.Formatter):
        super().__init__()
        self.sink = sink
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.sink.write(self.format(record))
        except Exception:  # noqa: BLE001 - a wrong format string must not end a session
            self.handleError(record)

    def flush(self) -> None:
        self.sink.flush()


def setup_logging(settings: LogSettings, sink: LogSink) -> None:
    """Send what the `gproxy` loggers say to a sink; a second call replaces the first one's work, or the master's."""
    install(SinkHandler(sink, formatter(settings)), settings)
