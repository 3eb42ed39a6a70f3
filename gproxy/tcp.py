"""TcpSession: one client of a tcp listener, from accept to its access-log line.

    run()       in the client's greenlet: route, borrow or dial, start the relay, return
    relaying    no greenlet: the relay's callbacks move the bytes
    _over()     the relay's completion: release, count, log
    sweep()     the TimeoutManager's look, once a second or so

docs/architecture.md draws it.
"""

from __future__ import annotations

import logging
import time
from _socket import socket as Socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gevent
from gevent import GreenletExit

from gproxy.core.balance import RouteRequest
from gproxy.core.deadlines import FlowLook, overdue
from gproxy.core.record import RecordSink, SessionRecord
from gproxy.core.reuse import QuietEnd, quiescent_objection
from gproxy.core.settings import Reuse, Timeouts
from gproxy.core.termination import Ended
from gproxy.errors import DialError, DialFailure, QueueTimeout
from gproxy.metrics import MetricsCollector, Slot
from gproxy.net.connection import finish, format_sockaddr, has_input, is_reset, reset, unacknowledged
from gproxy.net.listener import ProxyServer
from gproxy.net.pool import PooledConnection
from gproxy.net.relay import Relay
from gproxy.router import Router
from gproxy.upstream import Backend, Upstream

log = logging.getLogger("gproxy.tcp")


_CODES = {DialFailure.TIMEOUT: Ended.CONNECT_TIMEOUT, DialFailure.NO_ADDRESS: Ended.OUT_OF_RESOURCES}


class _NotServed(Exception):
    """The session ends without a backend; carries its termination code."""

    def __init__(self, code: Ended):
        self.code = code
        super().__init__(code)


@dataclass(eq=False)
class TcpService:
    """What the sessions of one tcp listener share. `serve` is the ProxyServer's handler."""

    name: str
    upstream: Upstream
    router: Router
    timeouts: Timeouts
    metrics: MetricsCollector
    sessions: set[TcpSession]  # of the whole process
    access_log: RecordSink | None = None
    clock: Callable[[], float] = time.monotonic
    server: ProxyServer | None = None
    servers: Sequence[ProxyServer] = ()  # of the whole process: one's end is another's room
    quiescent: bool = field(init=False)
    connect_timeout: float | None = field(init=False)  # where the listener has one of its own

    def __post_init__(self) -> None:
        settings, own = self.upstream.settings, self.timeouts.backend_connect_timeout
        self.quiescent = settings.pool.reuse is Reuse.QUIESCENT
        self.connect_timeout = own if own != settings.timeouts.backend_connect_timeout else None

    def serve(self, sock: Socket, peer: Any) -> None:
        TcpSession(self, sock, peer).run()

    def opened(self, session: TcpSession) -> None:
        self.sessions.add(session)
        self.metrics.view[Slot.CONNECTIONS_ACCEPTED] += 1
        self.metrics.view[Slot.ACTIVE] += 1

    def closed(self, session: TcpSession) -> None:
        self.sessions.discard(session)
        self.metrics.view[Slot.ACTIVE] -= 1
        if self.server is not None:
            self.server.session_over()
        if len(self.servers) > 1:
            for server in self.servers:
                server.wake()


