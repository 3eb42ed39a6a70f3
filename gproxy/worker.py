"""Worker: the composition root. A Config becomes running objects, which start, drain and stop.

It can be embedded: it patches nothing, handles no signal and owns no process-wide state.
"""

from __future__ import annotations

import importlib
import logging
import random
import resource
import time
from _socket import socket as Socket
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gevent

from gproxy.accesslog import AccessLog
from gproxy.board import BoardReader
from gproxy.building import checks_of, longest_check
from gproxy.core.balance import Policy, PythonChoice, make_policy
from gproxy.core.http.answers import Answers
from gproxy.core.settings import Config, ListenerSettings, Mode, OnOverload, PoolSettings, Reuse, UpstreamSettings
from gproxy.core.termination import Ended
from gproxy.discovery import NameWatcher
from gproxy.errors import BindError, ConfigError, Problem
from gproxy.health import HealthMonitor
from gproxy.http.service import HttpService
from gproxy.idle import IdleClients
from gproxy.logs import LogSink
from gproxy.metrics import ListenerStats, MetricsCollector, Slot
from gproxy.net.dial import Dial, dial
from gproxy.net.limit import UNLIMITED, Elsewhere, Limit
from gproxy.net.listener import ProxyServer, listen
from gproxy.net.refusals import HELD
from gproxy.net.resolve import LOOKUP_TIMEOUT, Resolve, ResolveError, resolve
from gproxy.net.splice import PIPES
from gproxy.probes import ProbeTarget, probe
from gproxy.router import Decision, Router
from gproxy.service import Common, Service, Session, Target
from gproxy.shared import Shared
from gproxy.statsd import StatsdReporter
from gproxy.stories import Stories, Trace
from gproxy.tcp import TcpService
from gproxy.timeouts import TimeoutManager, sweep_interval
from gproxy.upstream import Backend, Upstream

log = logging.getLogger("gproxy.worker")

SPARE_DESCRIPTORS = 100  # for logs, StatsD, probes, the interpreter itself
WORTH_A_LINE = 1.0  # seconds of lag
_DRAIN_LOOK = 0.05  # seconds between looks at whether the last session has ended
_LINES_AT_ONCE = 200  # of the access log: in a row they cost half
_KILLS = 3  # an http session tells its client, lingers, and ends
_FLUSH_TIMEOUT = 1.0  # seconds for the last log lines


class Share(NamedTuple):
    """A worker's part, where it is one of several processes."""

    shared: Shared
    slot: int
    sockets: Mapping[str, Sequence[Socket]]  # listening already, by the names of listeners


