"""The watchdog in processes of its own: a real hub is held in several ways, and the log says by whom."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gproxy.watchdog import ask_for_stack, last_stack, make_stack_file
from tests.support.poll import eventually

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}

# The program: it holds the loop as it is told, once the watchdog runs, and says when it is through.
HELD = """
import sys, time
from collections import deque
from itertools import repeat
import gevent
from gproxy.core.settings import LogSettings
from gproxy.masterlog import setup_master_logging
from gproxy.watchdog import HubWatchdog

setup_master_logging(LogSettings())
watchdog = HubWatchdog(0.2, int(sys.argv[2]) if len(sys.argv) > 2 else None)
watchdog.start()

def watch():
    while True:
        gevent.sleep(watchdog.interval)
        watchdog.alive()

def sleepy_policy(): time.sleep(0.6)

def busy_policy():
    end = time.monotonic() + 0.6
    while time.monotonic() < end: pass

def greedy_policy(): deque(repeat(None, 1_000_000_000), maxlen=0)  # keeps the GIL, and runs no bytecode

def recursive_policy(depth=90):
    if depth: return recursive_policy(depth - 1)
    time.sleep(0.6)

def twice_policy():
    time.sleep(0.6)
    gevent.sleep(0.2)
    time.sleep(0.6)

def lost_policy(): deque(repeat(None), maxlen=0)

def no_policy(): gevent.sleep(0.6)

def endless_policy(): gevent.sleep(600)

gevent.spawn(watch)
gevent.sleep(0.1)
print("begins", flush=True)
gevent.spawn(globals()[sys.argv[1] + "_policy"]).join()
gevent.sleep(0.2)
watchdog.stop()
print("ends", flush=True)
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(HELD)
    return path


def logged(program: Path, how: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, str(program), how], env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stderr.splitlines()


@pytest.mark.parametrize("how", ["sleepy", "busy", "greedy"])
def test_the_log_names_the_function_that_held_the_loop(program: Path, how: str) -> None:
    head, *stack = logged(program, how)
    assert re.search(rf"error gproxy.watchdog\[\d+\]: the event loop was held for [\d.]+ s .* by {how}_policy \(", head)
    assert all(re.fullmatch(r'      File ".*", line \d+ in .*', line) for line in stack)
    assert stack[0].endswith(f" in {how}_policy")
    assert "watchdog.py" not in "".join(stack)


def test_a_deep_stack_is_trimmed(program: Path) -> None:
    _, *stack = logged(program, "recursive")
    assert len(stack) == 41
    assert re.fullmatch(r"      and \d+ more", stack[-1])


def test_standstills_soon_after_one_another_make_one_report(program: Path) -> None:
    assert sum("was held" in line for line in logged(program, "twice")) == 1


def test_a_loop_that_only_waits_is_held_by_nobody(program: Path) -> None:
    assert logged(program, "no") == []


@pytest.fixture
def stack_file() -> Iterator[int]:
    fd = make_stack_file()
    yield fd
    os.close(fd)


class Worker:
    """The program as a child that shares a stack file with us."""

    def __init__(self, program: Path, how: str, fd: int):
        self.process = subprocess.Popen(
            [sys.executable, str(program), how, str(fd)],
            env=ENVIRONMENT,
            pass_fds=[fd],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"begins\n"

    def _stat(self) -> list[str]:
        """From the state on, the third field of proc(5)."""
        return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()

    def state(self) -> str:
        return self._stat()[0]

    def cpu(self) -> float:
        """Seconds in user mode."""
        return int(self._stat()[11]) / os.sysconf("SC_CLK_TCK")

    def killed(self) -> bytes:
        """End it; what it logged."""
        self.process.kill()
        return self.process.communicate(timeout=20)[1]


def test_the_master_reads_where_a_worker_is_that_never_comes_back(program: Path, stack_file: int) -> None:
    worker = Worker(program, "lost", stack_file)
    before = worker.cpu()
    eventually(lambda: worker.cpu() > before + 0.5, 20, what="it spins in C")
    ask_for_stack(worker.process.pid)
    eventually(lambda: last_stack(stack_file), what="the stack")
    worker.killed()
    assert last_stack(stack_file).splitlines()[0].endswith("in lost_policy")


def test_a_worker_that_was_stopped_is_not_reported(program: Path, stack_file: int) -> None:
    worker = Worker(program, "endless", stack_file)
    worker.process.send_signal(signal.SIGSTOP)
    eventually(lambda: worker.state() == "T", what="stopped")
    stopped = time.monotonic()
    eventually(lambda: time.monotonic() > stopped + 0.5, what="the timer runs out")
    worker.process.send_signal(signal.SIGCONT)
    noted = time.monotonic()
    eventually(lambda: worker.state() != "T" and time.monotonic() > noted + 0.3, what="a beat or two")
    assert worker.killed() == b""


def test_there_is_no_stack_of_one_that_says_nothing(stack_file: int) -> None:
    assert last_stack(stack_file) == ""


def test_the_master_gets_no_gevent_with_it() -> None:
    code = "import gproxy.watchdog, sys; assert 'gevent' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], timeout=20, check=True)
