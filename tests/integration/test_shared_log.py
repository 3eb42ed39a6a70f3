"""Several processes write their lines to one pipe, or to one socket, as worker processes share standard error."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack

import pytest

NAMES, LINES = "abcd", 4000

# Lines of many lengths, each of which says how long it must be, and whose it is all along.
WRITER = """
import sys
from gproxy.logs import LogSink
fd, name, lines = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
sink = LogSink(fd, limit=1 << 30)
for number in range(lines):
    length = number * 37 % 400 + 1
    sink.write(f"{number} {length} " + name * length)
print("ready", flush=True)
assert sink.flush(60)
"""


def ends_of_a_pipe() -> tuple[int, int]:
    return os.pipe()


def ends_of_a_non_blocking_pipe() -> tuple[int, int]:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    return reader, writer


def ends_of_a_socket() -> tuple[int, int]:
    """As the standard output of a systemd service is one to journald."""
    reader, writer = socket.socketpair()
    return reader.detach(), writer.detach()


def start_writer(fd: int, name: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WRITER, str(fd), name, str(LINES)]
    return subprocess.Popen(command, pass_fds=[fd], stdout=subprocess.PIPE)


def everything(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as file:
        return file.read()


@pytest.mark.parametrize("ends", [ends_of_a_pipe, ends_of_a_non_blocking_pipe, ends_of_a_socket])
def test_no_line_lands_within_another_one(ends: Callable[[], tuple[int, int]]) -> None:
    reader, writer = ends()
    seen: Counter[str] = Counter()
    with ExitStack() as running:
        writers = [running.enter_context(start_writer(writer, name)) for name in NAMES]
        os.close(writer)
        for process in writers:  # each has more to say than fits, so that all compete for room
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        for line in everything(reader).decode().splitlines():
            whole = re.fullmatch(r"\d+ (\d+) (([abcd])\3*)", line)
            assert whole, line
            assert len(whole[2]) == int(whole[1]), line
            seen[whole[3]] += 1
    assert [process.returncode for process in writers] == [0] * len(NAMES)
    assert seen == dict.fromkeys(NAMES, LINES)
