"""HTTP/1.1 origins in the test's own process, a thread for each connection, so that a test sees what they saw.

with RecordingOrigin("b1", notes) as origin:
    origin.address ...
    notes.arrivals
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

from tests.support.ends import reset
from tests.support.http_wire import Cut, NotHttp, RequestHead, Wire, read_body, read_request_head, request_framing

TIMEOUT = 10.0  # seconds; a test fails after them, it never waits for them
DATE = b"Mon, 23 Nov 2026 12:00:00 GMT"  # the same for ever, so that heads are the same again


class HttpOrigin:
    """Subclasses say in `converse` what happens on a connection; it is closed afterwards."""

    def __init__(self, name: str, port: int = 0):
        """`port`: one that somebody has reserved for it, with SO_REUSEPORT."""
        self.name = name
        self.connections = 0  # accepted so far
        self._listener = socket.create_server(("127.0.0.1", port), backlog=1024, reuse_port=port != 0)
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    @property
    def address(self) -> str:
        """As a configuration names it."""
        return f"127.0.0.1:{self.port}"

    def converse(self, connection: socket.socket) -> None:
        raise NotImplementedError

    def kill(self) -> None:
        """Nothing listens any more, and every connection ends, whatever it is at."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # accept() ends with it
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(TIMEOUT)
        self._threads.clear()
        self._listener.close()

    def revive(self) -> None:
        """Listen again where it did."""
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=1024)
        self._start(self._accept)

    def __enter__(self) -> HttpOrigin:
        self._start(self._accept)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.kill()

    def _start(self, run: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True, name=f"origin {self.name}")
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # it was closed
            while True:
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections += 1
                self._open.add(connection)
                self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, Cut):  # the peer is gone: what it saw is the test's to judge
            self.converse(connection)
        self._open.discard(connection)


def respond(method: bytes, body: bytes, *lines: bytes, status: bytes = b"200 OK") -> bytes:
    """A response with a length; no body in answer to HEAD."""
    head = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), b"Date: " + DATE, *lines, b"", b""]
    return b"\r\n".join(head) + (b"" if method == b"HEAD" else body)


@dataclass
class Arrival:
    """A request as an origin read it; `body` is None until the whole of it has come."""

    method: bytes
    target: bytes
    body: bytes | None = None


@dataclass
class Notes:
    """What the recording origins of a test saw, all of them together."""

    arrivals: list[Arrival] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)  # bytes that no strict sender sends
    lies: dict[bytes, Lie] = field(default_factory=dict)  # what to answer, by target

    def of(self, target: bytes) -> list[Arrival]:
        return [arrival for arrival in list(self.arrivals) if arrival.target == target]


@dataclass
class Lie:
    """What an origin sends in the place of a response.

    Then it closes the connection, resets it, or goes on as if nothing were wrong.
    `afterwards` is sent on the idle connection once the test sets `go`, which answers with `said`.
    """

    raw: bytes
    then: str = "keep"  # keep | close | reset
    afterwards: bytes = b""
    go: threading.Event = field(default_factory=threading.Event)
    said: threading.Event = field(default_factory=threading.Event)


class RecordingOrigin(HttpOrigin):
    """Answers with the method and the target; what it can't read in exactly one way is a complaint, and the end."""

    def __init__(self, name: str, notes: Notes):
        super().__init__(name)
        self._notes = notes

    def converse(self, connection: socket.socket) -> None:
        wire = Wire(connection)
        try:
            while (head := read_request_head(wire)) and self._exchange(wire, head):
                pass
        except NotHttp as error:
            self._notes.complaints.append(f"{self.name}: {error}")

    def _exchange(self, wire: Wire, head: RequestHead) -> bool:
        """Whether the connection goes on."""
        arrival = Arrival(head.method, head.target)
        self._notes.arrivals.append(arrival)
        if b"expect" in head.fields:
            wire.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = bytearray()
        read_body(wire, request_framing(head), body)
        arrival.body = bytes(body)
        if lie := self._notes.lies.get(head.target):
            return tell(lie, wire.sock)
        wire.sock.sendall(respond(head.method, head.method + b" " + head.target))
        return True


def tell(lie: Lie, connection: socket.socket) -> bool:
    """Whether the connection goes on."""
    connection.sendall(lie.raw)
    if lie.afterwards:
        lie.go.wait(TIMEOUT)
        try:
            connection.sendall(lie.afterwards)
        finally:
            lie.said.set()
    if lie.then == "reset":
        reset(connection)
    return lie.then == "keep"
