"""A client that has nothing to do with a fault, and must not notice it.

with Bystander(proxy, "other") as bystander:
    ...
bystander.verdict()    fails if it ever got a wrong answer, or none
"""

from __future__ import annotations

import threading
import time
from types import TracebackType

from tests.support.ends import TIMEOUT
from tests.support.http_wire import NotHttp, Wire, read_response
from tests.support.poll import eventually
from tests.support.proxy import Gproxy

PACE = 0.005  # seconds between two requests, so that it does not take the machine for itself
LEAST = 5  # answers before and after a fault


class Bystander:
    """Asks a listener's http backend again and again, over one connection, and knows what it must hear."""

    def __init__(self, proxy: Gproxy, listener: str, body: bytes = b"other"):
        self._proxy, self._listener, self._body = proxy, listener, body
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bystander", daemon=True)
        self._problem = ""
        self.answers = 0
        self.slowest = 0.0  # seconds

    def verdict(self) -> str:
        """For the table, once it is over."""
        assert not self._problem, self._problem
        return f"nobody ({self.slowest * 1000:.0f} ms)"

    def _run(self) -> None:
        try:
            with self._proxy.connect(self._listener, TIMEOUT) as sock:
                wire = Wire(sock)
                while not self._over.wait(PACE):
                    self._ask(wire)
        except (OSError, NotHttp, AssertionError) as error:
            self._problem = f"after {self.answers} good answers: {error!r}"

    def _ask(self, wire: Wire) -> None:
        began = time.monotonic()
        wire.sock.sendall(b"GET /bystander HTTP/1.1\r\nHost: bystander\r\n\r\n")
        response = read_response(wire)
        assert response is not None, "closed"
        assert (response.status, bytes(response.body), response.whole) == (200, self._body, True)
        self.slowest = max(self.slowest, time.monotonic() - began)
        self.answers += 1

    def _wait_for_more(self) -> None:
        enough = self.answers + LEAST
        eventually(lambda: self.answers >= enough or self._problem, TIMEOUT, "the bystander is served")

    def __enter__(self) -> Bystander:
        self._thread.start()
        self._wait_for_more()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._wait_for_more()
        finally:
            self._over.set()
            self._thread.join(TIMEOUT)
