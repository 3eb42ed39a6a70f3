"""Backend and Upstream: the servers, what is known of each, and who may have a connection next.

A backend composes four parts that don't know of each other: its health (what checks
say), its ejection (what dials say), its pool (connections) and its stats.
"""

from __future__ import annotations

import logging
import time
from _socket import socket as Socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from math import inf

from gproxy.core.balance import HashRing, Policy
from gproxy.core.ejection import Ejection, may_eject
from gproxy.core.health import Administrative, BackendHealth, Operational
from gproxy.core.http.cookies import sticky_token
from gproxy.core.idle_limit import IdleLimit
from gproxy.core.retry import RetryBudget
from gproxy.core.settings import AllDown, BackendSettings, DownAction, Reuse, UpstreamSettings
from gproxy.errors import DialError, DialFailure
from gproxy.metrics import BackendStats, MetricsCollector, Slot
from gproxy.net import dial as dialling
from gproxy.net.connection import Endpoint
from gproxy.net.dial import Dial, dial_any
from gproxy.net.pool import ConnectionPool, PoolEvent
from gproxy.net.queue import SlotQueue
from gproxy.net.resolve import literal
from gproxy.shared import BackendLine

log = logging.getLogger("gproxy.upstream")

_POOL_SLOTS = {
    PoolEvent.OVERFLOW: Slot.POOL_OVERFLOW,
    PoolEvent.STALE: Slot.POOL_STALE,
    PoolEvent.DIRTY: Slot.POOL_DIRTY,
}


class Exclusion(Enum):
    """Why a backend is no candidate."""

    DOWN = "down"
    DRAIN = "draining"
    MAINT = "in maintenance"
    EJECTED = "ejected after failures"
    UNRESOLVED = "its host name has no address yet"
    FULL = "at its connection limit"
    TRIED = "tried already"
    BACKUP = "a backup, and others can serve"


