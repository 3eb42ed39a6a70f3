"""ConnectionPool: the connections of one backend that nobody uses now, and how many are in use.

    reserve() ──▶ connect() ──▶ (a session) ──▶ release(connection, reusable)
                  idle or dialled                 kept idle, or closed

A slot is reserved before anything yields, so that a limit holds between the choice of a
backend and its dial. Idle connections stand in a gevent LifoQueue, the latest on top: it
is lent first, and the bottom one, the oldest, goes when there are too many.

An idle connection is watched. Whatever makes it readable ends it: a FIN, a reset, or
bytes that nobody asked for. One exception: a fresh connection (`preconnect`) may hold the
greeting of a protocol in which the server speaks first; it is kept for its first user
(`greetings`, which http turns off).
"""

from __future__ import annotations

import time
from _socket import socket as Socket
from collections.abc import Callable
from enum import Enum
from functools import partial
from math import inf
from typing import Any, Protocol

import gevent
from gevent import get_hub
from gevent.queue import LifoQueue

from gproxy.core.settings import PoolSettings
from gproxy.errors import DialError
from gproxy.net.connection import has_input, is_closed
from gproxy.net.stream import Stream

_READ = 1
_FIRST_BACK_OFF, _LAST_BACK_OFF = 1.0, 30.0  # seconds between failed dials ahead


class PoolEvent(Enum):
    """What an operator wants counted."""

    OVERFLOW = "pool_overflow"  # the oldest went because the pool was full
    STALE = "pool_stale"  # closed by the backend while idle
    DIRTY = "pool_dirty"  # spoke out of turn


class Missed(Enum):
    """Why a fresh connection was dialled in the place of an idle one, where there was one. An operator reads it."""

    OLD = "the idle one was past pool.idle_timeout or pool.max_age"
    LIMIT = "the idle one had been idle for about as long as the backend is known to keep one"
    ENDED = "the idle one had ended, or spoken out of turn"
    UNWANTED = "a pooled one had just ended, so a fresh one was asked for"


_OLD, _LIMIT, _ENDED, _UNWANTED = Missed


class PooledConnection:
    """One connection to a backend. `uses` counts its sessions, the present one included."""

    __slots__ = ("_on_readable", "_watcher", "dialled_at", "greeted", "idle_since", "lend_until",
                 "missed", "sock", "spoke", "stream", "uses")  # fmt: skip

    def __init__(self, sock: Socket, now: float):
        self.sock = sock
        self.dialled_at = now
        self.idle_since = now
        self.lend_until = inf  # until it is kept
        self.missed: Missed | None = None  # why it was dialled, where an idle one was there
        self.uses = 0
        self.greeted = False  # fresh, and the server has spoken
        self.stream: Stream | None = None  # in http, where it outlives the exchanges
        self._watcher: Any = None
        self._on_readable: Callable[[PooledConnection], None] | None = None
        self.spoke: Callable[[], None] | None = None

    @property
    def reused(self) -> bool:
        """Whether an earlier session used it."""
        return self.uses > 1

    def watch(self, loop: Any, on_readable: Callable[[PooledConnection], None]) -> None:
        self._on_readable = on_readable
        self._watcher = loop.io(self.sock.fileno(), _READ)
        self._watcher.start(self._readable)

    def unwatch(self) -> None:
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None

    def is_alive(self, greetings: bool) -> bool:
        """A last look before it is lent: the hub may not have seen yet that it ended, or speaks out of turn."""
        return not (is_closed if greetings and not self.uses else has_input)(self.sock)  # an end is input too

    def close(self) -> None:
        self.unwatch()
        if self.stream is not None:
            self.stream.close()
        self.spoke = None  # it refers to us
        self.sock.close()

    def attach(self, stream: Stream, pool: ConnectionPool) -> Stream:
        """From now on the stream watches it while it is idle."""
        self.stream = stream
        self.spoke = partial(pool.spoke, self)
        return stream

    def _readable(self) -> None:
        if self._on_readable is not None:
            self._on_readable(self)

    def __repr__(self) -> str:
        return f"<PooledConnection {self.sock.fileno()}, {self.uses} uses>"


