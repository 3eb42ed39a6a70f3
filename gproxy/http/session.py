"""HttpSession: one client of an http listener, from accept to close.

    run() ─▶ _converse: a head, its exchange, the next one ─▶ rests between requests, without a greenlet
                                                           ─▶ or closes

docs/architecture.md draws it.
"""

from __future__ import annotations

import logging
import time
from _socket import SHUT_WR
from typing import Any

from gevent import getcurrent

from gproxy.core.http.forward import RequestBlock, block_with_host, client_lines, resolve_target
from gproxy.core.http.heads import check_request_line, check_unfinished_request
from gproxy.core.http.messages import Malformed
from gproxy.core.record import ExchangeRecord
from gproxy.core.settings import AllDown, Forwarded
from gproxy.core.termination import Ended
from gproxy.http.client import DOWNLOAD, HEAD, IDLE, LINGER, OVER, ROUTING, TUNNEL, ClientSide, Interrupted
from gproxy.http.context import HttpContext
from gproxy.http.exchange import UNREAD, CutOff, Exchange, Refused
from gproxy.http.tunnel import Tunnel
from gproxy.metrics import Slot
from gproxy.net.connection import finish, format_sockaddr
from gproxy.net.stream import PeerReset
from gproxy.search import NotServed
from gproxy.upstream import Backend

log = logging.getLogger("gproxy.http")

_LINGER_BYTES = 1024 * 1024  # read and thrown away at the most, so that a client can read its last answer

# What a client is told when nobody can serve it: a status and a sentence.
_NOT_SERVED = {
    Ended.NO_BACKEND: (503, "no backend can serve this"),
    Ended.CONNECT_TIMEOUT: (503, "no backend could be connected in time"),
    Ended.QUEUE_TIMEOUT: (503, "no connection to a backend came free in time"),
    Ended.OUT_OF_RESOURCES: (503, "the proxy has run out of resources"),
    Ended.KILLED_IN_QUEUE: (503, "the proxy is shutting down"),
}
_INTERRUPTED = {
    Ended.HEAD_TIMEOUT: (408, "the request's head took too long"),
    Ended.RESPONSE_TIMEOUT: (504, "the backend took too long to answer"),
    Ended.KILLED: (503, "the proxy is shutting down"),
    Ended.BACKEND_DOWN: (502, "the backend went down"),
    Ended.BACKEND_STALLED: (504, "the backend took no more of the request"),
    Ended.CLIENT_TIMEOUT: (408, "the request's body took too long"),
}


