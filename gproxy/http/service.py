"""HttpService: the handler of one http listener."""

from __future__ import annotations

from _socket import socket as Socket
from collections.abc import Mapping
from functools import partial
from typing import Any

from gevent import get_hub

from gproxy.core.http.answers import Answers
from gproxy.core.settings import ListenerSettings
from gproxy.http.context import HttpContext
from gproxy.http.overload import turned_away
from gproxy.http.plain import plain_server
from gproxy.http.session import HttpSession
from gproxy.net.refusals import Answered, Refusals
from gproxy.service import Common, Target


class HttpService(HttpContext):
    def __init__(self, settings: ListenerSettings, targets: Mapping[str, Target], answers: Answers, common: Common):
        """As HttpContext."""
        super().__init__(settings, targets, answers, common)
        self.serve_plain = plain_server(self)

    def serve(self, sock: Socket, peer: Any) -> None:
        HttpSession(self, sock, peer).run(True)

    def refusals(self) -> Refusals:
        return Answered(get_hub().loop, partial(turned_away, self), self.count_rejected)