class TcpSession:
    """One client connection. A session owns its sockets until the relay does."""

    __slots__ = ("_backend", "_bytes_in", "_bytes_out", "_client", "_code", "_connected_at", "_connection",
                 "_delivered_down", "_delivered_up", "_down_since", "_greenlet", "_peer", "_quiet_timer", "_relay",
                 "_retries", "_routed_at", "_service", "_started", "_up_since")  # fmt: skip

    def __init__(self, service: TcpService, client: Socket, peer: Any):
        self._service = service
        self._client = client
        self._peer = peer
        self._started = self._up_since = self._down_since = service.clock()
        self._routed_at: float | None = None
        self._connected_at: float | None = None
        self._backend: Backend | None = None
        self._connection: PooledConnection | None = None
        self._relay: Relay | None = None
        self._greenlet: Any = None
        self._quiet_timer: Any = None
        self._code: Ended | None = None
        self._retries = 0
        self._bytes_in = self._bytes_out = self._delivered_up = self._delivered_down = 0

    @property
    def backend(self) -> Backend | None:
        """Who serves it, once that is known."""
        return self._backend

    @property
    def waiting(self) -> bool:
        """Whether it still waits for a slot or a connection."""
        return self._greenlet is not None

    # In the client's greenlet.

    def run(self) -> None:
        """Find a backend and start the relay; the greenlet ends with it."""
        self._service.opened(self)
        self._greenlet = gevent.getcurrent()
        try:
            self._relay_to(self._connect())
        except _NotServed as refusal:
            self._refuse(refusal.code)
        except GreenletExit:
            self._refuse(Ended.KILLED_IN_CONNECT)
        except Exception:  # a defect of ours must end this session only, and be seen
            log.exception("session of %s failed", format_sockaddr(self._peer))
            self._give_up()
        finally:
            self._greenlet = None

    def _give_up(self) -> None:
        """End it from wherever the defect struck: with a relay, with a connection, or with neither."""
        if self._relay is not None:
            self._code = Ended.DEFECT
            self._relay.kill()
            return
        if self._connection is not None and self._backend is not None:
            self._connection.close()
            self._backend.pool.release(self._connection)
        self._refuse(Ended.DEFECT)

    def _connect(self) -> PooledConnection:
        """A connection to the first backend that can be reached; _NotServed where none can."""
        service, upstream = self._service, self._service.upstream
        upstream.retries.request(service.clock())
        tried: tuple[Backend, ...] = ()
        while True:
            backend = self._route(tried)
            try:
                return self._borrow(backend)
            except DialError as error:
                tried += (backend,)
                code = self._after_failed_dial(error, tried)
            if code:
                raise _NotServed(code)
            self._retries += 1
            backend.stats.retries += 1

    def _after_failed_dial(self, error: DialError, tried: tuple[Backend, ...]) -> Ended | None:
        """None when another backend may be tried, else the code to end with."""
        upstream, now = self._service.upstream, self._service.clock()
        if error.failure is DialFailure.RESOURCES:
            if self._service.server is not None:
                self._service.server.pause(str(error))
            return Ended.OUT_OF_RESOURCES
        if len(tried) <= upstream.settings.retries and upstream.may_retry(tried, now):
            return None
        log.debug("session of %s: no backend could be connected: %s", format_sockaddr(self._peer), error)
        return _CODES.get(error.failure, Ended.NO_BACKEND)

    def _route(self, tried: tuple[Backend, ...]) -> Backend:
        """A backend with a slot reserved, waited for in the queue if need be."""
        service = self._service
        request = RouteRequest(self._peer[0] if isinstance(self._peer, tuple) else "", service.name)
        decision = service.router.route(service.upstream, request, tried)
        if decision.backend is None:
            if not decision.queued:
                raise _NotServed(Ended.NO_BACKEND)
            self._backend = self._queue(request, tried)
        else:
            self._backend = decision.backend
        if self._routed_at is None:  # a retry counts as connecting, not as waiting
            self._routed_at = service.clock()
        return self._backend

    def _queue(self, request: RouteRequest, tried: tuple[Backend, ...]) -> Backend:
        service, upstream = self._service, self._service.upstream

        def attempt() -> Backend | None:
            return service.router.route(upstream, request, tried, waiting=True).backend

        try:
            backend = upstream.queue.wait(attempt, _give_back, service.timeouts.queue_timeout, picky=bool(tried))
        except QueueTimeout as error:
            raise _NotServed(Ended.CLIENT_LEFT_QUEUE if is_reset(self._client) else Ended.QUEUE_TIMEOUT) from error
        except GreenletExit:
            raise _NotServed(Ended.KILLED_IN_QUEUE) from None
        if is_reset(self._client):
            backend.pool.release(None)
            raise _NotServed(Ended.CLIENT_LEFT_QUEUE)
        return backend

    def _borrow(self, backend: Backend) -> PooledConnection:
        timeout = self._service.connect_timeout
        try:
            connection = backend.pool.connect(None if timeout is None else partial(backend.dial, timeout))
        except BaseException:
            backend.pool.release(None)
            raise
        if connection.reused:
            backend.stats.reuses += 1
        self._connected_at = self._service.clock()
        self._connection = connection
        return connection

    def _relay_to(self, connection: PooledConnection) -> None:
        on_client_fin = self._client_fin if self._service.quiescent else None
        self._relay = Relay(gevent.get_hub().loop, self._client, connection.sock, self._over, on_client_fin)
        self._relay.start()

    def _refuse(self, code: Ended) -> None:
        """End a session that has no backend."""
        if self._service.upstream.resets:
            reset(self._client)
        else:
            finish(self._client)
        self._finish(code)

    # While relaying.

    def sweep(self, now: float) -> None:
        """Note what has moved since the last sweep, and end the session if a deadline has passed."""
        relay = self._relay
        if relay is None or relay.over:
            return  # in its greenlet, where each wait has a deadline of its own
        # An end counts as a move: the silence before a FIN is none of the rest's.
        left_up, left_down = relay.unconfirmed(relay.up), relay.unconfirmed(relay.down)
        up = relay.up.delivered - left_up + relay.up.source_ended
        down = relay.down.delivered - left_down + relay.down.source_ended
        if up != self._delivered_up:
            self._delivered_up, self._up_since = up, now
        if down != self._delivered_down:
            self._delivered_down, self._down_since = down, now
        self._count_bytes(relay)
        code = overdue(
            self._service.timeouts,
            FlowLook(now - self._up_since, bool(relay.up.held or left_up), relay.up.source_ended),
            FlowLook(now - self._down_since, bool(relay.down.held or left_down), relay.down.source_ended),
        )
        if code and relay.aborting:
            code = _code_of(relay)  # the reset ended it; its last bytes could not be delivered
        if code:
            self.end(code, cut_off=bool(relay.up.held or relay.down.held or relay.aborting))

    def end(self, code: Ended, *, cut_off: bool = True) -> None:
        """End it from outside under a termination code; `cut_off` with RST, because bytes may be missing."""
        if self._greenlet is not None:
            gevent.get_hub().loop.run_callback(self._interrupt)
        elif self._relay is not None:
            self._code = code
            if cut_off:
                self._relay.kill()
            else:
                self._relay.close()

    def _interrupt(self) -> None:
        """In the hub: end the greenlet's wait, unless it has just ended and serves another client."""
        if self._greenlet is not None:
            self._greenlet.throw(GreenletExit)

    # Quiescent reuse: the client's FIN is held back until the verdict.

    def _client_fin(self, relay: Relay) -> None:
        objection = quiescent_objection(self._look_at_end(relay))
        if objection:
            self._not_reusable(relay, objection)
            return
        pool = self._service.upstream.settings.pool
        self._quiet_timer = relay.loop.timer(pool.quiescent_for)
        self._quiet_timer.start(self._quiet, relay, relay.down.received)

    def _quiet(self, relay: Relay, received: int) -> None:
        """The silence is over: give the connection back if it was one."""
        self._quiet_timer = None
        if relay.over:
            return
        if relay.down.received != received:
            self._client_fin(relay)  # it went on: look anew
            return
        objection = quiescent_objection(self._look_at_end(relay))
        if objection is None and has_input(relay.up.sink):
            objection = "the backend has spoken"
        if objection:
            self._not_reusable(relay, objection)
            return
        relay.detach_backend()
        self._over(relay, reusable=True)

    def _look_at_end(self, relay: Relay) -> QuietEnd:
        sink = relay.up.sink
        return QuietEnd(
            held_up=relay.up.held,
            held_down=relay.down.held,
            unacknowledged=unacknowledged(sink),
            answered=relay.answered,
            backend_fin=relay.down.source_ended,
        )

    def _not_reusable(self, relay: Relay, objection: str) -> None:
        self._service.metrics.view[Slot.POOL_DIRTY] += 1
        log.debug("connection to %s is not reused: %s", self._backend and self._backend.label, objection)
        relay.forward_fin()

    # The end.

    def _over(self, relay: Relay, *, reusable: bool = False) -> None:
        """The relay has let go of both sockets (of the client's alone when `reusable`)."""
        if self._quiet_timer is not None:
            self._quiet_timer.close()
            self._quiet_timer = None
        self._count_bytes(relay)
        self._relay = None  # the relay refers to us: without this, only the garbage collector ends both
        self._finish(self._code or _code_of(relay))
        assert self._backend is not None
        self._backend.pool.release(self._connection, reusable=reusable)

    def _finish(self, code: Ended) -> None:
        service = self._service
        now = service.clock()
        if service.access_log is not None:
            service.access_log.session(self._record(code, now))
        service.metrics.session_closed(code)
        service.metrics.session_time.record(now - self._started)
        service.closed(self)

    def _count_bytes(self, relay: Relay) -> None:
        """Add what came in since the last look to the totals."""
        view = self._service.metrics.view
        bytes_in, bytes_out = relay.up.received, relay.down.received
        view[Slot.BYTES_IN] += bytes_in - self._bytes_in
        view[Slot.BYTES_OUT] += bytes_out - self._bytes_out
        self._bytes_in, self._bytes_out = bytes_in, bytes_out

    def _record(self, code: Ended, now: float) -> SessionRecord:
        service, backend = self._service, self._backend
        routed, connected = self._routed_at, self._connected_at
        return SessionRecord(
            client=format_sockaddr(self._peer),
            listener=service.name,
            upstream=service.upstream.name,
            backend=backend.name if backend is not None else "",
            started=time.time() - (now - self._started),
            tw=None if routed is None else routed - self._started,
            tc=None if routed is None or connected is None else connected - routed,
            tt=now - self._started,
            bytes_in=self._bytes_in,
            bytes_out=self._bytes_out,
            code=code,
            active=len(service.sessions),
            listener_active=service.server.active if service.server is not None else 0,
            upstream_active=service.upstream.active,
            backend_active=backend.active if backend is not None else 0,
            retries=self._retries,
            reused=self._connection is not None and self._connection.reused,
        )

    def __repr__(self) -> str:
        where = self._backend.label if self._backend is not None else self._service.upstream.name
        return f"<TcpSession {format_sockaddr(self._peer)} to {where}, {self._relay!r}>"


def _give_back(backend: Backend) -> None:
    """A slot that was handed over to a session that had just ended."""
    backend.pool.release(None)


def _code_of(relay: Relay) -> Ended:
    if relay.client_reset:
        return Ended.CLIENT_RESET
    return Ended.BACKEND_RESET if relay.backend_reset else Ended.NORMAL
