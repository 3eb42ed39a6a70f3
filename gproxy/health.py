"""HealthMonitor: checks every backend in its own rhythm, many at once.

A heap holds when each backend is due. What is due is probed in a greenlet of a bounded
pool; the result goes into the backend's BackendHealth, which says when it is due again.
A flip is reported once, to the backend's `on_flip`.
"""

from __future__ import annotations

import heapq
import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

import gevent
from gevent.event import Event
from gevent.pool import Pool

from gproxy.core.health import BackendHealth, Operational
from gproxy.core.settings import HealthCheckSettings, Probe
from gproxy.net.background import forever
from gproxy.probes import ProbeFailed, ProbeTarget, probe

__all__ = ["BackendHealth", "Checked", "HealthMonitor"]

log = logging.getLogger("gproxy.health")

MAX_CONCURRENT = 100  # probes in flight: bounds descriptors when a whole rack is black-holed


class Rng(Protocol):
    def random(self) -> float:
        """From 0 to below 1."""


@dataclass(frozen=True, slots=True)
class Checked:
    """One backend to check: its state, how to probe it, and whom to tell of a flip (with the reason)."""

    health: BackendHealth
    target: ProbeTarget
    on_flip: Callable[[str], None]

    @property
    def settings(self) -> HealthCheckSettings:
        return self.target.settings


class HealthMonitor:
    """Checks while it runs; backends with `type: none` are left alone and stay as they are."""

    def __init__(
        self,
        checked: Sequence[Checked],
        *,
        probe: Callable[[ProbeTarget], None] = probe,
        clock: Callable[[], float] = time.monotonic,
        rng: Rng | None = None,
    ):
        self._checked = [c for c in checked if c.settings.type is not Probe.NONE]
        self._probe = probe
        self._clock = clock
        self._rng: Rng = rng or random.Random()
        self._due: list[tuple[float, int, Checked]] = []
        self._order = count()  # breaks ties in the heap: Checked has no order
        self._wake = Event()
        self._pool = Pool(MAX_CONCURRENT)
        self._runner: Any = None
        self._launch: Any = None
        self._begun = False

    def first_round(self, timeout: float) -> None:
        """Check everybody of whom nothing is known, at the same time, for at most `timeout` seconds in all."""
        self._begun = True
        self._launch = gevent.spawn(self._check_all)
        with gevent.Timeout(timeout, False):  # what is still to be checked then is, by and by
            self._launch.join()
            self._pool.join()

    def start(self) -> None:
        """Check from now on."""
        if not self._begun:
            self._begun = True
            for checked in self._checked:
                self._schedule(checked, self._clock())
        self._runner = gevent.spawn(forever, self._run, log)

    def stop(self) -> None:
        if self._runner is not None:
            self._runner.kill(block=False)
        if self._launch is not None:
            self._launch.kill(block=False)
        self._pool.kill(block=False)

    def tick(self) -> float:
        """Start the checks that are due; seconds until the next one is."""
        now = self._clock()
        while self._due and self._due[0][0] <= now:
            _, _, checked = heapq.heappop(self._due)
            self._pool.spawn(self.check, checked)  # waits while too many are in flight
        return max(0.0, self._due[0][0] - now) if self._due else 3600.0

    def check(self, checked: Checked) -> None:
        """Probe once, take the result in, and be due again."""
        settings = checked.settings
        try:
            failure = self._failure(checked.target)
            if checked.health.observe(failure is None, settings.rise, settings.fall):
                checked.on_flip(f"check failed: {failure}" if failure else "check passed")
        finally:  # whatever a probe does, its backend must not go unchecked from then on
            self._schedule(checked, self._clock() + checked.health.next_delay(settings, self._rng.random()))

    def _failure(self, target: ProbeTarget) -> ProbeFailed | None:
        try:
            self._probe(target)
        except ProbeFailed as failure:
            return failure
        except Exception as defect:
            log.exception("a check of %s failed in a way that it should not", target.host)
            return ProbeFailed(f"{type(defect).__name__}: {defect}")
        return None

    def _schedule(self, checked: Checked, at: float) -> None:
        heapq.heappush(self._due, (at, next(self._order), checked))
        self._wake.set()

    def _check_all(self) -> None:
        unknown = []
        for checked in self._checked:
            if checked.health.operational is Operational.UNKNOWN:
                unknown.append(checked)
            else:  # known from an earlier process: its checks go on
                self._schedule(checked, self._clock() + self._rng.random() * checked.settings.interval)
        for checked in unknown:
            self._pool.spawn(self.check, checked)  # waits while too many are in flight

    def _run(self) -> None:
        self._wake.clear()
        self._wake.wait(self.tick())

    def __repr__(self) -> str:
        return f"<HealthMonitor {len(self._checked)} checked, {len(self._pool)} probes in flight>"
