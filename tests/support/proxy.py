"""gproxy as a user runs it: a process with a configuration file, watched through its logs."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

TOP = Path(__file__).resolve().parents[2]
START_TIMEOUT = STOP_TIMEOUT = 20.0  # seconds


def command_environ(more: dict[str, str] | None = None) -> dict[str, str]:
    """The environment in which `python -m gproxy` is this tree's, whatever the directory."""
    return os.environ | {"PYTHONPATH": str(TOP)} | (more or {})


def gproxy(directory: Path, *arguments: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, in `directory`; `environ` is what its environment has besides."""
    return subprocess.run(
        [sys.executable, "-m", "gproxy", *arguments],
        cwd=directory, env=command_environ(environ), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=START_TIMEOUT, check=False,
    )  # fmt: skip


def processes_of(master: int) -> dict[str, int]:
    """A master's present children, by what they are called."""
    found = {}
    for pid in map(int, Path(f"/proc/{master}/task/{master}/children").read_text().split()):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found[Path(f"/proc/{pid}/comm").read_text().strip().removeprefix("gproxy-")] = pid
    return found


def wait_until_stopped(pid: int) -> None:
    """SIGSTOP takes a moment."""
    deadline = time.monotonic() + STOP_TIMEOUT
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < deadline, f"process {pid} was not stopped"
        time.sleep(0.001)


class Gproxy:
    """`with Gproxy(tmp_path, yaml) as proxy:` it serves when the block begins, and is gone after it.

    Listeners bind port 0; `address(name)` tells where they really are. The log goes to a
    file, and so does the access log: see `log()` and `access()`.
    """

    def __init__(
        self,
        directory: Path,
        yaml: str,
        *,
        limit: int | None = None,
        soft_limit: int | None = None,
        environ: dict[str, str] | None = None,
    ):
        """`limit`: soft and hard limit of its descriptors; `environ`: what ${NAME} stands for in the YAML."""
        self._directory = directory
        self._limits = [f"ulimit -n {limit}"] if limit else []
        self._limits += [f"ulimit -S -n {soft_limit}"] if soft_limit else []
        self._environ = command_environ(environ)
        self.config = directory / "gproxy.yaml"
        self.config.write_text(textwrap.dedent(yaml))
        self.process: subprocess.Popen[bytes]

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self.spawn()
        self.wait_for_log(r"gproxy \S+ is ready", START_TIMEOUT)

    def spawn(self) -> None:
        """Start it without waiting."""
        command = [sys.executable, "-m", "gproxy", str(self.config)]
        if self._limits:
            command = ["sh", "-c", "; ".join([*self._limits, 'exec "$@"']), "sh", *command]
        with open(self._directory / "stderr", "ab") as err, open(self._directory / "stdout", "ab") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                            cwd=self._directory, env=self._environ)  # fmt: skip

    def address(self, listener: str) -> tuple[str, int]:
        """Host and port of a listener."""
        found = re.findall(rf"listener {listener}: serving on (\S+):(\d+)", self.log())
        assert found, self.log()
        host, port = found[-1]
        return host.strip("[]"), int(port)

    def connect(self, listener: str, timeout: float = 10.0) -> socket.socket:
        """A client's blocking socket with a timeout."""
        return socket.create_connection(self.address(listener), timeout)

    def log(self) -> str:
        return (self._directory / "stderr").read_text()

    def access(self) -> list[str]:
        """The access log's lines so far (`log.access: "-"`)."""
        return (self._directory / "stdout").read_text().splitlines()

    def wait_for_log(self, pattern: str, timeout: float = 10.0) -> str:
        """Wait until the log matches; fails with the whole log."""
        return self._wait(self.log, pattern, timeout)

    def wait_for_access(self, pattern: str, timeout: float = 10.0) -> str:
        """Wait until the access log matches; fails with the whole of it."""
        return self._wait(lambda: "\n".join(self.access()), pattern, timeout)

    def _wait(self, read: object, pattern: str, timeout: float) -> str:
        assert callable(read)
        deadline = time.monotonic() + timeout
        while not (match := re.search(pattern, read())):
            assert time.monotonic() < deadline, f"{pattern!r} is not in:\n{read()}"
            exited = self.process.poll()
            assert exited is None or re.search(pattern, read()), f"gproxy exited with {exited}:\n{self.log()}"
            time.sleep(0.01)
        return match[0]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def processes(self) -> dict[str, int]:
        """Its present children, by what they are called: `worker0`, `steward`."""
        return processes_of(self.process.pid)

    @property
    def worker(self) -> int:
        """The process id of its first worker."""
        return self.processes()["worker0"]

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """What clients do meanwhile is there when its worker goes on."""
        worker = self.worker
        os.kill(worker, signal.SIGSTOP)
        wait_until_stopped(worker)
        try:
            yield
        finally:
            os.kill(worker, signal.SIGCONT)

    def wait(self, timeout: float = STOP_TIMEOUT) -> int:
        """Its exit status."""
        return self.process.wait(timeout)

    def stop(self) -> int:
        """SIGTERM; the exit status. From then on both logs are complete."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def descriptors(self) -> int:
        """How many its worker has open."""
        return len(os.listdir(f"/proc/{self.worker}/fd"))

    def rss(self) -> int:
        """Resident memory of its worker in bytes."""
        pages = int(Path(f"/proc/{self.worker}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def cpu(self) -> float:
        """CPU seconds that its worker has used so far."""
        fields = Path(f"/proc/{self.worker}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __enter__(self) -> Gproxy:
        try:
            self.start()
        except BaseException:
            self.process.kill()
            self.process.wait(STOP_TIMEOUT)
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(STOP_TIMEOUT)
