"""IdleClients: the http clients that hold a place and want nothing, of whom some go when places are short.

A client is idle between two requests, and before the first byte of its first one. The sweep sees it: no request
touches a clock for it. So who is found idle has been so for LEAST_IDLE at least: a client that has just had its
answer is likely to go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from heapq import nsmallest
from operator import itemgetter

from gproxy.service import Session

LEAST_IDLE = 1.0  # seconds
_FUTILE_FOR = 0.25  # seconds without another look after one that found too few: it costs 0.2 us a session


class IdleClients:
    """Those of one listener, or of all of them (`listener` is empty)."""

    def __init__(self, sessions: Collection[Session], listener: str = "", clock: Callable[[], float] = time.monotonic):
        self._sessions = sessions
        self._listener = listener
        self._clock = clock
        self._futile_until = 0.0

    def close(self, count: int) -> int:
        """Close up to `count`, those that are idle longest; how many it was."""
        now = self._clock()
        if now < self._futile_until:
            return 0
        closed = sum(session.dismiss() for session in self._longest(count, now - LEAST_IDLE))
        if closed < count:
            self._futile_until = now + _FUTILE_FOR
        return closed

    def _longest(self, count: int, latest: float) -> list[Session]:
        """Idle since `latest` at least."""
        own = (s for s in self._sessions if not self._listener or s.listener == self._listener)
        found = ((since, session) for session in own if (since := session.idle_since()) is not None)
        chosen = nsmallest(count, (pair for pair in found if pair[0] <= latest), key=itemgetter(0))
        return [session for _, session in chosen]

    def __repr__(self) -> str:
        return f"<IdleClients of {self._listener or 'all'}>"
