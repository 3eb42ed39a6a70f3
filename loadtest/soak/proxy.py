"""The gproxy under test: its processes, whoever is the master just now, and what it says of itself."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

from processes import BenchError, lives, process_tree, wait_until

from soak.settings import LISTENERS, PID_FILE, Settings
from tests.support.admin import Admin
from tests.support.proxy import Gproxy, processes_of

CHANGE_SECONDS = 30.0  # for a reload or an upgrade
STOP_SECONDS = 20.0
_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """A process whose parent ends becomes ours: so none is lost that a master of gproxy's has left behind."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class FixedAdmin(Admin):
    """Its address is the same through reloads and upgrades; the log is long."""

    def __init__(self, proxy: Gproxy):
        super().__init__(proxy)
        self._fixed = super().address

    @property
    def address(self) -> tuple[str, int]:
        return self._fixed


class Proxy:
    """It serves when the constructor returns."""

    def __init__(self, directory: Path, settings: Settings):
        self.directory = directory
        self.settings = settings  # those that were asked for last
        self.widest = settings.workers  # the most workers that were ever asked for
        self._gproxy = Gproxy(directory, settings.text)
        self._gproxy.start()
        self.admin = FixedAdmin(self._gproxy)
        self._addresses = {name: self._gproxy.address(name) for name in LISTENERS}
        self._read = 0  # of the log

    def address(self, listener: str) -> tuple[str, int]:
        return self._addresses[listener]

    @property
    def master(self) -> int:
        return int((self.directory / PID_FILE).read_text())

    def children(self) -> dict[str, int]:
        """Of the present master, by name."""
        return processes_of(self.master)

    def processes(self) -> list[int]:
        """Its own and those of masters that are on their way out; zombies are reaped."""
        self._gproxy.process.poll()
        _reap(self._gproxy.process.pid)
        return [pid for pid in process_tree(os.getpid())[1:] if lives(pid) and _is_gproxy(pid)]

    def signal_master(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has just been replaced
            os.kill(self.master, number)

    def write(self, settings: Settings) -> None:
        """What the next reload or upgrade will read."""
        self.settings = settings
        self.widest = max(self.widest, settings.workers)
        self._replace_config(settings.text)

    def write_nonsense(self) -> None:
        self._replace_config("nonsense")

    def _replace_config(self, text: str) -> None:
        new = self._gproxy.config.with_suffix(".new")
        new.write_text(text)
        new.rename(self._gproxy.config)

    def upgrade(self) -> bool:
        """Whether a new master took over in time."""
        old = self.master
        self.signal_master(signal.SIGUSR2)
        with contextlib.suppress(BenchError):
            wait_until(lambda: self.master != old, CHANGE_SECONDS, "a new master")
            return True
        return False

    def reload(self, settings: Settings, seconds: float) -> None:
        """Returns when it is in effect; BenchError after so many seconds."""
        self.write(settings)
        wait_until(lambda: self._generation() > 0, seconds, "an answer of the present master's steward")
        before = self._generation()
        self.signal_master(signal.SIGHUP)
        wait_until(lambda: self._generation() > before > 0, seconds, "another configuration")

    def _generation(self) -> int:
        """Of the present master; 0 where it does not answer."""
        try:
            state = self.state()
        except (OSError, ValueError, AssertionError, HTTPException):  # the steward has just been replaced
            return 0
        return int(state["generation"]) if state["master"] == self.master else 0

    def news(self) -> str:
        """What the log has had since the last time."""
        with (self.directory / "stderr").open("rb") as file:
            file.seek(self._read)
            data = file.read()
        self._read += len(data)
        return data.decode(errors="replace")

    def metrics(self) -> dict[str, float]:
        """By name and labels, as Prometheus has them."""
        reply = self.admin.ask("GET", "/metrics")
        pairs = (line.rpartition(" ") for line in reply.body.decode().splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def state(self) -> Any:
        return self.admin.get("/v1/state")

    def holdings(self) -> Any:
        """What each process holds, the workers all of them; None where one did not answer in time."""
        found = self.admin.get("/v1/processes")
        return found["processes"] if found["answered"] == found["workers"] else None

    def stop(self) -> bool:
        """SIGTERM; whether all of it was gone in time."""
        self.signal_master(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while self.processes():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def kill(self) -> None:
        """Whatever is left."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(BenchError):
            wait_until(lambda: not self.processes(), STOP_SECONDS, "the end of gproxy")


def _reap(but: int) -> None:
    """Collect orphans that have ended. `but` is somebody else's to wait for."""
    for pid in process_tree(os.getpid())[1:]:
        if pid != but and not lives(pid) and _is_gproxy(pid):
            with contextlib.suppress(ChildProcessError):  # not a child of ours, or collected since
                os.waitpid(pid, os.WNOHANG)


def _is_gproxy(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().startswith("gproxy")
    return False


def kinds_of_descriptors(pid: int) -> Counter[str]:
    """How many are a socket, a pipe, an anon_inode, or a file. OSError where the process is gone."""
    return Counter(_kinds(Path(f"/proc/{pid}/fd")))


def _kinds(directory: Path) -> Iterator[str]:
    for entry in os.scandir(directory):
        with contextlib.suppress(OSError):  # closed meanwhile
            kind = re.match(r"(socket|pipe|anon_inode):", os.readlink(entry.path))
            yield kind[1] if kind else "file"


def resident_bytes(pid: int) -> int:
    """0 where it is gone."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def name_of(pid: int) -> str:
    """Such as worker0; the master is `master`. Empty where it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip().removeprefix("gproxy").removeprefix("-") or "master"
    return ""


@contextlib.contextmanager
def proxy_running(directory: Path, settings: Settings) -> Iterator[Proxy]:
    proxy = Proxy(directory, settings)
    try:
        yield proxy
    finally:
        proxy.kill()
