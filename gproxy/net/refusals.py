"""Clients for whom there is no room, and who are told so: by a reset, or by an answer.

All of it happens in the hub: no greenlet, no session, and a bounded number of sockets.
"""

from __future__ import annotations

import contextlib
from _socket import SHUT_WR
from _socket import socket as Socket
from collections.abc import Callable
from typing import Any, Protocol

from gproxy.net.connection import finish, reset

HELD = 64  # clients at most who are given time to read their answer: a descriptor each
_PATIENCE = 2.0  # seconds for each of them
_READ_SIZE, _READS = 64 * 1024, 16  # bytes at a time, and how often at the most, of what nobody wants

_READ = 1  # libev's event mask


class Refusals(Protocol):
    def refuse(self, sock: Socket, peer: Any) -> None:
        """Turn a client away. Must not wait."""

    def close(self) -> None:
        """Keep none any more."""


class Resets:
    """Turns clients away with RST."""

    def __init__(self, count: Callable[[], None]):
        self._count = count

    def refuse(self, sock: Socket, peer: Any) -> None:  # noqa: ARG002
        self._count()
        reset(sock)

    def close(self) -> None:
        """Nothing is kept."""


class _Client:
    __slots__ = ("answered", "peer", "reads", "sock", "until", "watcher")

    def __init__(self, sock: Socket, peer: Any, until: float, watcher: Any):
        self.sock = sock
        self.peer = peer
        self.until = until
        self.watcher = watcher
        self.answered = False
        self.reads = 0


class Answered:
    """Turns clients away with an answer to the first bytes that they send.

    Not sooner, since some clients take an answer that comes before their request for an error; and not at once behind
    it a close, which would become a reset by whatever the client still sends, and cost it the answer. So a client is
    held until it leaves, for a moment at most, and the oldest one ends if there are many.
    """

    def __init__(self, loop: Any, answer: Callable[[Any], bytes], count: Callable[[], None]):
        """`answer(peer)` makes one."""
        self._loop = loop
        self._answer = answer
        self._count = count
        self._held: dict[_Client, None] = {}  # the oldest first
        self._timer: Any = None

    def refuse(self, sock: Socket, peer: Any) -> None:
        self._count()
        if len(self._held) >= HELD:
            self._end(next(iter(self._held)))
        client = _Client(sock, peer, self._loop.now() + _PATIENCE, self._loop.io(sock.fileno(), _READ))
        self._held[client] = None
        client.watcher.start(self._readable, client)
        if self._timer is None:
            self._wait(_PATIENCE)
        self._readable(client)  # most requests come with their connection

    def close(self) -> None:
        for client in tuple(self._held):
            self._end(client)
        self._drop_timer()

    def _readable(self, client: _Client) -> None:
        try:
            data = client.sock.recv(_READ_SIZE)
        except BlockingIOError:
            return
        except OSError:  # it has reset
            self._forget(client)
            client.sock.close()
            return
        if data and not client.answered:
            self._tell(client)
        client.reads += 1
        if not data or client.reads >= _READS:
            self._end(client, asked=client.answered)

    def _tell(self, client: _Client) -> None:
        client.answered = True
        with contextlib.suppress(OSError):  # a new connection has room for it, or it is gone
            client.sock.send(self._answer(client.peer))
            client.sock.shutdown(SHUT_WR)

    def _end(self, client: _Client, *, asked: bool = True) -> None:
        """Also tell it, unless it has left without a byte."""
        self._forget(client)
        if asked and not client.answered:
            self._tell(client)
        finish(client.sock)

    def _forget(self, client: _Client) -> None:
        del self._held[client]
        client.watcher.stop()
        client.watcher.close()

    # The time that they have: one timer for all, since all have the same.

    def _wait(self, seconds: float) -> None:
        self._drop_timer()
        self._timer = self._loop.timer(seconds)
        self._timer.start(self._expire)

    def _expire(self) -> None:
        now = self._loop.now()
        for client in tuple(self._held):
            if client.until > now:
                self._wait(client.until - now)
                return
            self._end(client)
        self._drop_timer()

    def _drop_timer(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None

    def __repr__(self) -> str:
        return f"<Answered {len(self._held)} held>"
