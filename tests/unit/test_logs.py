"""The log sink against real files, pipes and devices, and what `logging` sends through it."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from gproxy.core.settings import LogSettings
from gproxy.errors import GproxyError
from gproxy.logformat import end_of_piece
from gproxy.logs import LogSink, SinkHandler, setup_logging
from tests.support.poll import eventually

LINE = b"x" * 99

Open = Callable[..., LogSink]


class Dropped:
    """Counts what a sink reports as lost."""

    lines = 0

    def __call__(self, lines: int) -> None:
        self.lines += lines


@pytest.fixture
def dropped() -> Dropped:
    return Dropped()


@pytest.fixture
def opened() -> Iterator[Open]:
    """Makes started sinks, closed after the test."""
    sinks = []

    def make(*args: object, **options: int) -> LogSink:
        sinks.append(LogSink(*args, **options))  # type: ignore[arg-type]
        sinks[-1].start()
        return sinks[-1]

    yield make
    for sink in sinks:
        sink.close(0.1)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        with suppress(OSError):
            os.close(fd)


def read(pipe: int, size: int) -> bytes:
    """What comes out of a pipe until there are `size` bytes; the hub runs meanwhile."""
    os.set_blocking(pipe, False)
    received = bytearray()

    def enough() -> bool:
        with suppress(BlockingIOError):
            received.extend(os.read(pipe, 4096 * 4))
        return len(received) >= size

    eventually(enough, what=f"{size} bytes")
    return bytes(received)


def record(name: str, level: int, message: str, *args: object) -> logging.LogRecord:
    """One made at 2026-11-23T12:00:00.500Z."""
    record = logging.LogRecord(name, level, "", 0, message, args, None)
    record.created = 1795435200.5
    return record


@pytest.fixture
def gproxy_logger() -> Iterator[logging.Logger]:
    """The package's logger, given back as it was."""
    logger = logging.getLogger("gproxy")
    before = logger.handlers[:], logger.level, logger.propagate
    yield logger
    logger.handlers[:], logger.level, logger.propagate = before


def test_lines_arrive_whole_and_in_order(tmp_path: Path, opened: Open) -> None:
    path = tmp_path / "log"
    sink = opened(str(path))
    for line in ("one", b"two", "drei \u20ac \ud800"):
        sink.write(line)
    eventually(lambda: path.read_bytes() == b"one\ntwo\ndrei \xe2\x82\xac \\ud800\n", what="three lines")


def test_a_file_is_appended_to_and_not_for_everybody_to_read(tmp_path: Path, opened: Open) -> None:
    path = tmp_path / "log"
    opened(str(path)).close()
    assert stat.S_IMODE(path.stat().st_mode) & 0o137 == 0
    path.write_text("old\n")
    sink = opened(str(path))
    sink.write("new")
    sink.close()
    assert path.read_text() == "old\nnew\n"


def test_flush_works_on_a_sink_not_yet_started(tmp_path: Path) -> None:
    sink = LogSink(str(tmp_path / "log"))
    sink.write("early")
    assert sink.flush()
    assert (tmp_path / "log").read_text() == "early\n"
    sink.close()


