"""TimeoutManager: looks at every session and pool once per sweep, and ends what is past its deadline.

No session has a timer of its own, and no message touches a clock: a sweep compares each
direction's byte count with the one it saw last. So a deadline is kept to within one
sweep, always on the late side.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import gevent

from gproxy.core.deadlines import FlowLook, overdue
from gproxy.core.settings import Timeouts
from gproxy.core.termination import Ended
from gproxy.net.background import forever
from gproxy.net.relay import Relay

log = logging.getLogger("gproxy.timeouts")

SLICE = 500  # sessions looked at before others may run: about half a millisecond
_SLOWEST, _FASTEST = 1.0, 0.05  # seconds between sweeps


class Sweepable(Protocol):
    def sweep(self, now: float) -> None:
        """End what is past its deadline. Must not yield."""


def sweep_interval(shortest_timeout: float) -> float:
    """Seconds between sweeps: a quarter of the shortest timeout, within bounds."""
    return min(_SLOWEST, max(_FASTEST, shortest_timeout / 4))


def _sweep_one(item: Sweepable, now: float) -> None:
    try:
        item.sweep(now)
    except Exception:  # a defect; the others must be swept all the same
        log.exception("the sweep of %r failed", item)


class TimeoutManager:
    """Sweeps `few` (pools, upstreams) and then `many` (sessions, in slices)."""

    def __init__(
        self,
        many: Callable[[], Iterable[Sweepable]],
        few: Iterable[Sweepable],
        interval: float,
        *,
        on_lag: Callable[[float], None] = lambda _seconds: None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = gevent.sleep,
    ):
        self._many = many
        self._few = tuple(few)
        self.interval = interval
        self._on_lag = on_lag
        self._clock = clock
        self._pause = pause
        self._runner: Any = None

    def start(self) -> None:
        self._runner = gevent.spawn(forever, self._run, log)

    def stop(self) -> None:
        if self._runner is not None:
            self._runner.kill(block=False)

    def sweep(self) -> None:
        """One look at everything."""
        now = self._clock()
        for item in self._few:
            _sweep_one(item, now)
        # A copy: sessions come and go while others run.
        for number, session in enumerate(tuple(self._many()), 1):
            _sweep_one(session, now)
            if number % SLICE == 0:
                self._pause(0)
                now = self._clock()

    def _run(self) -> None:
        due = self._clock() + self.interval
        self._pause(self.interval)
        self._on_lag(max(0.0, self._clock() - due))
        self.sweep()

    def __repr__(self) -> str:
        return f"<TimeoutManager every {self.interval:g} s>"


class RelayWatch:
    """When each direction of a relay last moved, as the sweep has seen it."""

    __slots__ = ("_delivered_down", "_delivered_up", "_down_since", "_relay", "_up_since")

    def __init__(self, relay: Relay, now: float):
        self._relay = relay
        self._up_since = self._down_since = now
        self._delivered_up = self._delivered_down = 0

    def overdue(self, timeouts: Timeouts, now: float) -> Ended | None:
        """Look once; the termination code when a deadline has passed."""
        relay = self._relay
        # An end counts as a move: the silence before a FIN is none of the rest's.
        left_up, left_down = relay.unconfirmed(relay.up), relay.unconfirmed(relay.down)
        up = relay.up.delivered - left_up + relay.up.source_ended
        down = relay.down.delivered - left_down + relay.down.source_ended
        if up != self._delivered_up:
            self._delivered_up, self._up_since = up, now
        if down != self._delivered_down:
            self._delivered_down, self._down_since = down, now
        return overdue(
            timeouts,
            FlowLook(now - self._up_since, bool(relay.up.held or left_up), relay.up.source_ended),
            FlowLook(now - self._down_since, bool(relay.down.held or left_down), relay.down.source_ended),
        )
