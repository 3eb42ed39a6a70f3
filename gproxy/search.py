"""Search: how a session, or an exchange, comes by a backend connection.

candidates ─▶ a slot, waited for in the queue if need be ─▶ idle connection, or a dial ─▶ another try
"""

from __future__ import annotations

import logging
from _socket import socket as Socket
from functools import partial
from math import inf

from gevent import GreenletExit

from gproxy.core.balance import RouteRequest
from gproxy.core.termination import Ended
from gproxy.errors import DialError, DialFailure, QueueTimeout
from gproxy.net.connection import is_reset
from gproxy.net.pool import PooledConnection
from gproxy.router import Decision
from gproxy.service import Service, Target
from gproxy.stories import Course, PlainChoice
from gproxy.upstream import Backend

log = logging.getLogger("gproxy.search")

_CODES = {DialFailure.TIMEOUT: Ended.CONNECT_TIMEOUT, DialFailure.NO_ADDRESS: Ended.OUT_OF_RESOURCES}


class NotServed(Exception):
    """Nobody can serve; carries the termination code."""

    def __init__(self, code: Ended):
        self.code = code
        super().__init__(code)


class Search(Course):
    """Who was tried, who serves, and when that was known. It holds no slot once `connect` has raised."""

    def __init__(self, service: Service, target: Target, request: RouteRequest, client: Socket, now: float):
        self.connection: PooledConnection | None = None
        self._picked: Backend | None = None  # with a slot reserved, as it was taken over
        self._service = service
        self._request = request
        self._client: Socket | None = client
        self.target = target
        super().__init__(target.upstream)
        self.began = now

    def take_over(self, choice: PlainChoice, connection: PooledConnection | None, idle_since: float = 0.0) -> None:
        """Go on from where another has come: a backend with a slot reserved, and perhaps its connection."""
        self.choice = choice[:6]
        self.backend = backend = choice[4]
        self.connection = connection
        if connection is None:
            self._picked = backend
            self.missed = backend.pool.missed
        else:
            self.routed_at = self.connected_at = self.began
            self.uses, self.idle = connection.uses, self.began - idle_since

    def over(self) -> None:
        """What is kept of it keeps no sockets."""
        self.connection = self._client = None

    def connect(self, *, fresh: bool = False) -> PooledConnection:
        """A connection to the first backend that can be reached; NotServed where none can.

        `fresh` as in `ConnectionPool.connect`.
        """
        while True:
            backend = self._route()
            try:
                return self._borrow(backend, fresh)
            except DialError as error:
                self.failure = str(error)
                self._after_failed_dial(error, backend)
            self.retried(backend)

    def retried(self, backend: Backend) -> None:
        """Count one more try, after this backend has failed."""
        self.retries += 1
        backend.stats.retries += 1

    def _after_failed_dial(self, error: DialError, backend: Backend) -> None:
        """Nothing when another backend may be tried, else NotServed."""
        self.tried += (backend,)
        service, upstream = self._service, self.target.upstream
        if error.failure is DialFailure.RESOURCES:
            if service.server is not None:
                service.server.pause(str(error))
            raise NotServed(Ended.OUT_OF_RESOURCES)
        if len(self.tried) <= upstream.settings.retries and upstream.may_retry(self.tried, service.clock()):
            return
        log.debug("no backend of %s could be connected: %s", upstream.name, error)
        raise NotServed(_CODES.get(error.failure, Ended.NO_BACKEND))

    def _route(self) -> Backend:
        """A backend with a slot reserved, waited for in the queue if need be."""
        service = self._service
        if self._picked is not None:
            backend, self._picked = self._picked, None
            self.routed_at = self.began
            return backend
        if self.choice is not None:
            self.choose_again()
        router, upstream = service.router, self.upstream
        if not self.tried and (picked := router.pick(upstream, self._request, self.began)) is not None:
            self.choice = picked
            self.backend = backend = picked[4]
            self.routed_at = self.began
            return backend
        self.choice = decision = router.route(upstream, self._request, self.tried)
        if decision.backend is not None:
            self.backend = decision.backend
        elif decision.queued:
            self.backend = self._queue()
        else:
            raise NotServed(Ended.NO_BACKEND)
        if self.routed_at is None:  # a retry counts as connecting, not as waiting
            self.routed_at = service.clock()
        return self.backend

    def _queue(self) -> Backend:
        upstream, timeouts, client = self.upstream, self.target.timeouts, self._client
        assert client is not None
        found: Decision | None = None

        def attempt() -> Backend | None:
            nonlocal found
            found = self._service.router.route(upstream, self._request, self.tried)
            return found.backend

        try:
            backend = upstream.queue.wait(attempt, _give_back, timeouts.queue_timeout, picky=bool(self.tried))
        except QueueTimeout as error:
            raise NotServed(Ended.CLIENT_LEFT_QUEUE if is_reset(client) else Ended.QUEUE_TIMEOUT) from error
        except GreenletExit:
            left = is_reset(client)
            raise NotServed(Ended.CLIENT_LEFT_QUEUE if left else Ended.KILLED_IN_QUEUE) from None
        if is_reset(client):
            backend.pool.release(None)
            raise NotServed(Ended.CLIENT_LEFT_QUEUE)
        self.choose_again()
        self.choice = found
        return backend

    def _borrow(self, backend: Backend, fresh: bool) -> PooledConnection:
        timeout = self.target.connect_timeout
        dial = None if timeout is None else partial(backend.dial, timeout)
        try:
            connection = backend.pool.connect(dial, fresh=fresh)
        except BaseException:
            backend.pool.release(None)
            raise
        self.connected_at = now = self._service.clock()
        self.uses = uses = connection.uses
        if uses > 1:
            backend.stats.reuses += 1
        if connection.lend_until != inf:
            self.missed, self.idle = None, now - connection.idle_since
        elif connection.missed is not None:
            self.missed = connection.missed
        self.connection = connection
        return connection

    def __repr__(self) -> str:
        return f"<Search {self.target.upstream.name}, {self.backend!r}, {len(self.tried)} tried>"


def _give_back(backend: Backend) -> None:
    """A slot that was handed over to somebody who had just gone."""
    backend.pool.release(None)