def test_much_at_once_does_not_wait_for_the_interval(
    tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gproxy.logs.FLUSH_INTERVAL", 3600.0)
    path = tmp_path / "log"
    sink = opened(str(path))
    for _ in range(700):
        sink.write(LINE)
    eventually(lambda: path.stat().st_size == 70_000, what="70 kB in the file")


def test_a_pipe_nobody_reads_stops_only_the_log(pipe: tuple[int, int], opened: Open, dropped: Dropped) -> None:
    sink = opened(pipe[1], dropped, limit=200_000)
    for _ in range(1000):
        sink.write(LINE)
    eventually(lambda: sink._writing == 100_000, what="the thread is stuck")
    started = time.monotonic()
    for _ in range(3000):
        sink.write(LINE)
    eventually(lambda: True)  # the hub still runs
    assert time.monotonic() - started < 1
    assert dropped.lines == 2000  # 1000 stuck, 1000 waiting


def test_a_pipe_read_at_last_gets_what_was_kept(pipe: tuple[int, int], opened: Open, dropped: Dropped) -> None:
    sink = opened(pipe[1], dropped, limit=150_000)
    for _ in range(2000):
        sink.write(LINE)
    assert read(pipe[0], 150_000) == (LINE + b"\n") * 1500
    assert dropped.lines == 500


def test_a_full_non_blocking_pipe_is_waited_for(pipe: tuple[int, int], opened: Open, dropped: Dropped) -> None:
    os.set_blocking(pipe[1], False)
    sink = opened(pipe[1], dropped)
    for _ in range(1000):
        sink.write(LINE)
    assert read(pipe[0], 100_000) == (LINE + b"\n") * 1000
    assert dropped.lines == 0


def test_close_is_bounded_when_the_target_is_stuck(pipe: tuple[int, int], opened: Open, dropped: Dropped) -> None:
    sink = opened(pipe[1], dropped)
    for _ in range(1000):
        sink.write(LINE)
    started = time.monotonic()
    sink.close(0.2)
    assert time.monotonic() - started < 2
    assert dropped.lines == 1000
    sink.write("late")
    assert dropped.lines == 1001


def test_a_closed_sink_writes_no_more_when_its_target_wakes(pipe: tuple[int, int], opened: Open) -> None:
    os.set_blocking(pipe[1], False)
    sink = opened(pipe[1])
    for _ in range(1000):
        sink.write(LINE)
    eventually(lambda: sink._writing, what="the thread waits for the pipe")
    sink.close(0.05)
    kept = len(os.read(pipe[0], 100_000))
    eventually(lambda: len(sink._pool) == 0, what="the thread has ended its job")
    os.close(pipe[1])
    assert os.read(pipe[0], 100_000) == b""
    assert kept < 100_000


def test_a_full_disk_is_reported_once_and_every_line_counted(
    opened: Open, dropped: Dropped, caplog: pytest.LogCaptureFixture
) -> None:
    sink = opened("/dev/full", dropped)
    for _ in range(3):
        sink.write(LINE)
        sink.write(LINE)
        assert sink.flush()
    assert dropped.lines == 6
    assert caplog.messages == [
        "/dev/full can't be written to: No space left on device; log lines are lost until it can"
    ]


def test_a_pipe_whose_reader_left_is_reported_and_counted(
    pipe: tuple[int, int], opened: Open, dropped: Dropped, caplog: pytest.LogCaptureFixture
) -> None:
    os.close(pipe[0])
    sink = opened(pipe[1], dropped)
    sink.write(LINE)
    eventually(lambda: dropped.lines == 1, what="the line counted")
    assert "Broken pipe" in caplog.text


def test_a_target_that_works_again_says_so_once(
    tmp_path: Path, opened: Open, dropped: Dropped, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "log"
    path.symlink_to("/dev/full")
    sink = opened(str(path), dropped)
    sink.write(LINE)
    eventually(lambda: dropped.lines == 1, what="the line counted")
    path.unlink()
    sink.reopen()
    for line in ("back", "and on"):
        sink.write(line)
        assert sink.flush()
    assert path.read_text() == "back\nand on\n"
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert "1 log lines were lost" in caplog.text


def test_a_line_torn_by_an_error_does_not_spoil_the_next(
    tmp_path: Path, opened: Open, dropped: Dropped, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    sink = opened(str(path), dropped)
    write, calls = os.write, iter(range(9))

    def scarce(fd: int, data: memoryview) -> int:
        call = next(calls)
        if call == 1:
            raise OSError(errno.ENOSPC, "full")
        return write(fd, data[:5] if call == 0 else data)

    monkeypatch.setattr("gproxy.logs.os.write", scarce)
    for line in ("one", "two", "three"):
        sink.write(line)
    assert sink.flush()
    sink.write("four")
    assert sink.flush()
    assert path.read_text() == "one\nt\nfour\n"
    assert dropped.lines == 2


def test_reopen_after_a_rename_writes_to_the_new_file(tmp_path: Path, opened: Open) -> None:
    path, old = tmp_path / "log", tmp_path / "log.1"
    sink = opened(str(path))
    sink.write("before")
    assert sink.flush()
    path.rename(old)
    sink.reopen()
    eventually(path.exists, what="the new file, even without a line")
    sink.write("after")
    assert sink.flush()
    assert (old.read_text(), path.read_text()) == ("before\n", "after\n")


def test_reopen_that_fails_keeps_the_old_file_and_tries_again(
    tmp_path: Path, opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    folder, moved = tmp_path / "logs", tmp_path / "moved"
    folder.mkdir()
    sink = opened(str(folder / "log"))
    folder.rename(moved)
    sink.reopen()
    eventually(lambda: caplog.records, what="the report")
    sink.write("kept")
    assert sink.flush()
    assert (moved / "log").read_text() == "kept\n"
    folder.mkdir()
    eventually((folder / "log").exists, what="the new file")
    assert len(caplog.records) <= 2


def test_reopen_means_nothing_to_a_pipe(pipe: tuple[int, int], opened: Open) -> None:
    sink = opened(pipe[1])
    sink.reopen()
    sink.write("line")
    assert sink.flush()
    assert os.read(pipe[0], 100) == b"line\n"


def pieces(data: bytes, limit: int) -> list[bytes]:
    found, start = [], 0
    while start < len(data):
        end = end_of_piece(data, start, limit)
        found.append(data[start:end])
        start = end
    return found


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (99, [b"one\ntwo\nthree\n"]),
        (14, [b"one\ntwo\nthree\n"]),
        (13, [b"one\ntwo\n", b"three\n"]),
        (8, [b"one\ntwo\n", b"three\n"]),
        (7, [b"one\n", b"two\n", b"three\n"]),
        (4, [b"one\n", b"two\n", b"three\n"]),  # the last one is too long, and goes on its own
        (1, [b"one\n", b"two\n", b"three\n"]),
    ],
)
def test_a_piece_ends_with_a_line(limit: int, expected: list[bytes]) -> None:
    assert pieces(b"one\ntwo\nthree\n", limit) == expected


def test_a_traceback_stays_with_its_line_where_it_can() -> None:
    data = b"one\ntwo\n    a\n    b\nthree\n"
    assert pieces(data, 18) == [b"one\n", b"two\n    a\n    b\n", b"three\n"]
    assert pieces(data, 12) == [b"one\n", b"two\n    a\n", b"    b\nthree\n"]


def test_a_pipe_gets_pieces_and_a_file_all_at_once(
    tmp_path: Path, pipe: tuple[int, int], opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, sizes = os.write, []

    def noted(fd: int, data: memoryview) -> int:
        sizes.append(len(data))
        return write(fd, data)

    monkeypatch.setattr("gproxy.logs.os.write", noted)
    for target, expected in ((pipe[1], [4000, 4000, 2000]), (str(tmp_path / "log"), [10_000])):
        sink = opened(target)
        for _ in range(100):
            sink.write(LINE)
        assert sink.flush()
        assert sizes == expected
        sizes.clear()


def test_a_path_that_cannot_be_opened_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(GproxyError, match=r"/no/log: can't be opened for the log: No such file"):
        LogSink(str(tmp_path / "no" / "log"))


def test_a_fifo_without_a_reader_is_an_error_and_no_standstill(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(GproxyError, match="fifo"):
        LogSink(str(tmp_path / "fifo"))


def test_text_log_line(pipe: tuple[int, int], opened: Open, gproxy_logger: logging.Logger) -> None:
    sink = opened(pipe[1])
    setup_logging(LogSettings(), sink)
    record = logging.makeLogRecord(
        {
            "name": "gproxy.health",
            "levelno": 30,
            "levelname": "WARNING",
            "msg": "%s is\ndown",
            "args": ("b1",),
            "created": 1795435200.5,
        }
    )
    gproxy_logger.handle(record)
    assert sink.flush()
    assert (
        os.read(pipe[0], 1000) == b"2026-11-23T12:00:00.500Z warning gproxy.health[%d]: b1 is\\x0adown\n" % os.getpid()
    )


def test_traceback_in_text_is_indented(pipe: tuple[int, int], opened: Open, gproxy_logger: logging.Logger) -> None:
    sink = opened(pipe[1])
    setup_logging(LogSettings(), sink)
    try:
        raise ValueError("one\ntwo")
    except ValueError:
        gproxy_logger.exception("oops")
    assert sink.flush()
    first, *rest = os.read(pipe[0], 10_000).decode().splitlines()
    assert first.endswith(f" error gproxy[{os.getpid()}]: oops")
    assert rest[0] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") for line in rest)


def test_json_log_line(pipe: tuple[int, int], opened: Open, gproxy_logger: logging.Logger) -> None:
    sink = opened(pipe[1])
    setup_logging(LogSettings(format="json"), sink)
    record = logging.makeLogRecord(
        {"name": "gproxy.x", "levelno": 20, "levelname": "INFO", "msg": 'a "b"\n', "created": 1795435200.5}
    )
    gproxy_logger.handle(record)
    assert sink.flush()
    assert json.loads(os.read(pipe[0], 1000)) == {
        "time": "2026-11-23T12:00:00.500Z",
        "level": "info",
        "process": os.getpid(),
        "logger": "gproxy.x",
        "message": 'a "b"\n',
    }


def test_second_setup_replaces_the_first(opened: Open, pipe: tuple[int, int], gproxy_logger: logging.Logger) -> None:
    first, second = opened(pipe[1]), opened(pipe[1])
    setup_logging(LogSettings(), first)
    setup_logging(LogSettings(level="error"), second)
    ours = [handler for handler in gproxy_logger.handlers if isinstance(handler, SinkHandler)]
    assert [handler.sink for handler in ours] == [second]
    assert not gproxy_logger.isEnabledFor(logging.WARNING)
    assert gproxy_logger.isEnabledFor(logging.ERROR)


def test_wrong_format_arguments_do_not_raise(
    pipe: tuple[int, int], opened: Open, gproxy_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    setup_logging(LogSettings(), opened(pipe[1]))
    gproxy_logger.error("%d", "no number")
    assert "Logging error" in capsys.readouterr().err


AT_EXIT = """
import logging, sys
from gproxy.core.settings import LogSettings
from gproxy.logs import STDERR, LogSink, setup_logging
sink = LogSink(STDERR)
sink.start()
setup_logging(LogSettings(), sink)
logging.getLogger("gproxy.x").error("last words" * int(sys.argv[1]))
sys.exit(3)
"""


def test_lines_of_the_last_moment_are_written_at_exit() -> None:
    done = subprocess.run([sys.executable, "-c", AT_EXIT, "1"], capture_output=True, text=True, timeout=20, check=False)
    assert re.search(r" error gproxy.x\[\d+\]: last words\n$", done.stderr)
    assert done.returncode == 3


def test_stuck_stderr_does_not_hold_the_exit(pipe: tuple[int, int]) -> None:
    child = subprocess.Popen([sys.executable, "-c", AT_EXIT, "100000"], stderr=pipe[1])
    assert child.wait(10) == 3
