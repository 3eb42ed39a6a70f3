"""ClientSide: the client's side of an http session: its bytes, its phase, its end.

    IDLE ──▶ HEAD ──▶ ROUTING ──▶ UPLOAD ──▶ WAITING ──▶ DOWNLOAD ──▶ IDLE, LINGER or the end
                         └──────────────────────▶┘           └──▶ TUNNEL

A session that stays in IDLE has no greenlet: its stream's watcher finds it one. No phase has a timer of its own: the
sweep compares what it saw last (`_Look`), so that a phase costs an assignment.
"""

from __future__ import annotations

from _socket import socket as Socket
from enum import Enum
from typing import Any, NamedTuple

from gevent import GreenletExit, get_hub

from gproxy.core.balance import RouteRequest
from gproxy.core.http.forward import RequestBlock
from gproxy.core.settings import Timeouts
from gproxy.core.termination import Ended
from gproxy.http.context import HttpContext
from gproxy.net.connection import format_sockaddr
from gproxy.net.stream import READ_SIZE, PeerReset, Stream
from gproxy.stories import PlainChoice


class Phase(Enum):
    IDLE = "between requests"
    HEAD = "reading a request's head"
    ROUTING = "looking for a backend"
    UPLOAD = "sending a request's body"
    WAITING = "waiting for a response's head"
    DOWNLOAD = "sending a response"
    LINGER = "waiting for the client to take the last answer"
    TUNNEL = "in a tunnel"
    OVER = "over"


IDLE, HEAD, ROUTING, UPLOAD, WAITING, DOWNLOAD, LINGER, TUNNEL, OVER = Phase

_BY_PROGRESS = frozenset((UPLOAD, DOWNLOAD, TUNNEL))  # their deadline is for a standstill, not for the whole

LINGER_FOR = 5.0  # seconds
_RESTS_AFTER = 1.0  # seconds between two requests after which a session's greenlet is let go


class Interrupted(GreenletExit):  # type: ignore[misc]  # gevent has no types
    """The session's greenlet is to end what it is at, under this code."""

    def __init__(self, code: Ended):
        self.code = code
        super().__init__(code)


class _Look(NamedTuple):
    """What the sweep saw. While it stays the same, the time since then counts."""

    phase: Phase
    sent: int  # to the client: no two exchanges have the same
    moved: int  # both ways, where progress counts
    tries: int  # each backend has all of its time


_FIRST_LOOK = _Look(HEAD, 0, 0, 0)


