"""Tunnel: an upgraded connection, such as a WebSocket's: two sockets on the relay, whose bytes are none of ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gevent import get_hub

from gproxy.core.termination import Ended
from gproxy.http.client import ClientSide
from gproxy.http.exchange import Exchange
from gproxy.net.pool import PooledConnection
from gproxy.net.relay import Relay
from gproxy.timeouts import RelayWatch

_IN_TUNNEL = {
    Ended.CLIENT_RESET: Ended.TUNNEL_CLIENT_RESET,
    Ended.BACKEND_RESET: Ended.TUNNEL_BACKEND_RESET,
    Ended.CLIENT_TIMEOUT: Ended.TUNNEL_TIMEOUT,
    Ended.BACKEND_STALLED: Ended.TUNNEL_TIMEOUT,
}


class Tunnel:
    """From the 101 to the end. `on_over` is told the termination code."""

    __slots__ = ("_client", "_code", "_connection", "_exchange", "_on_over", "_relay", "_timeouts", "_watch")

    def __init__(self, client: ClientSide, exchange: Exchange, on_over: Callable[[Exchange, Ended], None]):
        self._client = client
        self._exchange = exchange
        self._on_over = on_over
        self._code: Ended | None = None
        self._relay: Relay | None = None
        self._watch: RelayWatch | None = None
        # Between two messages a tunnel may be quiet for long.
        self._timeouts = replace(client.timeouts, connection_idle_timeout=client.timeouts.tunnel_timeout)

    def start(self) -> None:
        """Send what came behind either head, then let the relay have the sockets. PeerReset."""
        client, exchange = self._client, self._exchange
        connection = self._pooled()
        backend = connection.stream
        assert backend is not None
        client.client.on_idle(None)  # what comes meanwhile stays in the kernel, for the relay
        try:
            if exchange.tail:
                client.client.write(exchange.tail)
            if client.data:
                backend.write(client.data)
        except BaseException:
            self._release(connection)
            raise
        exchange.bytes_in += len(client.data)
        client.data = exchange.tail = b""
        client.backend_stream = connection.stream = None
        relay = self._relay = Relay(get_hub().loop, client.client.release(), backend.release(), self._over)
        self._watch = RelayWatch(relay, client.context.clock())
        relay.start()

    def sweep(self, now: float) -> None:
        """End it if it is past its deadline."""
        relay, watch = self._relay, self._watch
        if relay is None or watch is None or relay.over:
            return
        code = watch.overdue(self._timeouts, now)
        if code:
            self.end(_IN_TUNNEL.get(code, code), cut_off=bool(relay.up.held or relay.down.held or relay.aborting))

    def end(self, code: Ended, *, cut_off: bool) -> None:
        """End it from outside."""
        if self._relay is None:
            return
        self._code = code
        if cut_off:
            self._relay.kill()
        else:
            self._relay.close()

    def _over(self, relay: Relay) -> None:
        self._relay = self._watch = None
        exchange = self._exchange
        exchange.bytes_in += relay.up.received
        exchange.bytes_out += relay.down.received
        self._release(self._pooled())
        self._on_over(exchange, self._code or _code_of(relay))

    def _pooled(self) -> PooledConnection:
        search = self._exchange.search
        assert search is not None
        assert search.connection is not None
        return search.connection

    def _release(self, connection: PooledConnection) -> None:
        backend = self._exchange.backend
        assert backend is not None
        connection.close()
        backend.pool.release(connection)


def _code_of(relay: Relay) -> Ended:
    if relay.client_reset:
        return Ended.TUNNEL_CLIENT_RESET
    return Ended.TUNNEL_BACKEND_RESET if relay.backend_reset else Ended.NORMAL
