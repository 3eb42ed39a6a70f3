"""HttpSession: one client of an http listener, from accept to close.

    run() ─▶ _converse: a head, its exchange, the next one ─▶ rests between requests, without a greenlet
                                                           ─▶ or closes

docs/architecture.md draws it.
"""

from __future__ import annotations

import logging
from _socket import SHUT_WR
from typing import Any

from gevent import getcurrent

from gproxy.core.http.forward import RequestBlock, resolve_target
from gproxy.core.http.heads import check_request_line, check_unfinished_request
from gproxy.core.http.messages import Malformed
from gproxy.core.settings import AllDown
from gproxy.core.termination import Ended
from gproxy.http.client import DOWNLOAD, HEAD, IDLE, LINGER, OVER, ROUTING, TUNNEL, ClientSide, Interrupted
from gproxy.http.context import HttpContext
from gproxy.http.exchange import UNREAD, CutOff, Exchange, Refused
from gproxy.http.record import Over, count, record, trace
from gproxy.http.tunnel import Tunnel
from gproxy.net.connection import finish, format_sockaddr
from gproxy.net.stream import PeerReset
from gproxy.search import NotServed
from gproxy.stories import Trace, plain_trace
from gproxy.upstream import Backend

log = logging.getLogger("gproxy.http")

_BLANK_BYTES = 16  # of empty lines before a request
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
    Ended.KILLED_IN_CONNECT: (503, "the proxy is shutting down"),
    Ended.BACKEND_DOWN: (502, "the backend went down"),
    Ended.BACKEND_STALLED: (504, "the backend took no more of the request"),
    Ended.CLIENT_TIMEOUT: (408, "the request's body took too long"),
}


