"""Clients that miss nothing: one connection per request, and long downloads. Both say how a failure looked.

refused      the port does not listen
reset        the connection broke before the response was complete
short        it was closed in order, and the response is not complete
status NNN   the response is not a 200
timeout      silence for SILENCE_SECONDS
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

SILENCE_SECONDS = 10.0
HEAD_LIMIT = 16 << 10
CHUNK_BYTES = 64 << 10
PAUSE_SECONDS = 0.001  # between a client's requests: Python's own threads need a turn, and the proxy a core


class RequestFailed(Exception):
    """Its text is the kind."""


@dataclass(frozen=True)
class Head:
    status: int
    length: int
    rest: bytes  # of the body, came along


@contextlib.contextmanager
def kinds_of_failure() -> Iterator[None]:
    """Turns what the socket raises into RequestFailed."""
    try:
        yield
    except TimeoutError as error:
        raise RequestFailed("timeout") from error
    except ConnectionRefusedError as error:
        raise RequestFailed("refused") from error
    except (ConnectionResetError, BrokenPipeError) as error:
        raise RequestFailed("reset") from error
    except OSError as error:
        raise RequestFailed(errno.errorcode.get(error.errno or 0, str(error))) from error


def request(connection: socket.socket, path: str, *, close: bool) -> Head:
    """Sends a GET and reads the head; RequestFailed unless it is a 200 with a length."""
    persistence = "close" if close else "keep-alive"
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: {persistence}\r\n\r\n".encode())
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(CHUNK_BYTES)
        if not part or len(data) > HEAD_LIMIT:
            raise RequestFailed("short")
        data += part
    return parse_head(data)


def parse_head(data: bytes) -> Head:
    lines, _, rest = data.partition(b"\r\n\r\n")
    status_line, *fields = lines.decode("latin-1").split("\r\n")
    status = int(status_line.split()[1])
    if status != 200:
        raise RequestFailed(f"status {status}")
    for name, _, value in (field.partition(":") for field in fields):
        if name.lower() == "content-length":
            return Head(status, int(value), rest)
    raise RequestFailed("no length")


def read_body(connection: socket.socket, head: Head) -> bytes:
    """Exactly the body; the connection may stay open."""
    body = head.rest
    while len(body) < head.length:
        part = connection.recv(CHUNK_BYTES)
        if not part:
            raise RequestFailed("short")
        body += part
    if len(body) > head.length:
        raise RequestFailed("long")
    return body


def fetch(port: int, path: str) -> bytes:
    """A body, on a connection of its own; RequestFailed."""
    with kinds_of_failure(), socket.create_connection(("127.0.0.1", port), timeout=SILENCE_SECONDS) as connection:
        return read_body(connection, request(connection, path, close=True))


class Tally:
    """Requests that succeeded, and failures by kind; any thread may count."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.succeeded = 0
        self.failures: Counter[str] = Counter()

    def count(self, kind: str | None = None) -> None:
        with self._lock:
            if kind is None:
                self.succeeded += 1
            else:
                self.failures[kind] += 1

    @property
    def failed(self) -> int:
        return self.failures.total()

    @property
    def complaint(self) -> str:
        return ", ".join(f"{kind} {count}" for kind, count in sorted(self.failures.items())) or "-"


def try_fetch(port: int, path: str, tally: Tally) -> bytes | None:
    """The body, counted; None for a failure, counted too."""
    try:
        body = fetch(port, path)
    except RequestFailed as failure:
        tally.count(str(failure))
        return None
    tally.count()
    return body


@contextlib.contextmanager
def fetching(port: int, path: str, clients: int, tally: Tally) -> Iterator[None]:
    """As many clients fetch on and on, each request on a connection of its own."""
    over = threading.Event()

    def client() -> None:
        while not over.wait(PAUSE_SECONDS):
            try_fetch(port, path, tally)

    threads = [threading.Thread(target=client, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(2 * SILENCE_SECONDS)


class Download:
    """Reads a body slowly until it may hurry, and checks it to the last byte."""

    def __init__(self, port: int, path: str, rate: int, digest: str, hurry: threading.Event) -> None:
        """`rate`: bytes in a second; `digest`: the SHA-256 that the body must have."""
        self._port, self._path, self._rate, self._digest, self._hurry = port, path, rate, digest, hurry
        self.received = 0
        self.length: int | None = None  # unknown before the head came
        self.failure: str | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, seconds: float) -> None:
        """Afterwards `failure` says what went wrong, None for nothing."""
        self._thread.join(seconds)
        if self._thread.is_alive():
            self.failure = "not done in time"

    @property
    def under_way(self) -> bool:
        return self.failure is None and self.length is not None and self.received < self.length

    def _run(self) -> None:
        try:
            with kinds_of_failure(), self._connect() as connection:
                self._read(connection)
        except RequestFailed as failure:
            self.failure = str(failure)

    def _connect(self) -> socket.socket:
        connection = socket.socket()
        # Little fits the kernel's buffers, so that most of the body is still the proxy's work when it changes.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CHUNK_BYTES)
        connection.settimeout(SILENCE_SECONDS)
        connection.connect(("127.0.0.1", self._port))
        return connection

    def _read(self, connection: socket.socket) -> None:
        head = request(connection, self._path, close=True)
        hashed = hashlib.sha256(head.rest)
        self.received, self.length = len(head.rest), head.length
        start = time.monotonic()
        while part := connection.recv(CHUNK_BYTES):
            hashed.update(part)
            self.received += len(part)
            self._hurry.wait(max(0.0, start + self.received / self._rate - time.monotonic()))
        if self.received != head.length:
            raise RequestFailed(f"{self.received} bytes of {head.length}")
        if hashed.hexdigest() != self._digest:
            raise RequestFailed("wrong bytes")
