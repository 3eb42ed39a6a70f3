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
from collections.abc import Sequence
from typing import Any

import gevent
from gevent import GreenletExit

from gproxy.core.balance import RouteRequest
from gproxy.core.record import SessionRecord
from gproxy.core.reuse import QuietEnd, quiescent_objection
from gproxy.core.settings import Reuse, Timeouts
from gproxy.core.termination import Ended
from gproxy.metrics import Slot
from gproxy.net.connection import finish, format_sockaddr, has_input, reset, unacknowledged
from gproxy.net.pool import PooledConnection
from gproxy.net.refusals import Refusals, Resets
from gproxy.net.relay import Relay
from gproxy.search import NotServed, Search
from gproxy.service import Common, Service, Target
from gproxy.stories import Session, Trace, session_trace, timers
from gproxy.timeouts import RelayWatch
from gproxy.upstream import Backend, Upstream

log = logging.getLogger("gproxy.tcp")


class TcpService(Service):
    """A tcp listener, which has one upstream."""

    def __init__(self, name: str, target: Target, common: Common):
        super().__init__(name, common)
        self.target = target
        self.quiescent = target.upstream.settings.pool.reuse is Reuse.QUIESCENT

    @property
    def targets(self) -> Sequence[Target]:
        return (self.target,)

    @property
    def upstream(self) -> Upstream:
        return self.target.upstream

    @property
    def timeouts(self) -> Timeouts:
        return self.target.timeouts

    def serve(self, sock: Socket, peer: Any) -> None:
        TcpSession(self, sock, peer).run()

    def refusals(self) -> Refusals:
        return Resets(self.count_rejected)


class TcpSession:
    """One client connection. A session owns its sockets until the relay does."""

    __slots__ = ("_bytes_in", "_bytes_out", "_client", "_code", "_greenlet", "_peer", "_quiet_timer", "_relay",
                 "_search", "_service", "_started", "_watch")  # fmt: skip

    def __init__(self, service: TcpService, client: Socket, peer: Any):
        self._service = service
        self._client = client
        self._peer = peer
        self._started = service.clock()
        request = RouteRequest(peer[0] if isinstance(peer, tuple) else "", service.name)
        self._search = Search(service, service.target, request, client, self._started)
        self._relay: Relay | None = None
        self._watch: RelayWatch | None = None
        self._greenlet: Any = None
        self._quiet_timer: Any = None
        self._code: Ended | None = None
        self._bytes_in = self._bytes_out = 0

    @property
    def listener(self) -> str:
        return self._service.name

    @property
    def backend(self) -> Backend | None:
        """Who serves it, once that is known."""
        return self._search.backend

    @property
    def waiting(self) -> bool:
        """Whether it still waits for a slot or a connection."""
        return self._greenlet is not None

    def under_way(self) -> Trace:
        """What is known of it so far."""
        if self._relay is not None and not self._relay.over:
            self._count_bytes(self._relay)
        return session_trace(self._told(None, None))

    # In the client's greenlet.

    def run(self) -> None:
        """Find a backend and start the relay; the greenlet ends with it."""
        self._service.opened(self)
        self._greenlet = gevent.getcurrent()
        try:
            self._relay_to(self._connect())
        except NotServed as refusal:
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
        connection, backend = self._search.connection, self._search.backend
        if connection is not None and backend is not None:
            connection.close()
            backend.pool.release(connection)
        self._refuse(Ended.DEFECT)

    def _connect(self) -> PooledConnection:
        """A connection to the first backend that can be reached; NotServed where none can."""
        service = self._service
        service.upstream.retries.request(service.clock())
        return self._search.connect()

    def _relay_to(self, connection: PooledConnection) -> None:
        on_client_fin = self._client_fin if self._service.quiescent else None
        self._relay = Relay(gevent.get_hub().loop, self._client, connection.sock, self._over, on_client_fin)
        self._watch = RelayWatch(self._relay, self._started)
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
        relay, watch = self._relay, self._watch
        if relay is None or watch is None or relay.over:
            return  # in its greenlet, where each wait has a deadline of its own
        self._count_bytes(relay)
        code = watch.overdue(self._service.timeouts, now)
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

    def drain(self) -> None:
        """A tcp session has no place at which it could be ended: it goes on until the drain's end."""

    def idle_since(self) -> None:
        """Silence in tcp may mean anything."""

    def dismiss(self) -> bool:
        return False

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
        log.debug("connection to %s is not reused: %s", self.backend and self.backend.label, objection)
        relay.forward_fin()

    # The end.

    def _over(self, relay: Relay, *, reusable: bool = False) -> None:
        """The relay has let go of both sockets (of the client's alone when `reusable`)."""
        if self._quiet_timer is not None:
            self._quiet_timer.close()
            self._quiet_timer = None
        self._count_bytes(relay)
        self._relay = self._watch = None  # the relay refers to us: without this, the garbage collector must end both
        connection, backend = self._search.connection, self._search.backend
        assert backend is not None
        self._finish(self._code or _code_of(relay))
        backend.pool.release(connection, reusable=reusable)

    def _finish(self, code: Ended) -> None:
        service = self._service
        now = service.clock()
        if service.access_log is not None:
            service.access_log.session(self._record(code, now))
        told = self._told(now, code)
        if code is Ended.NORMAL and not self._search.earlier:
            service.stories.keep_session(told)
        else:
            service.stories.keep(session_trace(told))
        self._search.over()
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

    def _told(self, ended: float | None, code: Ended | None) -> Session:
        """For its story."""
        return (
            self._peer, self._service.name, self._search, self._started, ended, self._bytes_in, self._bytes_out, code
        )  # fmt: skip

    def _record(self, code: Ended, now: float) -> SessionRecord:
        service, search = self._service, self._search
        backend = search.backend
        tw, tc, _ = timers(search, self._started, None)
        return SessionRecord(
            client=format_sockaddr(self._peer),
            listener=service.name,
            upstream=service.upstream.name,
            backend=backend.name if backend is not None else "",
            started=time.time() - (now - self._started),
            tw=tw,
            tc=tc,
            tt=now - self._started,
            bytes_in=self._bytes_in,
            bytes_out=self._bytes_out,
            code=code,
            active=len(service.sessions),
            listener_active=service.server.active if service.server is not None else 0,
            upstream_active=service.upstream.active,
            backend_active=backend.active if backend is not None else 0,
            retries=search.retries,
            reused=search.uses > 1,
        )

    def __repr__(self) -> str:
        where = self.backend.label if self.backend is not None else self._service.upstream.name
        return f"<TcpSession {format_sockaddr(self._peer)} to {where}, {self._relay!r}>"


def _give_back(backend: Backend) -> None:
    """A slot that was handed over to a session that had just ended."""
    backend.pool.release(None)


def _code_of(relay: Relay) -> Ended:
    if relay.client_reset:
        return Ended.CLIENT_RESET
    return Ended.BACKEND_RESET if relay.backend_reset else Ended.NORMAL