class HttpSession(ClientSide):
    """`exchange` is the present one, or None between two."""

    def __init__(self, context: HttpContext, sock: Any, peer: Any):
        super().__init__(context, sock, peer)
        self.exchange: Exchange | None = None
        self._tunnel: Tunnel | None = None
        self._method = b""  # of the request that was read last
        self._asked = b""  # the target as it came, where it is not a path
        self.code = Ended.NORMAL
        context.opened(self)

    @property
    def listener(self) -> str:
        return self.context.name

    @property
    def backend(self) -> Backend | None:
        """Who serves it now."""
        if self.exchange is not None:
            return self.exchange.backend
        return self.lent[4] if self.lent is not None else None

    @property
    def waiting(self) -> bool:
        """Whether it waits for a slot or a connection."""
        return self.phase is ROUTING

    def under_way(self) -> Trace | None:
        """The present exchange, so far as it has come."""
        if self.exchange is not None:
            return trace(self, self.exchange)
        return plain_trace(self.peer, self.lent) if self.lent is not None else None

    # In a greenlet.

    def run(self, readable: bool = False) -> None:
        """Serve what the client sends until it pauses or leaves; `readable` if it may have sent something already."""
        self.greenlet = getcurrent()
        try:
            if (not readable or self._read_at_hand()) and self._converse():
                return
        except Exception:  # a defect of ours must end this session only, and be seen
            log.exception("session of %s failed", format_sockaddr(self.peer))
            self._end_abruptly(Ended.DEFECT)
        finally:
            self.greenlet = None

    def _read_at_hand(self) -> bool:
        """Take what the client has sent, if it has; False where it has reset."""
        try:
            data = self.client.read_now()
        except PeerReset:
            self.client.reset()
            self._ended(Ended.NORMAL)
            return False
        if data is not None:
            self.data, self.finished = data, not data
        return True

    def _converse(self) -> bool:
        """Whether the session goes on, without a greenlet."""
        try:
            while self._serve_next():
                if not self.data:
                    if self.finished or self.context.draining:
                        break
                    self.phase = IDLE
            if self.code is Ended.CLIENT_LEFT_HEAD:
                self._log_end(self.code, 0, self.context.new_id())
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
            self._take_cut_off()
            self._end_abruptly(self._reset_code(reset))
            return False
        except Interrupted as interruption:
            if interruption.code is Ended.NORMAL:
                return True
            self._take_cut_off()
            self._interrupted(interruption.code)
        self._close()
        return False

    def _take_cut_off(self) -> None:
        """A plain exchange whose last bytes could not be sent is the present one after all."""
        if isinstance(self.cut_off, Exchange):
            self.exchange, self.cut_off = self.cut_off, None
            self.exchange.was_cut_off()

    def _serve_next(self) -> bool:
        """One request and its response; False when no other may follow."""
        data = self.data or (b"" if self.finished else self.client.read())
        if not data:
            self.finished = True
            return False
        context = self.context
        self.data = data
        self.began = self.read_at = context.clock()
        if context.plain and not self.closing:
            served = context.serve_plain(self, data)
            if served is True:
                return not self.closing
            if served:
                self.closing = not served.block.keep_alive
                return self._run(served)
        return self._serve_any()

    def _serve_any(self) -> bool:
        """The same for whatever the client has begun to send."""
        self._method = b""
        self.sent_before = self.client.sent  # what plain exchanges sent is counted
        size = self._read_head()
        if not size:
            return False
        context, data = self.context, self.data
        self.data = data[size:]
        method, target, block = self._read_request(data[:size])
        if block is not self.block:
            self.remember(block)
        exchange = Exchange(self, method, target, block, block.request_id or context.new_id(), size)
        if self._asked:
            exchange.asked, self._asked = self._asked, b""
        if not block.keep_alive or context.draining:
            self.closing = True
        return self._run(exchange)

    def _run(self, exchange: Exchange) -> bool:
        """Whether another request may follow."""
        self.exchange = exchange
        self._method = exchange.method
        self.sent_before = self.client.sent
        if exchange.run():
            self._begin_tunnel(exchange)
            return False
        self._over(exchange, Ended.NORMAL)
        return not self.closing

    def _read_head(self) -> int:
        """Wait for a whole head; where it ends in `data`. 0 where the client has left. Malformed."""
        data = self.data
        end = data.find(b"\r\n\r\n") + 4
        if 3 < end <= self.context.limits.head and data[0] != 13:
            return end
        return self._read_long_head()

    def _read_long_head(self) -> int:
        """The same for a head that is not at hand as a whole."""
        limits = self.context.limits
        checked = blank = 0
        self.phase = HEAD
        while True:
            if skipped := self._skip_empty_lines():
                blank, checked = blank + skipped, 0
                if blank > _BLANK_BYTES:
                    raise Malformed(400, "too many empty lines before the request")
            data = self.data
            end = data.find(b"\r\n\r\n", max(0, checked - 3)) + 4
            if end > limits.head:
                raise Malformed(431, "the head is too long")
            if end > 3:
                self.read_at = self.context.clock()
                return end
            check_unfinished_request(data, limits, checked)
            checked = len(data)
            more = self._more()
            if not more:
                self.code = Ended.CLIENT_LEFT_HEAD if data else Ended.NORMAL
                return 0
            self.data = data + more

    def _skip_empty_lines(self) -> int:
        """An empty line before a request is none of it (RFC 9112 section 2.2); how many bytes they were."""
        data = self.data
        rest = data.lstrip(b"\r\n")
        skipped = len(data) - len(rest)
        if data[:skipped] == b"\r\n" * (skipped // 2):  # else a CR or LF on its own, which is refused as such
            self.data = rest
            return skipped
        return 0

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
        self._method = method
        context = self.context
        block = context.requests.get(rest) or context.read_request(rest)
        check_request_line(method, target, context.limits)
        if target[0] != 47 or method == b"CONNECT":  # a slash
            self._asked = target
            target, block = resolve_target(method, target, block)
        if block.host is None:
            block = block.with_host(self.own_address().encode())
        return method, target, block

    # Endings of an exchange.

    def _over(self, exchange: Exchange, code: Ended) -> None:
        """Count it and log it."""
        context, answered = self.context, exchange.response_at
        if exchange.upload is not None:
            exchange.bytes_in += exchange.upload.size
        bytes_out = exchange.bytes_out + self.client.sent - self.sent_before
        count(context, exchange.status, exchange.bytes_in, bytes_out)
        if answered is not None:
            context.metrics.response_time.record(answered - exchange.began)
        if context.access_log is not None:
            context.access_log.exchange(record(self, exchange, bytes_out, code))
        context.stories.keep(trace(self, exchange, Over(context.clock(), bytes_out, code)))
        if exchange.search is not None:
            exchange.search.over()
        self.exchange = None

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
            head_only=self._method == b"HEAD",
            keep_alive=False,
            more=exchange.explained() if exchange is not None else b"",
        )
        self.closing = self.unread = True
        self.phase = DOWNLOAD
        try:
            self.client.write(data)
        except (PeerReset, Interrupted):
            code, status = (code if code.startswith("C") else Ended.CLIENT_RESET), 0
        self._log_end(code, status, request_id, reason)

    def _log_end(self, code: Ended, status: int, request_id: bytes, told: str = "") -> None:
        """The exchange, or what would have been one; `told` is why, in an answer of ours."""
        exchange = self.exchange
        self.code = code
        if exchange is None:
            exchange = Exchange(self, b"", b"", UNREAD, request_id, 0)
        exchange.status = exchange.status or status
        exchange.told = told
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
            self._log_end(code, 0, exchange.request_id)
        else:
            self._answer(told[0], code, told[1])

    def _interrupted(self, code: Ended) -> None:
        exchange = self.exchange
        refusal = exchange.upload.refusal if exchange is not None and exchange.upload is not None else None
        if self.phase in (IDLE, LINGER) or (exchange is None and not self.data):
            return  # nothing was asked: a browser that connected ahead, for instance
        if code is Ended.KILLED and self.phase is ROUTING:
            code = Ended.KILLED_IN_CONNECT
        if code is Ended.CLIENT_LEFT_WAITING and exchange is not None and exchange.status:
            code = Ended.CLIENT_RESET
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
            self._log_end(code, 0, request_id)
        self._ended(code)

    def _close(self) -> None:
        """End in order: what the client still sends is read, or its last answer would be lost to a reset."""
        if self.phase is OVER:
            return
        client = self.client
        if self.unread and not self.finished:
            self._linger()
        asked_to = self.block is not None and not self.block.keep_alive  # then nothing comes behind the request
        if self.finished or (asked_to and not self.unread) or not client.has_input():
            client.close()  # with a FIN, since nothing is unread
        else:
            finish(client.release())
        self._ended(self.code)

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

    def resume(self) -> None:
        server = self.context.server
        assert server is not None
        server.greenlets.run(self.run, True)

    def sweep(self, now: float) -> None:
        """End it if it is past its deadline."""
        if self._tunnel is not None:
            self._tunnel.sweep(now)
        elif self.phase is not OVER:
            self.look(now)
            if self.phase is IDLE and self.greenlet is not None and self.at_rest(now):
                self.interrupt(Ended.NORMAL, IDLE)  # the greenlet may go; the next request finds another one

    def overdue(self) -> None:
        if self.phase is IDLE:
            self._end_idle()
        else:
            self.interrupt(self.late_code(), self.phase)

    def end(self, code: Ended, *, cut_off: bool = True) -> None:
        """End it from outside under a termination code."""
        if self._tunnel is not None:
            self._tunnel.end(code, cut_off=cut_off)
        elif self.phase is IDLE:
            self._end_idle()
        else:
            self.interrupt(code)

    def drain(self) -> None:
        """End it now if nothing is under way, else with the response that is."""
        if self.phase is IDLE or (self.phase is HEAD and not self.data):
            self._end_idle()

    def dismiss(self) -> bool:
        """End an idle client, unless a request of its has come meanwhile."""
        if self.client.has_input():
            return False
        self.closing = True  # not to be dismissed twice
        self.context.stats.idle_closed += 1
        self._end_idle()
        return True

    def _end_idle(self) -> None:
        """Nothing is under way."""
        if self.greenlet is None:
            finish(self.client.release())
            self._ended(Ended.NORMAL)
        else:
            self.interrupt(Ended.KILLED, self.phase)

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
