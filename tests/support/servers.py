"""Real servers for tests: PostgreSQL and Redis from Debian's packages, one process tree each.

    with Postgres() as database, Redis(tmp_path, "r1") as cache:
        database.address, cache.address
        database.kill()

Each has its own files and its own port on 127.0.0.1, and is gone after the block.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

from tests.support.poll import eventually

START_TIMEOUT = STOP_TIMEOUT = 20.0  # seconds
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def program(name: str, package: str, folders: Iterable[Path] = ()) -> str:
    """Its path; a test whose program is missing fails, and says what to install."""
    path = os.pathsep.join([*map(str, folders), os.environ.get("PATH", ""), SYSTEM_PATH])
    found = shutil.which(name, path=path)
    assert found, f"{name} is missing: apt-get install {package}, or sh etc/bootstrap.sh test"
    return found


def reserve_port() -> socket.socket:
    """A port on 127.0.0.1 for a server that can't be told to take any: hold this until it listens.

    The socket is bound and does not listen. The kernel then gives its port to nobody
    who asks for any port, but to a server that names it and sets SO_REUSEADDR.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Server:
    """A server process and its children; subclasses say what to run and when it is ready."""

    name: str
    port: int
    log_path: Path

    def __init__(self) -> None:
        with reserve_port() as held:
            self.port = held.getsockname()[1]
            self.process = self.spawn()
            try:
                eventually(self._is_ready, START_TIMEOUT, f"{self!r} is ready, see {self.log_path}")
            except BaseException:
                self.kill()
                raise

    def spawn(self) -> subprocess.Popen[bytes]:
        raise NotImplementedError

    def is_ready(self) -> bool:
        raise NotImplementedError

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, f"{self!r} ended at its start:\n{self.log()}"
        return self.is_ready()

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def kill(self) -> None:
        """SIGKILL to it and to all its children: what a power failure looks like to its clients."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGSTOP)  # it forks no more
            for pid in [self.process.pid, *children(self.process.pid)]:
                os.kill(pid, signal.SIGKILL)
        self.process.wait(STOP_TIMEOUT)

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.kill()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} on {self.address}>"


class Redis(Server):
    """A Redis server that keeps nothing on disk."""

    def __init__(self, directory: Path, name: str):
        self.name = name
        self.log_path = directory / f"{name}.log"
        super().__init__()

    def spawn(self) -> subprocess.Popen[bytes]:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        with self.log_path.open("wb") as log:
            return subprocess.Popen([program("redis-server", "redis-server"), *options], cwd=self.log_path.parent,
                                    stdin=subprocess.DEVNULL, stdout=log, stderr=log)  # fmt: skip

    def is_ready(self) -> bool:
        return "Ready to accept connections" in self.log()


class Postgres(Server):
    """A PostgreSQL cluster of its own, with the trusting superuser `postgres` and no durability.

    PostgreSQL refuses to run as root: then it runs as Debian's user `postgres`, in a
    directory that this user may enter, as it may not enter pytest's `tmp_path`.
    """

    SETTINGS = ("fsync=off", "shared_buffers=16MB", "max_connections=50", "autovacuum=off",
                "listen_addresses=127.0.0.1", "unix_socket_directories=")  # fmt: skip

    def __init__(self, name: str):
        self.name = name
        self._user = "postgres" if os.geteuid() == 0 else None
        self._directory = tempfile.TemporaryDirectory(prefix="gproxy-postgres-")
        top = Path(self._directory.name)
        self.log_path = top / "log"
        self._data = top / "data"
        try:
            self._init_cluster(top)
            super().__init__()
        except BaseException:
            self._directory.cleanup()
            raise

    def _init_cluster(self, top: Path) -> None:
        if self._user is not None:
            shutil.chown(top, _known(self._user))
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]
        done = subprocess.run([postgres_program("initdb"), "-D", str(self._data), *options], cwd=top, user=self._user,
                              env=postgres_environ(), capture_output=True, text=True, timeout=60)  # fmt: skip
        assert done.returncode == 0, done.stderr

    def spawn(self) -> subprocess.Popen[bytes]:
        command = [postgres_program("postgres"), "-D", str(self._data), "-p", str(self.port)]
        for setting in self.SETTINGS:
            command += ["-c", setting]
        with self.log_path.open("wb") as log:
            return subprocess.Popen(command, cwd=self._data, user=self._user, env=postgres_environ(),
                                    stdin=subprocess.DEVNULL, stdout=log, stderr=log)  # fmt: skip

    def is_ready(self) -> bool:
        return "ready to accept connections" in self.log()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._directory.cleanup()


def _known(user: str) -> str:
    try:
        pwd.getpwnam(user)
    except KeyError:
        raise AssertionError(f"no user {user}: apt-get install postgresql, or sh etc/bootstrap.sh test") from None
    return user


def postgres_program(name: str) -> str:
    """Debian keeps them out of PATH, a folder for each version."""
    return program(name, "postgresql", sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))


def postgres_environ() -> dict[str, str]:
    """Without the PG* variables of whoever runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | {"LC_ALL": "C", "PGUSER": "postgres", "PGDATABASE": "postgres", "PGCONNECT_TIMEOUT": "10"}


def postgres_command(tool: str, address: tuple[str, int], arguments: Sequence[str]) -> list[str]:
    """The command line of psql or pgbench, to be run with `postgres_environ()`."""
    host, port = address
    return [postgres_program(tool), "-h", host, "-p", str(port), *arguments]
