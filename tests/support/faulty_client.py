"""A client of http that says what it saw, as a row of docs/reliability.md says it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tests.support.ends import TIMEOUT
from tests.support.http_wire import Response, Wire, read_response
from tests.support.proxy import Gproxy


@dataclass
class Seen:
    """`status`: 0 for a connection that ended before a head; `whole`: whether all of the response came."""

    status: int
    whole: bool
    body: bytes
    took: float  # seconds

    def __str__(self) -> str:
        if self.status and not self.whole:
            return f"{self.status} and then a reset"
        return str(self.status) if self.status else "a connection that ends"


def ask(proxy: Gproxy, listener: str = "web", method: bytes = b"GET", target: bytes = b"/", body: bytes = b"") -> Seen:
    """One request over a connection of its own."""
    with proxy.connect(listener, TIMEOUT) as sock:
        began = time.monotonic()
        length = b"Content-Length: %d\r\n" % len(body) if body else b""
        sock.sendall(b"%s %s HTTP/1.1\r\nHost: app\r\n%s\r\n" % (method, target, length) + body)
        return seen(read_response(Wire(sock), method), began)


def seen(response: Response | None, began: float) -> Seen:
    took = time.monotonic() - began
    if response is None:
        return Seen(0, False, b"", took)
    return Seen(response.status, response.whole, bytes(response.body), took)
