"""Proxies that are changed while they run: their master process gets a signal, and a file says what is new.

    gproxy    SIGHUP reloads; SIGUSR2 upgrades: a new master takes over, its pid comes into `pid_file`
    HAProxy   SIGUSR2 reloads, and its master executes the program anew for that: an upgrade is no more
    nginx     SIGHUP reloads; SIGUSR2 starts a new master beside the old one, which SIGQUIT ends

Each change gives the proxy another backend, an origin that names its port: so it can be
seen from outside that the change has taken effect, and for every connection.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from clients import Tally, try_fetch
from configs import GPROXY_PID_FILE, NGINX_PID_FILE, Setup
from processes import (
    STOP_SECONDS,
    BenchError,
    Child,
    free_port,
    lives,
    process_group,
    process_tree,
    running,
    wait_until,
)
from proxies import SETTLE_SECONDS, Kind, haproxy_command, kinds, nginx_command

CHANGE_SECONDS = 20.0  # for one change to take effect
SURE = 20  # answers in a row, each on a new connection, that show the change
LOOK_SECONDS = 0.005
LEFT_SECONDS = 20.0  # for the processes of earlier configurations to end, once nobody uses them


class Master:
    """The master process of a proxy that runs, and its configuration."""

    def __init__(self, way: Way, setup: Setup, child: Child, port: int) -> None:
        self.port = port
        self._way, self._setup, self._child = way, setup, child
        self._origins = setup.backends
        self._changes = 0
        self._processes = 0

    @property
    def pid(self) -> int:
        pid = self.written_pid()
        if pid is None:
            raise BenchError(f"{self._way.kind.name} has no pid in {self._way.pid_file}")
        return pid

    def written_pid(self) -> int | None:
        """None while the file is being replaced."""
        if self._way.pid_file is None:
            return self._child.pid
        with contextlib.suppress(OSError, ValueError):
            return int((self._setup.directory / self._way.pid_file).read_text())
        return None

    @property
    def upgrades(self) -> bool:
        """Whether it has an upgrade that is more than a reload."""
        return self._way.upgrade is not None

    def signal(self, number: signal.Signals, pid: int | None = None) -> None:
        try:
            os.kill(pid or self.pid, number)
        except ProcessLookupError as error:
            raise BenchError(f"{self._way.kind.name}'s master is gone: {self._child.tail()}") from error

    def settle(self) -> None:
        """It serves: what it consists of now, it should consist of after every change."""
        wait_until(lambda: self.written_pid() is not None, CHANGE_SECONDS, f"the pid of {self._way.kind.name}'s master")
        time.sleep(SETTLE_SECONDS)
        self._processes = len(self.processes())

    def processes(self) -> list[int]:
        """Those of old configurations and of old masters too."""
        return process_group(self._child.pid)

    def reload(self, tally: Tally) -> float:
        """Seconds until the change had taken effect; how its own requests went is counted."""
        start = time.monotonic()
        self._rewrite()
        self.signal(self._way.reload_signal)
        self._await_effect(tally)
        took = time.monotonic() - start
        time.sleep(self._way.rest_seconds)
        return took

    def upgrade(self, tally: Tally) -> float:
        """As reload(); the old master has begun to leave, and may still be there."""
        assert self._way.upgrade is not None
        start = time.monotonic()
        self._rewrite()
        self._way.upgrade(self)
        self._await_effect(tally)
        return time.monotonic() - start

    def wait_gone(self, pid: int) -> None:
        wait_until(lambda: not lives(pid), CHANGE_SECONDS, f"the end of {self._way.kind.name}'s old master")

    def wait_replaced(self, old: int) -> int:
        """The pid of the new master, which lives."""

        def replaced() -> bool:
            new = self.written_pid()
            return new is not None and new != old and lives(new)

        wait_until(replaced, CHANGE_SECONDS, f"{self._way.kind.name}'s new master: {self._child.tail()}")
        return self.pid

    def left_over(self) -> int:
        """How many processes it has too many, when there was time enough for them to end."""
        with contextlib.suppress(BenchError):
            wait_until(lambda: len(self.processes()) <= self._processes, LEFT_SECONDS, "old processes")
        return max(0, len(self.processes()) - self._processes)

    def stop(self) -> None:
        """SIGTERM, as an operator would; the rest of the group is killed by whoever holds the child."""
        pid = self.written_pid()
        if pid is not None and lives(pid):
            self.signal(signal.SIGTERM, pid)
            with contextlib.suppress(BenchError):
                wait_until(lambda: not self.processes(), STOP_SECONDS, "its end")

    def _rewrite(self) -> None:
        self._changes += 1
        self._way.kind.write_config(replace(self._setup, backends=(self._origin(),)), self.port)

    def _origin(self) -> int:
        return self._origins[self._changes % len(self._origins)]

    def _await_effect(self, tally: Tally) -> None:
        wanted, seen = str(self._origin()).encode(), 0
        deadline = time.monotonic() + CHANGE_SECONDS
        while seen < SURE:
            seen = seen + 1 if try_fetch(self.port, "/port", tally) == wanted else 0
            if time.monotonic() > deadline:
                raise BenchError(f"change {self._changes} has no effect: {self._child.tail()}")
            if not seen:
                time.sleep(LOOK_SECONDS)


@dataclass(frozen=True)
class Way:
    """How one proxy is started and changed. Without `pid_file` the master is the program that we started."""

    kind: Kind
    reload_signal: signal.Signals
    pid_file: str | None = None  # in the directory of the measurement
    upgrade: Callable[[Master], None] | None = None
    rest_seconds: float = 0.0  # after a reload took effect

    @contextlib.contextmanager
    def start(self, setup: Setup) -> Iterator[Master]:
        port = free_port()
        child = self.kind.launch(replace(setup, backends=setup.backends[:1]), port)
        with running(child):
            child.wait_for(port)
            master = Master(self, setup, child, port)
            try:
                master.settle()
                yield master
            finally:
                master.stop()


def upgrade_gproxy(master: Master) -> None:
    old = master.pid
    master.signal(signal.SIGUSR2)
    master.wait_replaced(old)


def upgrade_nginx(master: Master) -> None:
    old = master.pid
    master.signal(signal.SIGUSR2)
    new = master.wait_replaced(old)
    wait_until(lambda: len(process_tree(new)) > 1, CHANGE_SECONDS, "the workers of nginx's new master")
    master.signal(signal.SIGQUIT, old)


def haproxy_master_command(path: Path) -> Sequence[str]:
    command = [part for part in haproxy_command(path) if part != "-db"]
    return [command[0], "-W", *command[1:]]


# nginx takes an upgrade for one already under way as long as its parent is the process that
# started it. So its parent ends when nginx is there, and nginx stays in that one's group.
ORPHAN = '"$@" & i=0; until [ -s "$0" ] || [ $((i += 1)) -gt 100 ]; do sleep 0.05; done'


def nginx_orphan_command(path: Path) -> Sequence[str]:
    program, *options = nginx_command(path)
    # It executes what it was called, without a look at PATH.
    absolute = shutil.which(program) or program
    return ["sh", "-c", ORPHAN, str(path.with_name(NGINX_PID_FILE)), absolute, *options]


def ways(gproxy: Sequence[str]) -> dict[str, Way]:
    known = kinds(gproxy)
    haproxy = replace(known["haproxy"], command=haproxy_master_command)
    nginx = replace(known["nginx"], command=nginx_orphan_command)
    return {
        # HAProxy 2.6's master forgets a signal that comes right after a reload, though that serves by then.
        "haproxy": Way(haproxy, signal.SIGUSR2, rest_seconds=0.5),
        "nginx": Way(nginx, signal.SIGHUP, NGINX_PID_FILE, upgrade_nginx),
        "gproxy": Way(known["gproxy"], signal.SIGHUP, GPROXY_PID_FILE, upgrade_gproxy),
    }
