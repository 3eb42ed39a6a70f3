"""HttpService: the handler of one http listener."""

from __future__ import annotations

from _socket import socket as Socket
from functools import partial
from typing import Any

from gevent import get_hub

from gproxy.http.context import HttpContext
from gproxy.http.overload import turned_away
from gproxy.http.plain import plain_server
from gproxy.http.session import HttpSession
from gproxy.net.refusals import Answered, Refusals


class HttpService(HttpContext):
    def __init__(self, *args: Any):
        """As HttpContext."""
        super().__init__(*args)
        self.serve_plain = plain_server(self)

    def serve(self, sock: Socket, peer: Any) -> None:
        HttpSession(self, sock, peer).run(True)

    def refusals(self) -> Refusals:
        return Answered(get_hub().loop, partial(turned_away, self), self.count_rejected)