class Worker:
    """One process's balancer. `start()` returns when it serves; `drain()` or `stop()` end it."""

    def __init__(
        self,
        config: Config,
        share: Share | None = None,
        *,
        dial: Dial = dial,
        resolve: Resolve = resolve,
        probe: Callable[[ProbeTarget], None] = probe,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        elsewhere: Elsewhere | None = None,
    ):
        """`share` makes it one of several processes; by itself it checks its backends and reports to StatsD, too.

        `elsewhere` tells what other processes hold in a slot of their metrics; None where there are none.
        ConfigError where a policy can't be loaded; LogTargetError where the access log can't be opened.
        """
        self.config = config
        self._clock = clock
        self._dial = dial
        self._resolve = resolve
        self._rng = rng or random.Random()
        self._share = share
        self._elsewhere = elsewhere
        if share is not None and config.workers > 1:
            self._elsewhere = partial(share.shared.elsewhere, share.slot)
        self.metrics = MetricsCollector.of(config) if share is None else share.shared.row(share.slot)
        self.router = Router()
        self.stories = Stories()
        self.sessions: set[Session] = set()
        self._servers: list[ProxyServer] = []
        self.upstreams = {u.name: self._upstream(u) for u in config.upstreams}
        self.board = None if share is None else BoardReader(share.shared, self.upstreams.values())
        self._sink = self._access_sink()
        access = None
        if self._sink is not None:
            access = AccessLog(config.log.format, self._sink, at_once=_LINES_AT_ONCE)
            self._sink.before_flush = access.catch_up
        self.services = [self._service(listener, access) for listener in config.listeners]
        self.names = NameWatcher(list(self.upstreams.values()), resolve)
        self.health = self._monitor(probe)
        self.timeouts = TimeoutManager(
            lambda: self.sessions,
            self.upstreams.values(),
            sweep_interval(self._shortest_timeout()),
            on_lag=self._lagged,
            clock=clock,
        )
        self.statsd = self._reporter()

    # Starting.

    def start(self) -> None:
        """Listen, look names up, check every backend once, then serve. BindError if an address can't be had.

        Clients that come earlier wait in the kernel's backlog: for the look-ups and one round of checks.
        """
        self.prepare()
        self.serve()

    def prepare(self) -> None:
        """All of it but the serving."""
        try:
            self._bind()
        except BindError:
            self.stop()
            raise
        if self._sink is not None:
            self._sink.start()
        self.names.first_round(LOOKUP_TIMEOUT)
        if self.health is not None:
            self.health.first_round(longest_check(self.config))
            self.health.start()
        if self.board is not None:
            self.board.wait_for_checks(LOOKUP_TIMEOUT + longest_check(self.config))
        self.names.start()
        self.timeouts.start()
        if self.statsd is not None:
            self.statsd.start()

    def serve(self) -> None:
        """Accept clients."""
        for service in self.services:
            assert service.server is not None
            service.server.start()
            if self._share is None:
                log.info("listener %s: serving on %s", service.name, service.server.url)
        self.timeouts.sweep()

    def address(self, listener: str) -> Any:
        """Where a listener really listens, as getsockname() has it: for port 0."""
        return next(s.server.address for s in self.services if s.name == listener and s.server is not None)

    def pulse(self) -> None:
        """Of several processes: say that this one lives, and look what the others say. Ten times a second."""
        assert self._share is not None
        assert self.board is not None
        self.metrics.catch_up()
        self.board.look()
        for server in self._servers:
            server.relieve()  # another worker may have no room, whose own clients are not idle
        self._share.shared.alive(self._share.slot)

    @property
    def resting(self) -> int:
        """Greenlets that wait for the next clients."""
        return sum(server.greenlets.resting for server in self._servers)

    def traces(self) -> list[Trace]:
        """What became of the last sessions and exchanges, and what is under way; the latest first."""
        self.metrics.catch_up()
        return sorted([*self.stories.traces, *self._under_way()], key=lambda trace: trace.latest, reverse=True)

    def decisions(self, last: int) -> list[Decision]:
        """The last choices of backends, the latest first."""
        self.metrics.catch_up()
        return self.stories.decisions(last, [trace.course for trace in self._under_way() if trace.course is not None])

    def _under_way(self) -> list[Trace]:
        return [trace for session in self.sessions if (trace := session.under_way()) is not None]

    # Ending.

    def drain(self, timeout: float, *, gently: bool = False) -> bool:
        """Stop accepting and wait for the sessions to end by themselves; whether they all did.

        Gently, because another process serves on: idle keep-alive clients may stay until their next response, which
        tells them to leave. To close them would meet a request that is on its way now and then.
        """
        self._stop_accepting()
        gevent.sleep(0)  # who was accepted just now becomes a session
        for service in self.services:
            service.drain()
        if not gently:
            for session in tuple(self.sessions):
                session.drain()
        deadline = self._clock() + timeout
        while self.sessions and (left := deadline - self._clock()) > 0:
            gevent.sleep(min(left, _DRAIN_LOOK))
        return not self.sessions

    def stop(self) -> None:
        """End everything at once."""
        self._stop_accepting()
        self._kill_sessions()
        for part in (self.names, self.health, self.timeouts):
            if part is not None:
                part.stop()
        for upstream in self.upstreams.values():
            upstream.close()
        if self.statsd is not None:
            self.statsd.stop()
        if self._sink is not None:
            self._sink.close(_FLUSH_TIMEOUT)

    def _kill_sessions(self) -> None:
        """Those that wait go first: else one of them would get the slot that another's end sets free, and live."""
        for session in tuple(self.sessions):
            if session.waiting:
                session.end(Ended.KILLED)
        gevent.sleep(0)  # lets the killed greenlets end, and those that were just born begin
        for _ in range(_KILLS):
            for session in tuple(self.sessions):
                session.end(Ended.KILLED)
            gevent.sleep(0)

    def _stop_accepting(self) -> None:
        for service in self.services:
            if service.server is not None and not service.server.closed:
                service.server.close()

    # Building.

    def _upstream(self, settings: UpstreamSettings) -> Upstream:
        python = load_choice(settings) if settings.balance.kind == "python" else None

        def policy(backends: tuple[Backend, ...]) -> Policy:
            return make_policy(settings.balance, backends, self._rng, python)

        upstream = Upstream(settings, self.metrics, policy, dial=self._dial, clock=self._clock)
        upstream.on_down = self._end_sessions
        return upstream

    def _service(self, settings: ListenerSettings, access: AccessLog | None) -> Service:
        targets = {name: Target.of(self.upstreams[name], settings.overrides) for name in settings.targets}
        common = Common(self.router, self.metrics, self.sessions, self._servers, access, self._clock, self.stories)
        if settings.mode is Mode.HTTP:
            return HttpService(settings, targets, Answers(_error_files(settings)), common)
        return TcpService(settings.name, targets[settings.upstream], common)

    def _bind(self) -> None:
        room = descriptor_room(self.config)
        everyone = self._limit_of_all(room)
        for service, settings in zip(self.services, self.config.listeners, strict=True):
            sock, *more = self._sockets(settings)
            service.server = ProxyServer(
                sock,
                service.serve,
                (self._limit_of(service, settings), everyone),
                service.refusals() if settings.on_overload is OnOverload.REJECT else None,
            )
            if self._share is not None:
                service.server.borrow(more)
            self._servers.append(service.server)

    def _sockets(self, settings: ListenerSettings) -> Sequence[Socket]:
        return [self._listen(settings)] if self._share is None else self._share.sockets[settings.name]

    def _limit_of(self, service: Service, settings: ListenerSettings) -> Limit:
        """How many sessions a listener may have."""
        idle = IdleClients(self.sessions, service.name, self._clock)
        return Limit(
            settings.max_connections,
            view=self.metrics.view,
            slot=service.stats.base + ListenerStats.ACTIVE,
            elsewhere=self._elsewhere,
            relieve=idle.close if settings.mode is Mode.HTTP else None,
        )

    def _limit_of_all(self, room: int) -> Limit:
        """How many all listeners may have together; `room` in this process."""
        most = self.config.max_connections
        http = any(listener.mode is Mode.HTTP for listener in self.config.listeners)
        return Limit(
            UNLIMITED if most is None else most,
            room,
            view=self.metrics.view,
            slot=Slot.ACTIVE,
            elsewhere=None if most is None else self._elsewhere,
            relieve=IdleClients(self.sessions, clock=self._clock).close if http else None,
        )

    def _listen(self, settings: ListenerSettings) -> Socket:
        try:
            endpoint = self._resolve(settings.bind)[0]
        except ResolveError as error:
            raise BindError(f"cannot listen on {settings.bind}: {error}") from error
        return listen(endpoint, settings.backlog)

    def _monitor(self, probe: Callable[[ProbeTarget], None]) -> HealthMonitor | None:
        if self._share is not None:
            return None  # the steward checks for all
        checks = checks_of(self.upstreams.values(), Upstream.flipped, dial=self._dial, clock=self._clock)
        return HealthMonitor(checks, probe=probe, clock=self._clock, rng=self._rng)

    def _reporter(self) -> StatsdReporter | None:
        if self.config.statsd is None or self._share is not None:
            return None
        return StatsdReporter(self.config.statsd, self.config.metrics_interval, self.metrics)

    def _access_sink(self) -> LogSink | None:
        if self.config.log.access == "off":
            return None
        return LogSink(self.config.log.access, lambda lines: self.metrics.count(Slot.LOG_DROPPED, lines))

    def _shortest_timeout(self) -> float:
        shortest = [60.0]
        for service in self.services:
            for upstream, t, _ in service.targets:
                shortest += [t.connection_idle_timeout, t.stall_timeout, t.half_close_timeout]
                shortest += [t.request_head_timeout, t.client_idle_timeout, t.response_timeout, t.tunnel_timeout]
                shortest.append(upstream.settings.pool.idle_timeout)
        return min(shortest)

    def _lagged(self, seconds: float) -> None:
        """The event loop was late: something held it, a policy of the user's perhaps."""
        self.metrics.hub_lag(seconds)
        if seconds >= WORTH_A_LINE:
            log.warning("the event loop stood still for %.1f s", seconds)

    def reopen_logs(self) -> None:
        """The access log's file was moved away: write to its name again."""
        if self._sink is not None:
            self._sink.reopen()

    def _end_sessions(self, backend: Backend) -> None:
        """`down_action: close_sessions`."""
        for session in tuple(self.sessions):
            if session.backend is backend and not session.waiting:  # who still dials may go elsewhere
                session.end(Ended.BACKEND_DOWN)

    def __repr__(self) -> str:
        return f"<Worker {len(self.sessions)} sessions, {list(self.upstreams.values())!r}>"


