"""wrk's report, and a wrk that runs until it is told to stop.

What wrk counts as an error (found out with an origin that ends each tenth response so):

    the server closes after a response with `Connection: close`     nothing: wrk connects anew
    it closes after a response that did not say so, with or         a read error: wrk has sent the next
    without a byte of the next one, by FIN or by RST                request by then, or is about to
    it refuses a connection                                         a connect error
    it is silent for longer than --timeout                          a timeout
    its status is 400 or more                                       a line of its own (Non-2xx or 3xx)

So no connection of wrk's is ever idle, and a proxy that wants no errors has to
announce each close. After an error wrk connects anew and goes on.
"""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from processes import BenchError

LONGEST_SECONDS = 1800  # a wrk that nobody stops ends by itself
STOP_SECONDS = 10.0


@dataclass(frozen=True)
class WrkSummary:
    """What wrk says in the end; `requests` were answered, those of a bad status too."""

    requests: int
    connect: int = 0
    read: int = 0
    write: int = 0
    timeout: int = 0
    bad_status: int = 0

    @classmethod
    def parse(cls, output: str) -> WrkSummary:
        """BenchError when this is no report of wrk's."""
        done = re.search(r"(\d+) requests in ", output)
        if done is None:
            raise BenchError(f"wrk says: {output.strip()[-200:]}")
        errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
        if errors is None and "Socket errors" in output:
            raise BenchError(f"wrk has other kinds of errors than we know: {output.strip()[-200:]}")
        bad = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
        connect, read, write, timeout = map(int, errors.groups()) if errors else (0, 0, 0, 0)
        return cls(int(done[1]), connect, read, write, timeout, int(bad[1]) if bad else 0)

    @property
    def failures(self) -> int:
        return self.connect + self.read + self.write + self.timeout + self.bad_status

    @property
    def complaint(self) -> str:
        """Each kind of failure that there was."""
        kinds = {
            "connect": self.connect,
            "read": self.read,
            "write": self.write,
            "timeout": self.timeout,
            "status": self.bad_status,
        }
        return ", ".join(f"{kind} {count}" for kind, count in kinds.items() if count) or "-"


class Wrk:
    """Runs with its connections kept alive, until `stop()`."""

    def __init__(self, port: int, path: str, connections: int, log: Path) -> None:
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                ["wrk", f"-c{connections}", "-t1", f"-d{LONGEST_SECONDS}s", "--timeout", "5s",
                 f"http://127.0.0.1:{port}{path}"],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> WrkSummary:
        """Asks for the report; BenchError when none comes."""
        self._process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        self.kill()
        return WrkSummary.parse(self._log.read_text(errors="replace"))

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(STOP_SECONDS)


@contextlib.contextmanager
def wrk_running(port: int, path: str, connections: int, log: Path) -> Iterator[Wrk]:
    wrk = Wrk(port, path, connections, log)
    try:
        yield wrk
    finally:
        wrk.kill()
