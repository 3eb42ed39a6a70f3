"""An open-loop load generator: requests leave when they are due, however slow the answers are.

    python openloop.py PORT CONNECTIONS RATE SECONDS [new]

RATE requests in a second for SECONDS, one after another, at equal distances. Each goes out on the connection that
has been idle for longest; `new` opens one for each instead, which is closed after its response. It says "ready" once
the connections are there, begins when it is sent a line, and ends with JSON:

    requests, seconds, and the percentiles of latency and of lateness in microseconds

Coordinated omission, and what is done against it: a generator that waits for an answer before it asks again asks
less while a proxy is slow, and so hardly sees that it is. Here a latency counts from the moment at which its request
was due. Where no connection is idle then, the request waits, and that wait counts too. This is how wrk2 measures.

Lateness is the generator's own: how long after it was due it noticed a request. It is in the latency as well, for all
proxies alike.
"""

from __future__ import annotations

import errno
import gc
import json
import re
import select
import socket
import sys
import time
from collections import deque

REQUEST = b"GET /small HTTP/1.1\r\nHost: bench\r\n%b\r\n"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
RECEIVE_BYTES = 16 << 10
BATCH = 250  # connections opened at a time: below every backlog
PATIENCE_SECONDS = 10.0  # for a connection, and for the answers after the last request was due
PERCENTILES = {"p50": 0.50, "p90": 0.90, "p99": 0.99, "p999": 0.999, "max": 1.0}


class Failed(Exception):
    """A request or a connection came to nothing: no figure of this run means anything."""


class Connection:
    """One request at a time."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due = 0.0  # of the request that is under way
        self._received = b""
        code = self.socket.connect_ex(("127.0.0.1", port))
        if code not in (0, errno.EINPROGRESS):
            raise Failed(f"connect: {errno.errorcode.get(code, code)}")

    def send(self, request: bytes, due: float) -> None:
        self.due = due
        if self.socket.send(request) != len(request):
            raise Failed("a request did not fit the socket")

    def receive(self) -> bool:
        """Whether the response is complete."""
        part = self.socket.recv(RECEIVE_BYTES)
        if not part:
            raise Failed("a connection was closed before its response")
        self._received += part
        head = self._received.find(b"\r\n\r\n")
        if head < 0:
            return False
        length = LENGTH.search(self._received, 0, head)
        if not self._received.startswith(b"HTTP/1.1 200 ") or length is None:
            raise Failed(f"answered {self._received[:60]!r}")
        if len(self._received) < head + 4 + int(length[1]):
            return False
        self._received = b""
        return True


class Generator:
    def __init__(self, port: int, rate: float, new: bool) -> None:
        self._port, self._interval, self._new = port, 1 / rate, new
        self._request = REQUEST % (b"Connection: close\r\n" if new else b"")
        self._epoll = select.epoll()
        self._idle: deque[Connection] = deque()
        self._open: dict[int, Connection] = {}
        self._waiting: deque[float] = deque()  # when these requests were due
        self.latencies: list[float] = []
        self.lateness: list[float] = []

    def connect(self, count: int) -> None:
        """Opens that many, and returns when all are there."""
        while len(self._idle) < count:
            batch = [self._opened(0.0) for _ in range(min(BATCH, count - len(self._idle)))]
            deadline, pending = time.monotonic() + PATIENCE_SECONDS, len(batch)
            while pending:
                if time.monotonic() > deadline:
                    raise Failed(f"{pending} connections of {count} were not accepted")
                pending -= sum(self._established(self._open[number]) for number, _ in self._epoll.poll(1))
            self._idle.extend(batch)

    def run(self, requests: int) -> float:
        """Sends so many and returns, when the last was answered, how many seconds it took."""
        start = time.monotonic()
        due, number = start, 0
        while len(self.latencies) < requests:
            now = time.monotonic()
            while due <= now and number < requests:
                self._waiting.append(due)
                self.lateness.append(now - due)
                number += 1
                due = start + number * self._interval
            self._send()
            if number == requests and now > due + PATIENCE_SECONDS:
                raise Failed(f"{requests - len(self.latencies)} of {requests} requests had no answer in time")
            # epoll's own timeout is in milliseconds, select's in microseconds.
            select.select([self._epoll], [], [], max(0.0, due - now) if number < requests else PATIENCE_SECONDS)
            for descriptor, event in self._epoll.poll(0):
                self._ready(self._open[descriptor], event)
        return time.monotonic() - start

    def _send(self) -> None:
        while self._waiting and (self._new or self._idle):
            due = self._waiting.popleft()
            if self._new:
                self._opened(due)
            else:
                self._idle.popleft().send(self._request, due)

    def _ready(self, connection: Connection, event: int) -> None:
        if event & select.EPOLLOUT:
            self._established(connection)
            connection.send(self._request, connection.due)
        elif connection.receive():
            self.latencies.append(time.monotonic() - connection.due)
            if self._new:
                self._close(connection)
            else:
                self._idle.append(connection)

    def _opened(self, due: float) -> Connection:
        connection = Connection(self._port)
        connection.due = due
        self._open[connection.socket.fileno()] = connection
        self._epoll.register(connection.socket, select.EPOLLOUT)
        return connection

    def _established(self, connection: Connection) -> bool:
        code = connection.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise Failed(f"connect: {errno.errorcode.get(code, code)}")
        self._epoll.modify(connection.socket, select.EPOLLIN)
        return True

    def _close(self, connection: Connection) -> None:
        del self._open[connection.socket.fileno()]
        connection.socket.close()


def percentiles(seconds: list[float]) -> dict[str, float]:
    """In microseconds."""
    ordered = sorted(seconds)
    return {
        name: 1e6 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] for name, share in PERCENTILES.items()
    }


def main() -> None:
    port, connections, rate, seconds = (int(text) for text in sys.argv[1:5])
    generator = Generator(port, rate, new=sys.argv[5:] == ["new"])
    try:
        generator.connect(connections)
        print("ready", flush=True)
        sys.stdin.readline()
        gc.disable()
        took = generator.run(rate * seconds)
    except (OSError, Failed) as error:
        print(json.dumps({"error": str(error)}))
        return
    print(
        json.dumps(
            {
                "requests": len(generator.latencies),
                "seconds": took,
                "latency": percentiles(generator.latencies),
                "lateness": percentiles(generator.lateness),
            }
        )
    )


if __name__ == "__main__":
    main()