def load_choice(settings: UpstreamSettings) -> PythonChoice:
    """The user's policy by its dotted path ``package.module:function``; ConfigError where there is none."""
    module, _, name = settings.balance.argument.partition(":")
    source = f"upstreams.{settings.name}.balance.python"
    try:
        choice = getattr(importlib.import_module(module), name)
    except Exception as error:
        problem = f"cannot load {settings.balance.argument}: {type(error).__name__}: {error}"
        raise ConfigError(source, [Problem(0, "", problem)]) from error
    if not callable(choice):
        raise ConfigError(source, [Problem(0, "", f"{settings.balance.argument} can't be called")])
    return choice  # type: ignore[no-any-return]


_CONTENT_TYPES = {".html": "text/html; charset=utf-8", ".json": "application/json"}


def _error_files(settings: ListenerSettings) -> dict[int, tuple[bytes, bytes]]:
    """The operator's error bodies with their content types. ConfigError for one that can't be read."""
    found = {}
    for status, path in settings.error_files:
        try:
            body = Path(path).read_bytes()
        except OSError as error:
            raise ConfigError(path, [Problem(0, "", f"cannot be read: {error.strerror}")]) from error
        found[status] = (body, _CONTENT_TYPES.get(Path(path).suffix, "text/plain; charset=utf-8").encode())
    return found


def descriptor_room(config: Config) -> int:
    """How many sessions the process's descriptors suffice for: two each, pools and spares apart."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 2**31
    pooled = sum(_most_idle(u.pool) * len(u.backends) for u in config.upstreams)
    held = HELD * sum(x.on_overload is OnOverload.REJECT and x.mode is Mode.HTTP for x in config.listeners)
    return max(1, (soft - SPARE_DESCRIPTORS - 2 * PIPES.limit - pooled - held) // 2)


def _most_idle(pool: PoolSettings) -> int:
    return pool.preconnect if pool.reuse is Reuse.NEVER else pool.size
