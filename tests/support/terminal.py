"""A terminal to type the commands of a page into: bash in namespaces of its own, so that it has all ports for itself.

with Terminal(directory) as terminal:
    print(terminal.enter("curl http://127.0.0.1:9000/"))
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

from tests.support.proxy import TREE

TIMEOUT = 60.0  # seconds for one command
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1
_NAMESPACES = ["--net", "--pid", "--fork", "--mount-proc", "--kill-child"]
_DONE = re.compile(r"done (\d+)\n")


class Terminal:
    """Its commands see the directory's `.venv/bin` in PATH. All that they have started ends with it."""

    def __init__(self, directory: Path):
        self._directory = directory
        self._served: list[int] = []
        self._started = 0
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        self._shell = subprocess.Popen(
            ["unshare", *user, *_NAMESPACES, "bash", "--norc"],
            cwd=directory, env=_environ(directory), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, bufsize=1,
        )  # fmt: skip

    def enter(self, command: str, status: int | None = 0) -> str:
        """What it prints; AssertionError where it ends with another status."""
        self._write("typed", command)
        ended = self._run(". ./.typed >.printed 2>&1 </dev/null")
        said = self._read("printed")
        assert status is None or ended == status, f"status {ended} of:\n{command}\n{said}"
        return said

    def serve(self, command: str, until: str) -> str:
        """Start one that does not end, as in another terminal; wait until it prints that."""
        self._started += 1
        self._write("serving", f"exec {command}\n")
        log = f".log{self._started}"
        # In a subshell: it is no job of the shell's, as it would not be in another terminal.
        self._run(f"(bash ./.serving >{log} 2>&1 </dev/null & echo $! >.served)")
        self._served.append(int(self._read("served")))
        return self.wait_for(lambda: self._read(log[1:]), until, command)

    def interrupt(self) -> None:
        """Ctrl-C in all other terminals, and wait until what runs there has ended."""
        for pid in self._served:
            self._run(f"kill -INT {pid}; while kill -0 {pid}; do sleep 0.05; done 2>&-")
        self._served.clear()

    def enter_until(self, command: str, pattern: str) -> str:
        """Enter it again and again until it prints that."""
        return self.wait_for(lambda: self.enter(command, None), pattern, command)

    @staticmethod
    def wait_for(look: object, pattern: str, what: str) -> str:
        assert callable(look)
        deadline = time.monotonic() + TIMEOUT
        while not re.search(pattern, said := look()):
            assert time.monotonic() < deadline, f"{what!r} did not print {pattern!r}:\n{said}"
            time.sleep(0.05)
        return str(said)

    def _run(self, line: str) -> int:
        """Its exit status."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"{line}\necho done $?\n")
        deadline = time.monotonic() + TIMEOUT
        while True:
            ready, _, _ = select.select([self._shell.stdout], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"not within {TIMEOUT} s: {line}\n{self._read('typed')}\n{self._read('printed')}"
            said = self._shell.stdout.readline()
            assert said, f"the shell has ended over: {line}"
            if done := _DONE.match(said):
                return int(done[1])

    def _write(self, name: str, text: str) -> None:
        (self._directory / f".{name}").write_text(text)

    def _read(self, name: str) -> str:
        path = self._directory / f".{name}"
        return path.read_text() if path.exists() else ""

    def __enter__(self) -> Terminal:
        self._run(f"{sys.executable} {__file__}")
        return self

    def __exit__(self, *_error: object) -> None:
        self._shell.kill()
        self._shell.wait(TIMEOUT)
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.close()
        self._shell.stdout.close()


def _environ(directory: Path) -> dict[str, str]:
    path = f"{directory}/.venv/bin:{os.environ['PATH']}"
    (directory / ".curlrc").write_text("silent\nshow-error\n")  # as at a terminal, where it shows no progress
    return os.environ | {"PATH": path, "PYTHONPATH": TREE, "PYTHONUNBUFFERED": "1", "CURL_HOME": str(directory)}


def _raise_loopback() -> None:
    """In a new network namespace it is down."""
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


if __name__ == "__main__":
    _raise_loopback()
