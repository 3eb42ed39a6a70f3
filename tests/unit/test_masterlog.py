"""The master's log handler against real pipes, sockets and files: it writes at once, or drops and counts."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from gproxy import logformat, masterlog
from gproxy.core.settings import LogSettings
from gproxy.logformat import TextFormatter
from gproxy.logs import LogSink, SinkHandler, setup_logging
from gproxy.masterlog import MasterHandler, setup_master_logging

Ends = tuple[int, int]


def a_pipe() -> Ends:
    return os.pipe()


def a_socket() -> Ends:
    reader, writer = socket.socketpair()
    return reader.detach(), writer.detach()


def a_pipe_of_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """What can't be opened anew."""
    monkeypatch.setattr(masterlog, "_opened_anew", lambda _fd: -1)


@pytest.fixture(params=["pipe", "foreign pipe", "socket"])
def ends(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ends]:
    """A reader and a writer in blocking mode, as a service manager gives them."""
    if request.param == "foreign pipe":
        a_pipe_of_somebody_else(monkeypatch)
    pair = a_socket() if request.param == "socket" else a_pipe()
    yield pair
    for fd in pair:
        with suppress(OSError):
            os.close(fd)


@pytest.fixture
def handler(ends: Ends) -> Iterator[MasterHandler]:
    made = MasterHandler(ends[1], logging.Formatter("%(message)s"))
    yield made
    made.close()


@pytest.fixture
def gproxy_logger() -> Iterator[logging.Logger]:
    """The package's logger, given back as it was."""
    logger = logging.getLogger("gproxy")
    before = logger.handlers[:], logger.level, logger.propagate
    yield logger
    logger.handlers[:], logger.level, logger.propagate = before


def say(handler: logging.Handler, message: str) -> None:
    handler.handle(logging.LogRecord("gproxy.x", logging.INFO, "", 0, message, (), None))


def fill(handler: MasterHandler) -> int:
    """Say lines that fill whole pages, until one is dropped; how many were not."""
    lines = 0
    while not handler.dropped:
        say(handler, "x" * 127)
        lines += 1
    return lines - 1


def waiting(fd: int) -> bytes:
    """All that is there to be read now."""
    os.set_blocking(fd, False)
    data = bytearray()
    with suppress(BlockingIOError):
        while piece := os.read(fd, 1 << 20):
            data += piece
    return bytes(data)


def test_a_line_is_there_at_once(ends: Ends, handler: MasterHandler) -> None:
    say(handler, "one")
    assert os.read(ends[0], 100) == b"one\n"


def test_a_full_target_is_not_waited_for_and_the_loss_is_told(ends: Ends, handler: MasterHandler) -> None:
    lines = fill(handler)
    say(handler, "lost")
    assert handler.dropped == 2
    assert waiting(ends[0]).splitlines() == [b"x" * 127] * lines
    say(handler, "again")
    say(handler, "and on")
    assert waiting(ends[0]) == b"log lines that could not be written, and are lost: 2\nagain\nand on\n"


def test_a_line_longer_than_there_is_room_does_not_spoil_the_next(ends: Ends, handler: MasterHandler) -> None:
    say(handler, "y" * 3_000_000)
    assert handler.dropped == 1
    torn = waiting(ends[0])
    assert torn.strip(b"y") == b""
    say(handler, "whole")
    assert waiting(ends[0]).splitlines()[-1] == b"whole"


def test_a_line_above_pipe_buf_is_whole_where_there_is_room(ends: Ends, handler: MasterHandler) -> None:
    say(handler, "y" * 10_000)
    assert waiting(ends[0]) == b"y" * 10_000 + b"\n"


def test_a_reader_that_left_is_no_error(ends: Ends, handler: MasterHandler) -> None:
    os.close(ends[0])
    say(handler, "one")
    assert handler.dropped == 1


def test_the_shared_descriptor_stays_in_blocking_mode(ends: Ends, handler: MasterHandler) -> None:
    say(handler, "one")
    assert os.get_blocking(ends[1])


def test_a_file_is_written_where_others_left_off(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb", buffering=0) as file:  # no O_APPEND, as the shell's `2>log`
        file.write(b"before\n")
        say(MasterHandler(file.fileno(), logging.Formatter("%(message)s")), "one")
        file.write(b"after\n")
    assert (tmp_path / "log").read_text() == "before\none\nafter\n"


def test_a_closed_descriptor_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    handler = MasterHandler(writer, TextFormatter())
    say(handler, "one")
    assert handler.dropped == 1


@pytest.mark.parametrize(
    ("format", "message"),
    [("text", lambda line: line.split(": ")[1]), ("json", lambda line: json.loads(line)["message"])],
)
def test_setup_writes_the_configured_format_to_standard_error(format: str, message: Callable[[str], str]) -> None:
    code = f"""
import logging
from gproxy.core.settings import LogSettings
from gproxy.masterlog import setup_master_logging
setup_master_logging(LogSettings(format={format!r}, level="warning"))
logging.getLogger("gproxy.master").info("not this")
logging.getLogger("gproxy.master").warning("worker %d ended", 3)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True)
    (line,) = done.stderr.splitlines()
    assert message(line) == "worker 3 ended"


def test_a_worker_replaces_the_handler_of_its_master(gproxy_logger: logging.Logger) -> None:
    setup_master_logging(LogSettings())
    reader, writer = os.pipe()
    sink = LogSink(writer)
    setup_logging(LogSettings(), sink)
    ours = [type(h) for h in gproxy_logger.handlers if isinstance(h, logformat.OwnHandler)]
    sink.close()
    os.close(reader)
    os.close(writer)
    assert ours == [SinkHandler]


def test_the_master_gets_no_gevent_with_it() -> None:
    code = "import gproxy.masterlog, sys; assert 'gevent' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], timeout=20, check=True)