class PoolOwner(Protocol):
    """The backend, as its pool sees it."""

    def dial(self) -> Socket:
        """A fresh connection; DialError where there can be none."""

    def slot_freed(self) -> None:
        """Somebody who waits may be served."""

    def pool_event(self, event: PoolEvent) -> None:
        """Something to count has happened."""

    def idle_closed(self, idle: float) -> None:
        """The backend has closed a used connection that was idle for so many seconds."""


class ConnectionPool:
    """The pool of one backend, its `owner`."""

    def __init__(
        self,
        settings: PoolSettings,
        owner: PoolOwner,
        *,
        max_connections: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.settings = settings
        self.max_connections = max_connections
        self.borrowed = 0
        self.wanted = True  # whether idle connections are of use now
        self.missed: Missed | None = None  # what `lend` has found wrong with the idle ones; None: there were none
        self.idle_limit = inf  # seconds after which the backend is known to close idle connections
        self.greetings = True  # whether a server may speak first: not in http, where it would answer somebody's request
        self._size, self._max_uses = settings.size, settings.max_uses
        self._max_age, self._idle_timeout = settings.max_age, settings.idle_timeout
        self._ahead = settings.preconnect > 0
        self._owner = owner
        self._clock = clock
        self._idle: LifoQueue = LifoQueue()
        self._closed = False
        self._filler: Any = None
        self._fill_at = 0.0
        self._back_off = _FIRST_BACK_OFF

    @property
    def idle(self) -> int:
        return int(self._idle.qsize())

    @property
    def full(self) -> bool:
        """Whether no more can be lent. Idle ones don't count: the next borrower takes one of them."""
        return self.max_connections is not None and self.borrowed >= self.max_connections

    def reserve(self) -> None:
        """Take a slot. The caller owes one `release`."""
        self.borrowed += 1

    def connect(self, dial: Callable[[], Socket] | None = None, *, fresh: bool = False) -> PooledConnection:
        """The idle connection used last, or a fresh one; DialError where none can be had.

        For a reserved slot. Waits only while it dials, with `dial` in the place of the pool's own if given.
        `fresh` wants none that was used before.
        """
        connection = None if fresh else self.lend(self._clock())
        if connection is None:
            missed = _UNWANTED if fresh else self.missed  # while we dial, others lend
            self._make_room()
            connection = PooledConnection((dial or self._owner.dial)(), self._clock())
            connection.uses = 1
            connection.missed = missed
            if self._ahead:
                self._refill()
        return connection

    def lend(self, now: float) -> PooledConnection | None:
        """The idle connection used last, for a reserved slot; None where there is none that is fit."""
        idle = self._idle.queue  # the list itself: nobody waits for it, and its own methods cost four times as much
        missed = None
        while idle:
            connection: PooledConnection = idle.pop()
            stream = connection.stream
            if stream is not None:
                stream.idle_callback = None
            else:
                connection.unwatch()
            if now >= connection.lend_until:
                missed = _OLD
                connection.close()
            elif now - connection.idle_since >= self.idle_limit:
                missed = _LIMIT
                connection.close()
            elif not stream.has_input() if stream is not None else connection.is_alive(self.greetings):
                connection.uses += 1
                if self._ahead:
                    self._refill()
                return connection
            else:
                missed = _ENDED
                self._ended(connection, now)
        self.missed = missed
        return None

    def release(self, connection: PooledConnection | None, *, reusable: bool = False) -> None:
        """Give a slot back, with its connection unless the dial failed. Without `reusable` it must be closed."""
        self.borrowed -= 1
        if connection is not None and reusable:
            self.keep(connection, self._clock())
        self._owner.slot_freed()

    def sweep(self, now: float) -> None:
        """Close what has been idle too long, is too old or is closed behind its greeting; dial ahead."""
        for connection in list(self._idle.queue):
            idle = now - connection.idle_since
            over = now >= connection.lend_until or idle >= self.idle_limit
            if over or (connection.greeted and is_closed(connection.sock)):
                self._drop(connection)
        if self._ahead:
            self._refill()

    def empty(self) -> None:
        """Close every idle connection. While the backend wants none, none comes back either."""
        for connection in list(self._idle.queue):
            self._drop(connection)

    def close(self) -> None:
        """Empty it for good."""
        self._closed = True
        self.empty()
        if self._filler is not None:
            self._filler.kill(block=False)

    def _make_room(self) -> None:
        """A fresh connection in spite of idle ones: the limit is for both together."""
        if self.max_connections is not None and self.idle and self.borrowed + self.idle > self.max_connections:
            self._drop(self._idle.queue[0])

    def _ended(self, connection: PooledConnection, now: float) -> None:
        """An idle connection was closed by the backend, or spoke out of turn."""
        if is_closed(connection.sock):
            self._owner.pool_event(PoolEvent.STALE)
            if connection.uses:
                self._owner.idle_closed(now - connection.idle_since)
        else:
            self._owner.pool_event(PoolEvent.DIRTY)
        connection.close()

    def keep(self, connection: PooledConnection, now: float) -> None:
        """Take in a connection that may be lent again; its slot is given back apart."""
        idle = self._idle.queue
        old_at = connection.dialled_at + self._max_age
        if not self.wanted or connection.uses >= self._max_uses or now >= old_at or self._closed:
            connection.close()
            return
        connection.idle_since = now
        until = now + self._idle_timeout
        connection.lend_until = until if until < old_at else old_at
        if len(idle) >= self._size:
            self._drop(idle[0])
            self._owner.pool_event(PoolEvent.OVERFLOW)
        idle.append(connection)
        stream = connection.stream
        if stream is None:
            connection.watch(get_hub().loop, self.spoke)
        elif stream.watching:
            stream.idle_callback = connection.spoke
        else:
            stream.on_idle(connection.spoke)

    def _drop(self, connection: PooledConnection) -> None:
        self._idle.queue.remove(connection)
        connection.close()
        self._owner.slot_freed()

    def spoke(self, connection: PooledConnection) -> None:
        """An idle connection became readable."""
        if self.greetings and not connection.uses and not is_closed(connection.sock):
            connection.greeted = True
            connection.unwatch()  # the greeting stays readable; the sweep looks for an end behind it
            return
        self._idle.queue.remove(connection)
        self._ended(connection, self._clock())
        self._owner.slot_freed()

    # Dialling ahead.

    def _refill(self) -> None:
        if self._filler is None and self._lacks() and self._clock() >= self._fill_at:
            self._filler = gevent.spawn(self._fill)

    def _lacks(self) -> bool:
        used = self.borrowed + self.idle
        has_room = self.max_connections is None or used < self.max_connections
        return not self._closed and self.idle < self.settings.preconnect and has_room and self.wanted

    def _fill(self) -> None:
        """Dial until there are enough, each in a reserved slot; after a failure wait, longer each time."""
        try:
            while self._lacks():
                self.keep(self._dial_ahead(), self._clock())
                self._back_off = _FIRST_BACK_OFF
        except DialError:
            self._fill_at = self._clock() + self._back_off
            self._back_off = min(self._back_off * 2, _LAST_BACK_OFF)
        finally:
            self._filler = None

    def _dial_ahead(self) -> PooledConnection:
        self.reserve()
        try:
            return PooledConnection(self._owner.dial(), self._clock())
        finally:
            self.release(None)

    def __repr__(self) -> str:
        limit = "" if self.max_connections is None else f" of {self.max_connections}"
        return f"<ConnectionPool {self.borrowed} borrowed{limit}, {self.idle} of {self.settings.size} idle>"
