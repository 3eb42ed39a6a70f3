"""The backends' processes: started, killed, frozen, and told how to behave."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from processes import BenchError

from tests.support.proxy import TOP

START_SECONDS = 15.0
_PATH = os.pathsep.join((str(TOP), str(TOP / "loadtest")))


def reserve() -> socket.socket:
    """A port that is ours as long as the socket lives, though nobody listens: who dials it meanwhile is refused."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", 0))
    return sock


class OriginProcess:
    """One backend; it runs when the constructor returns."""

    def __init__(self, name: str, journal: Path, seed: str):
        self.name = name
        self._reserved = [reserve(), reserve()]
        self.http_port, self.tcp_port = (sock.getsockname()[1] for sock in self._reserved)
        self._arguments = [name, str(self.http_port), str(self.tcp_port), str(journal), seed]
        self._process: subprocess.Popen[str] | None = None
        self.rough = False
        self.start()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Unless it runs."""
        if self._process is not None:
            return
        self._process = subprocess.Popen(
            [sys.executable, "-m", "soak.origin", *self._arguments],
            env=os.environ | {"PYTHONPATH": _PATH}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise BenchError(f"origin {self.name} did not start")
        if self.rough:
            self.say("rough")

    def say(self, word: str) -> None:
        """Tell it how to behave; `rough` and `calm` hold beyond its death."""
        if word in ("rough", "calm"):
            self.rough = word == "rough"
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):  # it has just been killed
                self._process.stdin.write(word + "\n")

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait(START_SECONDS)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        self._process = None

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        self.kill()
        for sock in self._reserved:
            sock.close()


@contextlib.contextmanager
def origins_running(count: int, journal: Path, seed: int) -> Iterator[list[OriginProcess]]:
    with contextlib.ExitStack() as stack:
        started = []
        for number in range(count):
            origin = OriginProcess(f"b{number + 1}", journal, f"{seed} origin {number}")
            stack.callback(origin.close)
            started.append(origin)
        yield started
