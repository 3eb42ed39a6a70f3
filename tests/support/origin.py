"""A backend that is a process of its own, so that a test can kill, stop and restart it.

    with Origin("echo", "b1") as origin:
        origin.port ...
        origin.kill()

Behaviours (the first argument): see BEHAVIOURS below.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

START_TIMEOUT = 10.0  # seconds
UNIX = "unix:"
TOP = Path(__file__).resolve().parents[2]


class Origin:
    """One origin process; it listens when the constructor returns.

    `host` is an IPv4 or IPv6 address, or `unix:/path`. `backlog`: how many connections the
    kernel takes for it while it is frozen.
    """

    def __init__(
        self, behaviour: str, name: str = "origin", port: int = 0, host: str = "127.0.0.1", *, backlog: int = 1024
    ):
        self.name = name
        self._arguments = (behaviour, name, host, str(backlog))
        self._host = host
        self.port = port
        self.process: subprocess.Popen[str]
        self.start()

    @property
    def address(self) -> str:
        """As a configuration names it."""
        if self._host.startswith(UNIX):
            return self._host
        return f"[{self._host}]:{self.port}" if ":" in self._host else f"{self._host}:{self.port}"

    @property
    def pid(self) -> int:
        return self.process.pid

    def start(self) -> None:
        """Start it, or start it again on the port that it had."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.origin", *self._arguments, str(self.port)],
            cwd=TOP, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        assert said, f"origin {self.name} did not start"
        self.port = int(said)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self._reap()

    def freeze(self) -> None:
        """SIGSTOP, and wait until every thread has stopped: one of them may be accepting."""
        from tests.support.poll import eventually  # here, because the child needs no gevent

        os.kill(self.pid, signal.SIGSTOP)
        eventually(lambda: set(self._thread_states()) == {"T"}, what=f"origin {self.name} stops")

    def _thread_states(self) -> list[str]:
        stats = Path(f"/proc/{self.pid}/task").glob("*/stat")
        return [stat.read_text().rpartition(")")[2].split()[0] for stat in stats]

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def _reap(self) -> None:
        self.process.wait(START_TIMEOUT)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()

    def __enter__(self) -> Origin:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self._reap()


# --- the child ------------------------------------------------------------------------


def _send_all(connection: socket.socket, data: bytes) -> None:
    connection.sendall(data)


def echo(connection: socket.socket, _name: str) -> None:
    """Sends back what comes, and FIN after FIN."""
    while data := connection.recv(65536):
        _send_all(connection, data)


def hello(connection: socket.socket, name: str) -> None:
    """Speaks first: its name and a newline; then echoes."""
    _send_all(connection, name.encode() + b"\n")
    echo(connection, name)


def named(connection: socket.socket, name: str) -> None:
    """Answers each line with its name and that line: a stateless request/response protocol."""
    with connection.makefile("rb") as lines:
        for line in lines:
            _send_all(connection, name.encode() + b": " + line)


def counted(connection: socket.socket, name: str) -> None:
    """Answers each line with its name, the number of this connection among those that spoke, and that line."""
    number = b""
    with connection.makefile("rb") as lines:
        for line in lines:
            number = number or b"%d" % next(_spoken)
            _send_all(connection, b"%s#%s: %s" % (name.encode(), number, line))


def once(connection: socket.socket, name: str) -> None:
    """Sends its name and closes: one connection, one answer."""
    _send_all(connection, name.encode())


def hold(connection: socket.socket, _name: str) -> None:
    """Says nothing and reads nothing until the peer's end; keeps the connection open."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    threading.Event().wait()


def swallow(connection: socket.socket, _name: str) -> None:
    """Reads everything, answers nothing."""
    while connection.recv(65536):
        pass


def reset(connection: socket.socket, name: str) -> None:
    """Reads a little, sends its name, and resets."""
    connection.recv(1)
    _send_all(connection, name.encode())
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def flood(connection: socket.socket, _name: str) -> None:
    """Sends 256 MiB as fast as it may, then FIN."""
    block = bytes(1024 * 1024)
    for _ in range(256):
        _send_all(connection, block)


def http(connection: socket.socket, name: str) -> None:
    """Answers every request head with 200 and its name; `/fail` with 500."""
    data = b""
    while True:
        while b"\r\n\r\n" not in data:
            more = connection.recv(65536)
            if not more:
                return
            data += more
        head, _, data = data.partition(b"\r\n\r\n")
        status = b"500 No" if b" /fail " in head else b"200 OK"
        body = name.encode()
        _send_all(connection, b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))


def unending(connection: socket.socket, name: str) -> None:
    """Answers one request head with 200 and a body that begins with its name, and never ends."""
    connection.recv(65536)
    _send_all(connection, b"HTTP/1.1 200 OK\r\n\r\n" + name.encode())
    threading.Event().wait()


def crowd(listener: socket.socket) -> None:
    """Echoes for thousands of connections: one loop, no thread each."""
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                selector.register(listener.accept()[0], selectors.EVENT_READ)
                continue
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            data = b""
            with contextlib.suppress(OSError):  # reset: it is over
                data = connection.recv(65536)
                connection.sendall(data)
            if not data:
                selector.unregister(connection)
                connection.close()


_spoken = itertools.count(1)

BEHAVIOURS: dict[str, Callable[[socket.socket, str], None]] = {
    f.__name__: f for f in (echo, hello, named, counted, once, hold, swallow, reset, flood, http, unending)
}


def _accept(listener: socket.socket, behaviour: str, name: str) -> None:
    def run(connection: socket.socket) -> None:
        with connection:
            try:
                BEHAVIOURS[behaviour](connection, name)
            except OSError:
                return  # the peer is gone: what it saw is the test's to judge

    while True:
        connection, _ = listener.accept()
        threading.Thread(target=run, args=(connection,), daemon=True).start()


def _listen(host: str, port: int, backlog: int) -> socket.socket:
    if host.startswith(UNIX):
        return socket.create_server(host.removeprefix(UNIX), family=socket.AF_UNIX, backlog=backlog)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=backlog)


def _serve(behaviour: str, name: str, host: str, backlog: int, port: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    listener = _listen(host, port, backlog)
    if behaviour == crowd.__name__:
        accepting = threading.Thread(target=crowd, args=(listener,), daemon=True)
    else:
        accepting = threading.Thread(target=_accept, args=(listener, behaviour, name), daemon=True)
    accepting.start()
    print(0 if host.startswith(UNIX) else listener.getsockname()[1], flush=True)
    sys.stdin.read()  # ends with the test, however that ends


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