class ClientSide:
    """`data` is what the client has sent and nobody has used yet."""

    def __init__(self, context: HttpContext, sock: Socket, peer: Any):
        self.data = b""
        self.finished = False  # the client has sent FIN: it may still read
        self.unread = False  # the client may still be sending what nobody wants
        self.closing = False  # no request after this one
        self.tries = 0  # of backends
        self.greenlet: Any = None
        self.backend_stream: Stream | None = None
        self.lent: PlainChoice | None = None  # of a plain exchange that is under way
        self.block: RequestBlock | None = None  # the last request's, and the lines added to it for this client
        self.lines = b""
        self.sent_before = 0  # bytes to the client, when the present exchange began
        self.cut_off: object = None  # a plain exchange whose last bytes could not be sent
        self.trusted = False  # whether its forwarding fields are believed
        self.context = context
        self.phase = HEAD
        self.client = Stream(sock, get_hub())
        self.client.idle_callback = self._spoke
        self.peer = peer
        self.peer_name = peer[0] if isinstance(peer, tuple) else ""
        self.name = format_sockaddr(peer)
        self.route_request = RouteRequest(self.peer_name, context.name)
        if context.settings.trusted_proxies:
            self.trusted = context.trusts(peer)
        self.timeouts: Timeouts = context.default.timeouts
        self.started = self.began = self.read_at = self._looked_at = context.clock()
        self._look = _FIRST_LOOK

    def remember(self, block: RequestBlock) -> bytes:
        """The lines that are added for this client to every request with this block."""
        self.block = block
        self.lines = self.context.client_lines(block, self.peer_name, self.trusted, self.own_address)
        return self.lines

    def own_address(self) -> str:
        """Where the client has connected to."""
        address = format_sockaddr(self.client.sock.getsockname())
        return "localhost" if address.startswith("unix:") else address

    # In the hub.

    def _spoke(self) -> None:
        """The client's socket is readable while nobody reads it."""
        if self.phase is IDLE:
            self.resume()
            return
        if len(self.data) >= READ_SIZE or self.finished:
            self.client.pause()
            return
        try:
            data = self.client.read_now()
        except PeerReset:
            self.client.pause()
            self.interrupt(Ended.CLIENT_LEFT_WAITING)
            return
        if data:
            self.data += data
        elif data is not None:
            self.finished = True
            self.client.pause()

    def resume(self) -> None:
        """The client has sent something, or has left, after it was between two requests."""
        raise NotImplementedError

    # Deadlines.

    def look(self, now: float) -> None:
        """Interrupt the session if it has been in its phase for too long."""
        moved = 0
        if self.phase in _BY_PROGRESS:
            # What a client sends ahead is no progress of its download.
            moved = self.client.sent + (self.backend_stream.moved if self.backend_stream is not None else 0)
        look = _Look(self.phase, self.client.sent, moved, self.tries)
        if look != self._look:
            self._look, self._looked_at = look, now
        elif now - self._looked_at >= self._limit():
            self._looked_at = now
            self.overdue()

    def at_rest(self, now: float) -> bool:
        """Whether the sweep has seen no change for a while."""
        return now - self._looked_at >= _RESTS_AFTER

    def idle_since(self) -> float | None:
        """As the sweep has seen it; None where it is not idle, or no sweep has seen it so."""
        if self.phase is not IDLE and (self.phase is not HEAD or self.data):
            return None
        seen = self._look
        unchanged = seen.phase is self.phase and seen.sent == self.client.sent
        return self._looked_at if unchanged and not self.closing else None

    def _limit(self) -> float:
        match self.phase:
            case Phase.HEAD:
                return self.timeouts.request_head_timeout
            case Phase.IDLE:
                return self.timeouts.client_idle_timeout
            case Phase.WAITING:
                return self.timeouts.response_timeout
            case Phase.UPLOAD | Phase.DOWNLOAD | Phase.TUNNEL:
                return self.timeouts.stall_timeout
            case Phase.LINGER:
                return LINGER_FOR
        return float("inf")  # ROUTING's waits have deadlines of their own

    def overdue(self) -> None:
        """The phase has lasted too long."""
        raise NotImplementedError

    def late_code(self) -> Ended:
        """Whose fault it is that nothing moves."""
        if self.phase is HEAD:
            return Ended.HEAD_TIMEOUT
        if self.phase is WAITING:
            return Ended.RESPONSE_TIMEOUT
        backend = self.backend_stream
        if self.client.wants_room or backend is None:
            return Ended.CLIENT_TIMEOUT
        if backend.wants_room:
            return Ended.BACKEND_STALLED
        return Ended.CLIENT_TIMEOUT if self.phase is UPLOAD else Ended.BACKEND_STALLED

    def interrupt(self, code: Ended, during: Phase | None = None) -> None:
        """End what the session's greenlet waits for, from anywhere; unless it is past the phase by then."""
        if self.greenlet is not None:
            get_hub().loop.run_callback(self._throw, self.greenlet, code, during)

    def _throw(self, greenlet: Any, code: Ended, during: Phase | None) -> None:
        """In the hub, unless the greenlet has gone on to serve another session meanwhile."""
        if self.greenlet is greenlet and during in (None, self.phase):
            greenlet.throw(Interrupted(code))

    def __repr__(self) -> str:
        return f"<HttpSession {self.name} {self.phase.value}>"
