"""`gproxy demo`: a balancer to play with, which leaves nothing behind, however it ends."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.ends import TIMEOUT, read_to_end
from tests.support.poll import eventually
from tests.support.proxy import command_environ


class Demo:
    """The running command, in a process group of its own as a terminal would have it, and what it printed."""

    def __init__(self, directory: Path):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gproxy", "demo", "--port", "0", "--origin-port", "0"],
            cwd=directory, env=command_environ(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, start_new_session=True,
        )  # fmt: skip
        lines = []
        while "Ctrl-C" not in (lines[-1:] or [""])[0]:
            lines.append(self.process.stdout.readline())
            assert lines[-1], lines
        self.greeting = "".join(lines)
        self.port = int(re.search(r"http://127\.0\.0\.1:(\d+)/", self.greeting)[1])
        self.origins = {name: int(pid) for name, pid in re.findall(r"(b\d) is process (\d+)", self.greeting)}

    def ask(self) -> str:
        """The body of one answer over HTTP."""
        with socket.create_connection(("127.0.0.1", self.port), TIMEOUT) as client:
            client.sendall(b"GET /some/path HTTP/1.1\r\nHost: demo\r\n\r\n")
            head, _, body = read_to_end(client).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        return body.decode()

    def names(self) -> set[str]:
        return {self.ask().split()[0] for _ in range(6)}


@pytest.fixture
def demo(tmp_path):
    demo = Demo(tmp_path)
    with demo.process:
        yield demo
        if demo.process.poll() is None:
            demo.process.kill()


def is_alive(pid: int) -> bool:
    """Whether any thread of a process runs, and so has its sockets open; a zombie has nothing left."""
    return any(state not in "ZX" for state in map(thread_state, Path(f"/proc/{pid}/task").glob("*/stat")))


def thread_state(stat: Path) -> str:
    try:
        return stat.read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def none_is_left(demo: Demo) -> bool:
    return not any(is_alive(pid) for pid in demo.origins.values())


def test_it_says_what_to_try_and_all_three_origins_answer(demo):
    assert demo.origins.keys() == {"b1", "b2", "b3"}
    assert f"curl http://127.0.0.1:{demo.port}/" in demo.greeting
    assert f"kill {demo.origins['b2']} " in demo.greeting
    assert demo.names() == {"b1", "b2", "b3"}
    assert re.fullmatch(r"b\d answered: GET /some/path, from process \d+\n", demo.ask())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_others_answer_when_one_is_killed(demo, number):
    os.kill(demo.origins["b1"], number)
    eventually(lambda: not is_alive(demo.origins["b1"]))
    assert demo.names() == {"b2", "b3"}


def test_ctrl_c_ends_it_and_leaves_no_origin_behind(demo):
    assert all(is_alive(pid) for pid in demo.origins.values())
    os.killpg(demo.process.pid, signal.SIGINT)
    assert demo.process.wait(TIMEOUT) == 0
    assert none_is_left(demo)


def test_no_origin_outlives_a_demo_that_was_killed(demo):
    demo.process.kill()
    eventually(lambda: none_is_left(demo), what="the origins end")
