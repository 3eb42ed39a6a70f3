"""A StatsD server that adds up what it is told, in this process."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator

RECEIVE_BUFFER = 4 << 20  # a datagram that finds no room is lost
LINE = re.compile(r"(?P<name>[^:|]+):(?P<value>[^:|]+)\|(?P<kind>[cg])")


class Statsd:
    """Gauges as they are now, counters added up."""

    def __init__(self) -> None:
        self.gauges: dict[str, float] = {}
        self.counters: Counter[str] = Counter()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def total(self, pattern: str) -> int:
        """Of all counters whose names match."""
        return sum(value for name, value in dict(self.counters).items() if re.fullmatch(pattern, name))

    def close(self) -> None:
        """Afterwards everything that was sent before is added up."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join(10)
        self._socket.close()

    def _receive(self) -> None:
        while datagram := self._socket.recv(65536):
            for line in datagram.decode("ascii").splitlines():
                self._take(line)

    def _take(self, line: str) -> None:
        match = LINE.fullmatch(line)
        if match is None:
            return
        if match["kind"] == "c":
            self.counters[match["name"]] += int(float(match["value"]))
        else:
            self.gauges[match["name"]] = float(match["value"])


@contextlib.contextmanager
def statsd_running() -> Iterator[Statsd]:
    statsd = Statsd()
    try:
        yield statsd
    finally:
        statsd.close()
