"""AdminServer: the API on the sockets that the master has bound, within bounds."""

from __future__ import annotations

import struct
from _socket import socket as Socket
from collections.abc import Sequence
from socket import AF_UNIX, SO_PEERCRED, SOL_SOCKET
from typing import Any

import gevent
import gevent.socket
from gevent import Timeout
from gevent.pool import Pool
from gevent.pywsgi import WSGIHandler, WSGIServer

from gproxy.admin.app import App
from gproxy.admin.desk import Desk, log
from gproxy.core.settings import AdminSettings
from gproxy.net.connection import format_sockaddr

MOST_CONNECTIONS = 64
_LAST_ANSWERS = 1.0  # seconds at the end for what is being asked and answered
_LOOK = 0.01  # seconds between looks at whether that is over
_PATIENCE = 15.0  # seconds for a request and its answer, the wait for it included
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


class _Handler(WSGIHandler):  # type: ignore[misc]  # gevent has no types
    """One connection. `idle` once it has had an answer, and asks nothing new."""

    idle = False
    _patience: Any = None  # the present request's

    def handle(self) -> None:
        self.server.handlers.add(self)
        try:
            super().handle()
        finally:
            self.server.handlers.discard(self)

    def handle_one_response(self) -> None:
        self.idle = False
        super().handle_one_response()
        self.idle = True

    def handle_one_request(self) -> Any:
        """None, which ends the connection, when it takes too long."""
        result = None
        with Timeout(_PATIENCE, False) as self._patience:
            result = super().handle_one_request()
        return result

    def read_request(self, line: str) -> Any:
        """A head that can't be read is the client's mistake: as anything but a ValueError it would be a traceback.

        Such are HTTPException for too many fields, and IndexError for the version `HTTP/1`.
        """
        try:
            return super().read_request(line)
        except Exception as error:
            raise ValueError(str(error)) from error

    def handle_error(self, kind: Any, error: Any, trace: Any) -> None:
        """Neither is a defect: our own timeout, and chunks that can't be read (App answers for defects of its own)."""
        if isinstance(error, Timeout):
            self.close_connection = True
        elif isinstance(error, ValueError):
            self.close_connection = True
            self._send_error_response_if_possible(400)
        else:
            super().handle_error(kind, error, trace)

    def get_environ(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environ()
        environ["gproxy.path"] = self.path.partition("?")[0]  # PATH_INFO does not tell %2F from a slash
        environ["gproxy.peer"] = peer_of(self.socket)
        environ["gproxy.patience"] = self._patience
        return environ

    def log_error(self, message: str, *arguments: Any) -> None:
        """A client's mistake, answered with 400: no news to an operator."""
        log.debug("a request that is none: " + message, *arguments)


class _Server(WSGIServer):  # type: ignore[misc]  # gevent has no types
    """One socket."""

    def __init__(self, *arguments: Any, **named: Any):
        super().__init__(*arguments, **named)
        self.handlers: set[_Handler] = set()


class AdminServer:
    """`start` when nobody else serves the API, then `stop`."""

    def __init__(self, settings: AdminSettings, sockets: Sequence[Socket], desk: Desk):
        self.desk = desk
        pool = Pool(MOST_CONNECTIONS)
        self._pool = pool
        self._servers = [_server(settings, sock, desk, pool) for sock in sockets]
        self._started = False

    def start(self) -> None:
        if not self._started:
            self._started = True
            for server in self._servers:
                server.start()

    def stop(self) -> None:
        """Who waits to be accepted is the next one's; who has been is still answered, for a moment."""
        for server in self._servers:
            server.close()
        self.desk.streams.end()
        with Timeout(_LAST_ANSWERS, False):
            while any(not handler.idle for server in self._servers for handler in server.handlers):
                gevent.sleep(_LOOK)
        self._pool.kill(block=False)

    def __repr__(self) -> str:
        return f"<AdminServer {len(self._pool)} of {MOST_CONNECTIONS} connections>"


def _server(settings: AdminSettings, sock: Socket, desk: Desk, pool: Pool) -> _Server:
    address = sock.getsockname()
    port = address[1] if isinstance(address, tuple) else 0
    listening = gevent.socket.socket(sock.family, sock.type, sock.proto, fileno=sock.detach())
    named = {"SERVER_NAME": "gproxy", "SERVER_PORT": str(port)}  # else it would look its own name up
    return _Server(
        listening,
        App(settings, port, desk),
        spawn=pool,
        log=None,
        error_log=None,
        handler_class=_Handler,
        environ=named,
    )


def peer_of(sock: Any) -> str:
    """Who it is, for the log: an address, or the user of a unix socket."""
    if sock.family == AF_UNIX:
        _, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(SOL_SOCKET, SO_PEERCRED, _CREDENTIALS.size))
        return f"user {uid}"
    return format_sockaddr(sock.getpeername())