class Backend:
    """One server process, as balancing, pooling and health see it."""

    def __init__(self, upstream: Upstream, settings: BackendSettings, stats: BackendStats):
        self.name = settings.name
        self.weight = settings.weight
        self.settings = settings
        self.upstream = upstream
        self.stats = stats
        self.connects = stats.base + BackendStats.CONNECTS  # the slots of these counters, for hot code
        self.reuses = stats.base + BackendStats.REUSES
        self.health = BackendHealth()
        self.ejection = Ejection()
        self._idle_limit = IdleLimit()
        self.endpoints: tuple[Endpoint, ...] = literal(settings.address)
        self.line: BackendLine | None = None  # what other processes say of it, and are told
        self._turn = 0
        self.slot_freed = upstream.queue.serve  # for its pool, which tells of every return
        self.pool = ConnectionPool(
            upstream.settings.pool, self, max_connections=settings.max_connections, clock=upstream.clock
        )

    @property
    def active(self) -> int:
        """Connections lent now."""
        return self.pool.borrowed

    def exclusion(self, now: float) -> Exclusion | None:
        """Why it may serve nobody, its connection limit apart; None when it may. Never checked counts as up."""
        if self.health.administrative is not Administrative.READY:
            return Exclusion.MAINT if self.health.administrative is Administrative.MAINT else Exclusion.DRAIN
        if self.health.operational is Operational.DOWN:
            return Exclusion.DOWN
        if self.ejection.ejected(now):
            return Exclusion.EJECTED
        return None if self.endpoints else Exclusion.UNRESOLVED

    def dial(self, timeout: float | None = None) -> Socket:
        """A fresh connection to one of its addresses, by turns; DialError where all fail. Counts and judges.

        `timeout` in seconds, for each address; the upstream's `backend_connect_timeout` by default.
        """
        if timeout is None:
            timeout = self.upstream.settings.timeouts.backend_connect_timeout
        clock = self.upstream.clock
        began = clock()
        try:
            sock = dial_any(self._rotated(), timeout, self.upstream.dial)
        except DialError as error:
            self._dial_failed(error)
            raise
        self.stats.view[self.connects] += 1
        self.upstream.metrics.connect_time.record(clock() - began)
        self.ejection.succeeded()
        return sock

    # What its pool asks and tells: see PoolOwner.

    def pool_event(self, event: PoolEvent) -> None:
        self.upstream.metrics.count(_POOL_SLOTS[event])

    def idle_closed(self, idle: float) -> None:
        now = self.upstream.clock()
        self._idle_limit.closed(idle, now)
        self.pool.idle_limit = self._idle_limit.limit(now)

    # What http sessions tell.

    def idle_promised(self, timeout: float) -> None:
        """It said how long it keeps an idle connection."""
        now = self.upstream.clock()
        self._idle_limit.promised(timeout, now)
        self.pool.idle_limit = self._idle_limit.limit(now)

    def responded(self, status: int) -> None:
        """It sent a response: a run of errors ejects it, where the configuration says so."""
        settings = self.upstream.settings.passive_health
        now = self.upstream.clock()
        may = self.upstream.may_eject(now)
        if self.ejection.responded(settings, status >= 500, now, may):
            self._ejected(now, f"{settings.server_errors} responses of 500 and above in a row")

    # What its operator and the sweep do.

    def set_administrative(self, state: Administrative) -> None:
        """Ready, drain or maint; anything but ready takes no new session from now on."""
        self.health.administrative = state
        self.upstream.changed(self)

    def eject(self, seconds: float) -> None:
        """Leave it out for so long, from now on."""
        self.ejection.eject(self.upstream.clock() + seconds)
        self.stats.ejections += 1
        self.upstream.changed(self)

    def readmit(self) -> None:
        """End its ejection."""
        self.ejection.readmit(self.upstream.clock())
        self.upstream.changed(self)

    def empty_pool(self) -> None:
        """Close its idle connections."""
        self.pool.empty()
        self.publish(self.upstream.clock())

    def follow(self, line: BackendLine) -> None:
        """Take over what another process has found out, or an operator wants; again and again."""
        news = self.health.told(line.operational)
        weight = line.weight or self.settings.weight
        if not news and line.administrative is self.health.administrative and weight == self.weight:
            return
        self.health.administrative = line.administrative
        if weight != self.weight:
            self.weight = weight
            self.upstream.reweighed()
        if news:
            self.upstream.turned(self)
        else:
            self.upstream.changed(self)

    def inherit(self, line: BackendLine) -> None:
        """Begin with what earlier processes knew, and tell later ones."""
        self.line = line
        if line.idle_limit is not None:
            self._idle_limit.inherit(line.idle_limit, self.upstream.clock())
        self.follow(line)

    def publish(self, now: float) -> None:
        """Bring the gauges up to date."""
        stats, pool = self.stats, self.pool
        stats.active, stats.pool_idle = pool.borrowed, pool.idle
        stats.healthy = int(self.health.operational is not Operational.DOWN)
        stats.ejected = int(self.ejection.ejected(now))
        self.pool.idle_limit = limit = self._idle_limit.limit(now)
        if self.line is not None and limit != inf:
            self.line.idle_limit = limit
        stats.queue = len(self.upstream.queue) if pool.full and self.exclusion(now) is None else 0

    def _rotated(self) -> tuple[Endpoint, ...]:
        if len(self.endpoints) < 2:
            return self.endpoints
        self._turn = (self._turn + 1) % len(self.endpoints)
        return self.endpoints[self._turn :] + self.endpoints[: self._turn]

    def _dial_failed(self, error: DialError) -> None:
        self.stats.connect_failures += 1
        if error.failure is DialFailure.TIMEOUT:
            self.stats.timeouts += 1
        if error.failure in (DialFailure.RESOURCES, DialFailure.NO_ADDRESS):
            return  # ours, not the backend's
        now = self.upstream.clock()
        if self.ejection.failed(self.upstream.settings.passive_health, now, self.upstream.may_eject(now)):
            self._ejected(now, str(error))

    def _ejected(self, now: float, why: str) -> None:
        self.stats.ejections += 1
        log.warning("backend %s ejected for %.0f s: %s", self.label, self.ejection.until - now, why)
        self.upstream.changed(self)

    @property
    def label(self) -> str:
        """``upstream/backend``, as in logs."""
        return f"{self.upstream.name}/{self.name}"

    def __repr__(self) -> str:
        return f"<Backend {self.label} {self.health!r} {self.ejection!r} {self.pool!r}>"


@dataclass(frozen=True, slots=True)
class Standing:
    """Who could serve, limits apart, until `valid_until` or the next change. Shared by many decisions."""

    candidates: tuple[Backend, ...]
    backups: tuple[Backend, ...]
    excluded: tuple[tuple[str, str], ...]  # (backend, reason), the backups left out
    excluded_and_backups: tuple[tuple[str, str], ...]  # the same with the backups, for while a candidate can serve
    limited: bool  # whether any of them has a connection limit
    plain: tuple[Backend, ...]  # the candidates, where none is limited
    valid_until: float


