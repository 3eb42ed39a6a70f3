"""Greenlets that rest between two pieces of work, in the place of a new one for each.

CPython maps and unmaps a frame stack for each new greenlet: 10 us, a tenth of a short session.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gevent import getcurrent
from gevent.hub import Hub
from greenlet import greenlet  # type: ignore[import-untyped]

_MAX_RESTING = 128  # kept for the next ones: 20 KB each


class Greenlets:
    """For callers in the hub. What runs must not let an exception out."""

    def __init__(self, hub: Hub):
        self._hub = hub
        self._resting: list[Any] = []
        self._open = True

    def run(self, work: Callable[..., None], *args: Any) -> None:
        """Run it at once, up to its first wait."""
        resting = self._resting
        greenlet = resting.pop() if resting else None
        if greenlet is None or greenlet.dead:
            greenlet = self._one()
        greenlet.switch(work, args)

    def later(self, work: Callable[..., None], *args: Any) -> None:
        """Run it when the hub has done what it is at."""
        self._hub.loop.run_callback(self._one().switch, work, args)

    @property
    def resting(self) -> int:
        return len(self._resting)

    def close(self) -> None:
        """Keep none any more."""
        self._open = False
        self._resting.clear()

    def _one(self) -> Any:
        while self._resting:
            resting = self._resting.pop()
            if not resting.dead:
                return resting
        return greenlet(self._live, self._hub)

    def _live(self, work: Callable[..., None], args: tuple[Any, ...]) -> None:
        me, switch = getcurrent(), self._hub.switch
        while True:
            work(*args)
            if len(self._resting) >= _MAX_RESTING or not self._open:
                return
            self._resting.append(me)
            work, args = switch()

    def __repr__(self) -> str:
        return f"<Greenlets {len(self._resting)} rest>"
