"""Children on pinned cores, the ports they listen on, and what /proc says about them.

CPU time is read from /proc/PID/task/*/schedstat, in nanoseconds. /proc/PID/stat counts
in ticks of 10 ms and serves where a thread ended between two readings, because its
schedstat is then gone while stat still has its time.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 15.0
STOP_SECONDS = 5.0
PROC = Path("/proc")


class BenchError(Exception):
    """A measurement that can't be taken, or must not be believed."""


class MissingToolError(Exception):
    """A program or a limit that this machine lacks; the text says what to do about it."""


@dataclass(frozen=True)
class Cores:
    """The proxy has one core to itself; the load generator and the origins share the other."""

    proxy: int
    load: int

    @classmethod
    def pick(cls) -> Cores:
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) == 1:
            print("warning: one core only, the load generator will disturb the proxies", file=sys.stderr)
        return cls(cores[0], cores[-1])


def free_port() -> int:
    return free_ports(1)[0]


def free_ports(count: int) -> tuple[int, ...]:
    """Loopback ports that nobody listens on, all different, below the range of outgoing connections.

    A port that the kernel chose (bind 0) could be taken as the source port of one of
    the load generator's thousands of connections before the server binds it.
    """
    low = int((PROC / "sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    found: list[int] = []
    for port in random.sample(range(max(1024, low - 15000), low), 200 + 2 * count):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return tuple(found)
    raise BenchError(f"no {count} free ports on 127.0.0.1")


def wait_until(reached: Callable[[], bool], seconds: float, what: str) -> float:
    """How many seconds it took; BenchError when it takes longer than that many."""
    start = time.monotonic()
    while not reached():
        if time.monotonic() - start > seconds:
            raise BenchError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.01)
    return time.monotonic() - start


def accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


class Child:
    """A started program, in a process group of its own, with its output in a file."""

    def __init__(self, command: Sequence[str], log: Path, core: int | None, cwd: Path | None = None) -> None:
        """`core` None: on any core."""
        self.log = log
        # taskset replaces itself by the program, so the pid is the program's own.
        pinned = [] if core is None else ["taskset", "-c", str(core)]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [*pinned, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                start_new_session=True,
            )
        self.pid = self.process.pid

    def wait_for(self, port: int) -> None:
        """Returns when the port accepts; BenchError when the program ends or the time is up."""
        deadline = time.monotonic() + START_SECONDS
        while not accepts(port):
            if self.process.poll() is not None:
                raise BenchError(f"ended with status {self.process.returncode} at its start: {self.tail()}")
            if time.monotonic() > deadline:
                raise BenchError(f"port {port} does not accept after {START_SECONDS:.0f} s: {self.tail()}")
            time.sleep(0.05)

    def tail(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return " | ".join(lines[-3:])

    def stop(self) -> None:
        """SIGTERM to the program; what is left of its group after STOP_SECONDS is killed."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(STOP_SECONDS)


@contextlib.contextmanager
def running(child: Child) -> Iterator[Child]:
    try:
        yield child
    finally:
        child.stop()


def process_tree(pid: int) -> list[int]:
    """The pid and those of all its living descendants."""
    parents: dict[int, list[int]] = {}
    for entry in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int(_stat_fields(entry)[1])
            parents.setdefault(parent, []).append(int(entry.name))
    tree = [pid]
    for member in tree:  # grows while it is walked
        tree.extend(parents.get(member, []))
    return tree


def process_group(leader: int) -> list[int]:
    """The living processes of a group, whoever their parents are; its leader may be gone."""
    members = []
    for entry in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, _, group, *_ = _stat_fields(entry)
            if int(group) == leader and state not in "ZX":
                members.append(int(entry.name))
    return members


def process_name(pid: int) -> str:
    """What the process calls itself, at most 15 bytes; empty when it is gone."""
    with contextlib.suppress(OSError):
        return (PROC / str(pid) / "comm").read_text().strip()
    return ""


def lives(pid: int) -> bool:
    """A zombie does not: who was orphaned here may wait long for an init that reaps it."""
    with contextlib.suppress(OSError):
        return _stat_fields(PROC / str(pid))[0] not in "ZX"
    return False


def _stat_fields(process: Path) -> list[str]:
    """The fields of /proc/PID/stat from the third (state) on; the second may hold spaces."""
    return (process / "stat").read_text().rpartition(") ")[2].split()


@dataclass(frozen=True)
class CpuReading:
    """CPU seconds spent so far: by thread (precise), and by process (in ticks)."""

    threads: dict[tuple[int, int], float]
    processes: dict[int, float]

    @classmethod
    def of(cls, pid: int) -> CpuReading:
        threads: dict[tuple[int, int], float] = {}
        processes: dict[int, float] = {}
        for member in process_tree(pid):
            fields = _stat_fields(PROC / str(member))
            processes[member] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            threads.update(_thread_seconds(member))
        return cls(threads, processes)

    def since(self, before: CpuReading) -> float:
        """CPU seconds between two readings; BenchError when a process ended in between."""
        if gone := before.processes.keys() - self.processes.keys():
            raise BenchError(f"the proxy's process {min(gone)} ended during the measurement")
        if self.threads.keys() >= before.threads.keys() and any(self.threads.values()):
            return sum(self.threads.values()) - sum(before.threads.values())
        return sum(self.processes.values()) - sum(before.processes.values())


def _thread_seconds(pid: int) -> dict[tuple[int, int], float]:
    found: dict[tuple[int, int], float] = {}
    for task in (PROC / str(pid) / "task").iterdir():
        with contextlib.suppress(OSError):  # a thread that ends meanwhile, or a kernel without schedstat
            found[pid, int(task.name)] = int((task / "schedstat").read_text().split()[0]) / 1e9
    return found


def cpu_of(pid: int) -> CpuReading:
    try:
        return CpuReading.of(pid)
    except OSError as error:
        raise BenchError(f"the proxy ended during the measurement: {error}") from error


def rss_bytes(pid: int) -> int:
    """Resident bytes of the process tree; a page that two of them share counts twice."""
    try:
        return sum(_resident(member) for member in process_tree(pid))
    except OSError as error:
        raise BenchError(f"the proxy ended during the measurement: {error}") from error


def _resident(pid: int) -> int:
    # statm lags behind by a batch of pages per core; smaps_rollup walks the pages.
    for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise BenchError(f"no Rss in /proc/{pid}/smaps_rollup")
