"""A relay between two peers that the test plays."""

from __future__ import annotations

from typing import Any

import gevent

from gproxy.net.relay import Relay
from tests.support.loopback import TIMEOUT, pair
from tests.support.poll import eventually


class Relayed:
    """`client` and `backend` are the far ends; `ended` counts how often the relay said that it is over."""

    def __init__(self, client: dict[str, Any] | None = None, backend: dict[str, Any] | None = None, **parts: Any):
        """`client` and `backend` describe their connections: see `pair`. `parts` are the Relay's."""
        self.client, ours = pair(**(client or {}))
        self.backend, our_backend = pair(**(backend or {}))
        self.ended = 0
        self.relay = Relay(gevent.get_hub().loop, ours, our_backend, self._over, **parts)
        self._ends = (ours, our_backend)

    def start(self) -> Relayed:
        self.relay.start()
        return self

    def wait_over(self) -> None:
        eventually(lambda: self.ended, TIMEOUT, f"over: {self.relay!r}")

    @property
    def our_ends_closed(self) -> bool:
        return all(end.fileno() == -1 for end in self._ends)

    def close(self) -> None:
        """Whatever is still open."""
        self.relay.kill()
        for end in (self.client, self.backend, *self._ends):
            end.close()

    def _over(self, _relay: Relay) -> None:
        self.ended += 1