class Upstream:
    """A named group of backends with one policy."""

    def __init__(
        self,
        settings: UpstreamSettings,
        metrics: MetricsCollector,
        policy: Callable[[tuple[Backend, ...]], Policy],
        *,
        dial: Dial = dialling.dial,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.name = settings.name
        self.settings = settings
        self.metrics = metrics
        self.dial = dial
        self.clock = clock
        self.queue: SlotQueue[Backend] = SlotQueue()
        self.retries = RetryBudget()
        self.backends = tuple(Backend(self, b, metrics.backend(settings.name, b.name)) for b in settings.backends)
        self.policy = policy(self.backends)
        self.shares = settings.pool.reuse is Reuse.SAFE  # whether a connection serves one request after the other
        self.judges = settings.passive_health.server_errors > 0  # responses
        self.sticks = settings.sticky is not None
        self.looks_inside = self.sticks or settings.balance.kind == "hash"  # requests, to choose
        self.by_token = {sticky_token(self.name, b.name): b.name for b in self.backends}  # of sticky cookies
        self.on_down: Callable[[Backend], None] = lambda _backend: None
        self.known: Standing | None = None  # for hot code: the standing, if it is still valid
        self._serves = True  # as was last said
        self.speaks = True  # whether it says so: of several processes one does

    @property
    def active(self) -> int:
        """Connections lent now, by all of its backends."""
        backends = self.backends
        if len(backends) == 1:
            return backends[0].pool.borrowed
        active = 0
        for backend in self.backends:  # for every line of the access log: a sum() of a generator costs twice as much
            active += backend.pool.borrowed
        return active

    @property
    def resets(self) -> bool:
        """Whether a client that nobody can serve gets RST."""
        return self.settings.all_down is AllDown.RESET

    def standing(self, now: float) -> Standing:
        """Worked out anew only after a change, so that a decision costs the same for any number of backends."""
        standing = self.known
        if standing is None or now >= standing.valid_until:
            standing = self.known = self._work_out(now)
            self.queue.serve()  # whoever waits comes before whoever asks
        return standing

    def may_retry(self, tried: Sequence[Backend], now: float) -> bool:
        """Whether a session whose dials of `tried` have failed may try another; counts it.

        It may while there is another whose last dial did not fail. Where all of them fail, an
        outage of the whole upstream, the budget bounds the tries.
        """
        standing = self.standing(now)
        others = [b for b in standing.candidates + standing.backups if b not in tried]
        sound = any(not b.ejection.failures for b in others)
        if not others or not (sound or self.retries.may_retry(now)):
            return False
        self.retries.retried(now)
        return True

    def changed(self, backend: Backend) -> None:
        """Somebody's eligibility changed: forget the standing, empty its pool if it is out, serve who waits."""
        self.known = None
        now = self.clock()
        if backend.exclusion(now) is not None:
            backend.pool.empty()
        backend.publish(now)
        if self.speaks:
            self._say_who_serves(now)
        self.queue.serve()

    def _say_who_serves(self, now: float) -> None:
        """One line when nobody is left to serve, and one when somebody is again."""
        standing = self.standing(now)
        serves = bool(standing.candidates or standing.backups)
        if serves is not self._serves:
            self._serves = serves
            if serves:
                log.warning("upstream %s can serve again", self.name)
            else:
                log.error("upstream %s: no backend can serve", self.name)

    def flipped(self, backend: Backend, why: str) -> None:
        """The checks have changed their mind about a backend: said once."""
        up = backend.health.operational is Operational.UP
        log.log(
            logging.INFO if up else logging.WARNING, "backend %s is %s: %s", backend.label, "up" if up else "down", why
        )
        self.turned(backend)

    def reweighed(self) -> None:
        """A backend has got another weight."""
        if isinstance(self.policy, HashRing):
            self.policy.rebuild(self.backends)

    def turned(self, backend: Backend) -> None:
        """A backend has gone up or down."""
        up = backend.health.operational is not Operational.DOWN
        if up:
            backend.ejection.readmit(self.clock())
        self.changed(backend)
        if not up and self.settings.down_action is DownAction.CLOSE_SESSIONS:
            self.on_down(backend)

    def may_eject(self, now: float) -> bool:
        """Whether one more backend may be ejected."""
        ejected = sum(backend.ejection.ejected(now) for backend in self.backends)
        return may_eject(ejected, len(self.backends), self.settings.passive_health.max_ejected_percent)

    def sweep(self, now: float) -> None:
        """Expire idle connections, let ejections end, bring the gauges up to date."""
        self.standing(now)
        self.retries.look(now)
        self.queue.serve()
        for backend in self.backends:
            backend.pool.sweep(now)
            backend.publish(now)

    def close(self) -> None:
        """Close every pool for good."""
        for backend in self.backends:
            backend.pool.close()

    def _work_out(self, now: float) -> Standing:
        reasons = [(backend, backend.exclusion(now)) for backend in self.backends]
        for backend, reason in reasons:
            backend.pool.wanted = reason is None
        able = [backend for backend, reason in reasons if reason is None]
        ends = [b.ejection.until for b, reason in reasons if reason is Exclusion.EJECTED]
        backups = tuple(b for b in able if b.settings.backup)
        excluded = tuple((b.name, reason.value) for b, reason in reasons if reason is not None)
        candidates = tuple(b for b in able if not b.settings.backup)
        limited = any(b.settings.max_connections is not None for b in able)
        return Standing(
            candidates=candidates,
            plain=() if limited else candidates,
            backups=backups,
            excluded=excluded,
            excluded_and_backups=(*excluded, *((b.name, Exclusion.BACKUP.value) for b in backups)),
            limited=limited,
            valid_until=min(ends, default=float("inf")),
        )

    def __repr__(self) -> str:
        able = len(self.standing(self.clock()).candidates)
        return f"<Upstream {self.name} {able} of {len(self.backends)} can serve, {len(self.queue)} wait>"