class HttpSession(ClientSide):
    """`exchange` is the present one, or None between two."""

    __slots__ = ("_began", "_block", "_lines", "_tunnel", "code", "exchange")

    def __init__(self, context: HttpContext, sock: Any, peer: Any):
        super().__init__(context, sock, peer)
        self.exchange: Exchange | None = None
        self.code = Ended.NORMAL
        self._began = self.started
        self._tunnel: Tunnel | None = None
        self._block: RequestBlock | None = None  # the last request's, and what was added for this client
        self._lines = b""
        context.opened(self)

    @property
    def backend(self) -> Backend | None:
        """Who serves it now."""
        return self.exchange.backend if self.exchange is not None else None

    @property
    def waiting(self) -> bool:
        """Whether it waits for a slot or a connection."""
        return self.phase is ROUTING

    # In a greenlet.

    def run(self) -> None:
        """Serve what the client sends until it pauses or leaves."""
        self.greenlet = getcurrent()
        try:
            if self._converse():
                return
        except Exception:  # a defect of ours must end this session only, and be seen
            log.exception("session of %s failed", format_sockaddr(self.peer))
            self._end_abruptly(Ended.DEFECT)
        finally:
            self.greenlet = None

    def _converse(self) -> bool:
        """Whether the session goes on, without a greenlet."""
        try:
            while self._serve_next():
                if not self.data:
                    if self.finished:
                        break
                    self.phase = IDLE
                    return True
            if self._tunnel is not None:
                return True
        except Malformed as error:
            self._answer(error.status, Ended.REFUSED, error.reason)
        except NotServed as refusal:
            self._not_served(refusal.code)
        except Refused as refusal:
            self._answer(refusal.status, refusal.code, refusal.reason)
        except CutOff as cut:
            self._end_abruptly(cut.code)
            return False
        except PeerReset as reset:
            self._end_abruptly(self._reset_code(reset))
            return False
        except Interrupted as interruption:
            self._interrupted(interruption.code)
        self._close()
        return False

    def _serve_next(self) -> bool:
        """One request and its response; False when no other may follow."""
        end = self._read_head()
        if not end:
            return False
        data, context = self.data, self.context
        head = data[:end] if end != len(data) else data
        self.data = data[end:] if end != len(data) else b""
        began = self._began
        method, target, block = self._read_request(head)
        self.closing = not block.keep_alive or self.closing
        self.exchanges += 1
        exchange = self.exchange = Exchange(self, method, target, block, began)
        exchange.bytes_in = end
        if block is not self._block:
            self._block = block
            local = self._own_address() if context.options.forwarded is Forwarded.FORWARDED else ""
            self._lines = client_lines(block, context.options, self.peer_name, local, self.trusted)
        if exchange.run(self._lines):
            self._begin_tunnel(exchange)
            return False
        self._over(exchange, Ended.NORMAL)
        return not self.closing

    def _read_head(self) -> int:
        """Wait for a whole head; where it ends in `data`. 0 where the client has left. Malformed."""
        data, limits = self.data, self.context.limits
        checked = 0
        if data:
            self._began = self.context.clock()
        while True:
            if data[:1] == b"\r" and data[:2] == b"\r\n":  # RFC 9112 2.2: an empty line before a request is none of it
                data = self.data = data[2:]
                checked = 0
                continue
            end = data.find(b"\r\n\r\n", max(0, checked - 3)) + 4
            if end > limits.head:
                raise Malformed(431, "the head is too long")
            if end > 3:
                return end
            if data:
                self.phase = HEAD
                check_unfinished_request(data, limits, checked)
            checked = len(data)
            more = self._more()
            if not data:
                self._began = self.context.clock()
            if not more:
                if data:
                    self.code = Ended.CLIENT_LEFT_HEAD
                return 0
            data = self.data = data + more

    def _more(self) -> bytes:
        """What else the client sends; b"" at its end."""
        if self.finished:
            return b""
        more = self.client.read()
        if not more:
            self.finished = True
        return more

    def _read_request(self, head: bytes) -> tuple[bytes, bytes, RequestBlock]:
        """Malformed."""
        try:
            method, target, rest = head.split(b" ", 2)
        except ValueError:
            raise Malformed(400, "the request line has too few parts") from None
        context = self.context
        block = context.requests.get(rest) or context.read_request(rest)
        check_request_line(method, target, context.limits)
        if target[0] != 47 or method == b"CONNECT":  # a slash
            target, block = resolve_target(method, target, block)
        if block.host is None:
            block = block_with_host(block, self._own_address().encode())
        return method, target, block

    def _own_address(self) -> str:
        """Where the client has connected to."""
        address = format_sockaddr(self.client.sock.getsockname())
        return "localhost" if address.startswith("unix:") else address

    # Endings of an exchange.

    def _over(self, exchange: Exchange, code: Ended) -> None:
        """Count it and log it."""
        context = self.context
        exchange.code = code
        now = context.clock()
        if exchange.upload is not None:
            exchange.bytes_in += exchange.upload.size
        view, stats = context.metrics.view, context.stats
        view[Slot.BYTES_IN] += exchange.bytes_in
        view[Slot.BYTES_OUT] += exchange.bytes_out
        view[stats.base] += 1
        if exchange.status:
            view[stats.base + exchange.status // 100] += 1
        if exchange.response_at is not None:
            context.metrics.response_time.record(exchange.response_at - exchange.began)
        if context.access_log is not None:
            context.access_log.exchange(self._record(exchange, now))
        self.exchange = None

    def _record(self, exchange: Exchange, now: float) -> ExchangeRecord:
        context, search, backend = self.context, exchange.search, exchange.backend
        routed = connected = answered = None
        reused = None
        retries = 0
        if search is not None:
            routed, connected, retries = search.routed_at, search.connected_at, search.retries
            if search.connection is not None:
                reused = search.connection.uses > 1
        began, read_at = exchange.began, exchange.read_at
        tw = None if routed is None else routed - read_at
        tc = None if connected is None or routed is None else connected - routed
        if exchange.response_at is not None and connected is not None:
            answered = exchange.response_at - connected
        upstream = search.target.upstream if search is not None else context.default.upstream
        return ExchangeRecord(
            client=format_sockaddr(self.peer),
            listener=context.name,
            upstream=upstream.name,
            backend=backend.name if backend is not None else "",
            started=time.time() - (now - began),
            tr=read_at - began,
            tw=tw,
            tc=tc,
            tresp=answered,
            ta=now - began,
            status=exchange.status,
            bytes_in=exchange.bytes_in,
            bytes_out=exchange.bytes_out,
            code=exchange.code,
            active=len(context.sessions),
            listener_active=context.server.active if context.server is not None else 0,
            upstream_active=upstream.active,
            backend_active=backend.active if backend is not None else 0,
            retries=retries,
            reused=reused,
            method=exchange.method,
            target=exchange.target,
            version=exchange.version,
            request_id=exchange.request_id,
        )

    # Answers of our own.

    def _answer(self, status: int, code: Ended, reason: str) -> None:
        """Tell the client what went wrong, if it can still be told, and end."""
        exchange = self.exchange
        if exchange is not None and exchange.status:
            self._end_abruptly(code)  # a response was begun
            return
        context = self.context
        accept = exchange.block.fields.get(b"accept") if exchange is not None else None
        upstream = exchange.search.target.upstream if exchange is not None and exchange.search is not None else None
        request_id = exchange.request_id if exchange is not None else context.new_id()
        data = context.answers.bytes(
            status,
            reason=reason,
            accept=accept,
            request_id=request_id,
            retry_after=upstream.settings.retry_after if status == 503 and upstream is not None else None,
            date=context.date(),
            head_only=exchange is not None and exchange.head_only,
            keep_alive=False,
        )
        self.closing = True
        self.phase = DOWNLOAD
        sent = 0
        try:
            self.client.write(data)
            sent = len(data)
        except (PeerReset, Interrupted):
            code = code if code.startswith("C") else Ended.CLIENT_RESET
        self._log_end(code, status if sent else 0, sent, request_id)

    def _log_end(self, code: Ended, status: int, sent: int, request_id: bytes) -> None:
        """The exchange, or what would have been one."""
        exchange = self.exchange
        self.code = code
        if exchange is None:
            exchange = Exchange(self, b"", b"", UNREAD, self._began)
            exchange.request_id = request_id
        exchange.status = exchange.status or status
        exchange.bytes_out += sent
        self._over(exchange, code)

    def _not_served(self, code: Ended) -> None:
        exchange = self.exchange
        assert exchange is not None
        assert exchange.search is not None
        settings = exchange.search.target.upstream.settings
        told = _NOT_SERVED.get(code)
        if told is None or (code is Ended.NO_BACKEND and settings.all_down is AllDown.RESET):  # it has left
            self._end_abruptly(code)
        elif code is Ended.NO_BACKEND and settings.all_down is AllDown.CLOSE:
            self._log_end(code, 0, 0, exchange.request_id)
        else:
            self._answer(told[0], code, told[1])

    def _interrupted(self, code: Ended) -> None:
        exchange = self.exchange
        refusal = exchange.upload.refusal if exchange is not None and exchange.upload is not None else None
        if self.phase is LINGER:
            return
        if code is Ended.HEAD_TIMEOUT and not self.data:
            return  # it never began: a browser that connected ahead
        if code is Ended.REFUSED and refusal is not None:
            self._answer(refusal.status, code, refusal.reason)
        elif code in _INTERRUPTED and (exchange is None or not exchange.status):
            status, reason = _INTERRUPTED[code]
            self._answer(status, code, reason)
        else:
            self._end_abruptly(code)

    def _reset_code(self, reset: PeerReset) -> Ended:
        """Who reset, and when."""
        if reset.stream is not self.client:
            return Ended.BACKEND_RESET
        if self.exchange is None:
            return Ended.CLIENT_LEFT_HEAD
        return Ended.CLIENT_RESET if self.exchange.status else Ended.CLIENT_LEFT_WAITING

    def _end_abruptly(self, code: Ended) -> None:
        """End with RST, so that the client can't take what it has for all."""
        self.client.reset()
        if self.exchange is not None or (self.phase is HEAD and self.data):
            request_id = self.exchange.request_id if self.exchange is not None else self.context.new_id()
            self._log_end(code, 0, 0, request_id)
        self._ended(code)

    def _close(self) -> None:
        """End in order: what the client still sends is read, or its last answer would be lost to a reset."""
        if self.phase is OVER:
            return
        client = self.client
        if not self.finished and self.closing and (self.data or self._unread()):
            self._linger()
        finish(client.release())
        self._ended(self.code)

    def _unread(self) -> bool:
        return self.code is not Ended.NORMAL

    def _linger(self) -> None:
        self.phase = LINGER
        left = _LINGER_BYTES
        try:
            self.client.sock.shutdown(SHUT_WR)
            while left > 0 and (data := self.client.read()):
                left -= len(data)
        except (OSError, PeerReset, Interrupted):
            return

    def _ended(self, code: Ended) -> None:
        """Nothing is left of it."""
        if self.phase is OVER:
            return
        self.phase = OVER
        context = self.context
        context.metrics.session_closed(code)
        context.metrics.session_time.record(context.clock() - self.started)
        context.closed(self)

    # From outside.

    def _wake(self) -> None:
        """A client that was between two requests has sent something, or has left."""
        assert self.context.server is not None
        self.context.server.greenlets.run(self.run)

    def sweep(self, now: float) -> None:
        """End it if it is past its deadline."""
        if self._tunnel is not None:
            self._tunnel.sweep(now)
        elif self.phase is not OVER:
            self.look(now)

    def overdue(self) -> None:
        if self.phase is IDLE:
            self._end_idle()
        else:
            self.interrupt(self.late_code())

    def end(self, code: Ended, *, cut_off: bool = True) -> None:
        """End it from outside under a termination code."""
        if self._tunnel is not None:
            self._tunnel.end(code, cut_off=cut_off)
        elif self.phase is IDLE:
            self._end_idle()
        else:
            self.interrupt(code)

    def drain(self) -> None:
        """End it now if it is between two requests, else with the response that is under way."""
        if self.phase is IDLE:
            self._end_idle()

    def _end_idle(self) -> None:
        """Nothing is under way."""
        if self.greenlet is None:
            finish(self.client.release())
            self._ended(Ended.NORMAL)

    # Upgrades.

    def _begin_tunnel(self, exchange: Exchange) -> None:
        self.phase = TUNNEL
        tunnel = Tunnel(self, exchange, self._tunnel_over)
        tunnel.start()
        self._tunnel = tunnel

    def _tunnel_over(self, exchange: Exchange, code: Ended) -> None:
        self._tunnel = None
        self._over(exchange, code)
        self._ended(code)
