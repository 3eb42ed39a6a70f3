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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent

from gproxy.accesslog import AccessLog
from gproxy.core.balance import Policy, PythonChoice, make_policy
from gproxy.core.http.answers import Answers
from gproxy.core.settings import Config, ListenerSettings, Mode, PoolSettings, Reuse, UpstreamSettings
from gproxy.core.termination import Ended
from gproxy.discovery import NameWatcher
from gproxy.errors import BindError, ConfigError, Problem
from gproxy.health import Checked, HealthMonitor
from gproxy.http.service import HttpService
from gproxy.logs import LogSink
from gproxy.metrics import MetricsCollector, Slot
from gproxy.net.dial import Dial, dial, dial_any
from gproxy.net.listener import ProxyServer, listen, never_crowded
from gproxy.net.resolve import LOOKUP_TIMEOUT, Resolve, ResolveError, resolve
from gproxy.net.splice import PIPES
from gproxy.probes import ProbeTarget, probe
from gproxy.router import Router
from gproxy.service import Service, Session, Target
from gproxy.statsd import StatsdReporter
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


class Worker:
    """One process's balancer. `start()` returns when it serves; `drain()` or `stop()` end it."""

    def __init__(
        self,
        config: Config,
        *,
        dial: Dial = dial,
        resolve: Resolve = resolve,
        probe: Callable[[ProbeTarget], None] = probe,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ):
        """ConfigError where a policy can't be loaded; LogTargetError where the access log can't be opened."""
        self.config = config
        self._clock = clock
        self._dial = dial
        self._resolve = resolve
        self._rng = rng or random.Random()
        pairs = [(u.name, b.name) for u in config.upstreams for b in u.backends]
        self.metrics = MetricsCollector(pairs, [x.name for x in config.listeners if x.mode is Mode.HTTP])
        self.router = Router()
        self.sessions: set[Session] = set()
        self._servers: list[ProxyServer] = []
        self.upstreams = {u.name: self._upstream(u) for u in config.upstreams}
        self._sink = self._access_sink()
        access = None
        if self._sink is not None:
            access = AccessLog(config.log.format, self._sink, at_once=_LINES_AT_ONCE)
            self._sink.before_flush = access.catch_up
        self.services = [self._service(listener, access) for listener in config.listeners]
        self.names = NameWatcher(list(self.upstreams.values()), resolve)
        self.health = HealthMonitor(self._checks(), probe=probe, clock=clock, rng=self._rng)
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
        try:
            self._bind()
        except BindError:
            self.stop()
            raise
        if self._sink is not None:
            self._sink.start()
        self.names.first_round(LOOKUP_TIMEOUT)
        self.health.first_round(max((u.health_check.timeout for u in self.config.upstreams), default=0.0) + 0.5)
        self.names.start()
        self.health.start()
        self.timeouts.start()
        if self.statsd is not None:
            self.statsd.start()
        for service in self.services:
            assert service.server is not None
            service.server.start()
            log.info("listener %s: serving on %s", service.name, service.server.url)
        self.timeouts.sweep()

    def address(self, listener: str) -> Any:
        """Where a listener really listens, as getsockname() has it: for port 0."""
        return next(s.server.address for s in self.services if s.name == listener and s.server is not None)

    # Ending.

    def drain(self, timeout: float) -> bool:
        """Stop accepting and wait for the sessions to end by themselves; whether they all did."""
        self._stop_accepting()
        for service in self.services:
            service.drain()
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
        shared = (self.router, self.metrics, self.sessions, self._servers, access, self._clock)
        if settings.mode is Mode.HTTP:
            return HttpService(settings, targets, Answers(_error_files(settings)), *shared)
        return TcpService(settings.name, targets[settings.upstream], *shared)

    def _bind(self) -> None:
        room = descriptor_room(self.config)
        share = len(self.config.listeners) > 1  # one listener's own limit says it all
        wanted = max(listener.max_connections for listener in self.config.listeners)
        if wanted > room:
            log.warning(
                "max_connections is %d, but the descriptors suffice for %d sessions: see ulimit -n", wanted, room
            )
        for service, settings in zip(self.services, self.config.listeners, strict=True):
            sock = self._listen(settings)
            service.server = ProxyServer(
                sock,
                service.serve,
                min(settings.max_connections, room),
                (lambda: sum(s.active for s in self._servers) >= room) if share else never_crowded,
            )
            self._servers.append(service.server)

    def _listen(self, settings: ListenerSettings) -> Socket:
        try:
            endpoint = self._resolve(settings.bind)[0]
        except ResolveError as error:
            raise BindError(f"cannot listen on {settings.bind}: {error}") from error
        return listen(endpoint, settings.backlog)

    def _checks(self) -> list[Checked]:
        return [self._check(upstream, b) for upstream in self.upstreams.values() for b in upstream.backends]

    def _check(self, upstream: Upstream, backend: Backend) -> Checked:
        settings = upstream.settings.health_check

        def connect(timeout: float) -> Socket:
            endpoints = backend.endpoints
            if settings.port is not None:
                endpoints = tuple(e.with_port(settings.port) for e in endpoints)
            return dial_any(endpoints, timeout, self._dial)

        lender = backend if settings.use_pool and upstream.shares else None
        target = ProbeTarget(settings, settings.host or _host_of(backend), connect, lender, self._clock)
        return Checked(backend.health, target, lambda why: upstream.flipped(backend, why))

    def _reporter(self) -> StatsdReporter | None:
        if self.config.statsd is None:
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


def _host_of(backend: Backend) -> str:
    """What a check names as Host where the configuration names none."""
    address = backend.settings.address
    return "localhost" if address.is_unix else str(address)


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
    return max(1, (soft - SPARE_DESCRIPTORS - 2 * PIPES.limit - pooled) // 2)


def _most_idle(pool: PoolSettings) -> int:
    return pool.preconnect if pool.reuse is Reuse.NEVER else pool.size
