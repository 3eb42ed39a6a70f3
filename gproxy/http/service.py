"""HttpService: the handler of one http listener."""

from __future__ import annotations

from _socket import socket as Socket
from typing import Any

from gproxy.http.context import HttpContext
from gproxy.http.plain import plain_server
from gproxy.http.session import HttpSession


class HttpService(HttpContext):
    def __init__(self, *args: Any):
        """As HttpContext."""
        super().__init__(*args)
        self.serve_plain = plain_server(self)

    def serve(self, sock: Socket, peer: Any) -> None:
        HttpSession(self, sock, peer).run(True)
