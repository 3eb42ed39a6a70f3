"""HttpContext: what the sessions of one http listener share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from itertools import count
from typing import Any

from gproxy.core.http.answers import Answers, http_date
from gproxy.core.http.forward import (
    RequestBlock,
    ResponseBlock,
    client_lines,
    forward_options,
)
from gproxy.core.http.messages import HeadLimits
from gproxy.core.http.routes import Routes
from gproxy.core.remembered import Remembered
from gproxy.core.settings import Forwarded, ListenerSettings
from gproxy.service import Common, Service, Target

_REMEMBERED = 512  # heads of each kind
# Bytes of a remembered head. Usual ones take 2 MB of each kind, the worst (126 lines each) 25 MB.
LONGEST = 2048

# What client_lines depends on: the host that was asked for, the client, and those of its forwarding fields that count.
_ClientKey = tuple[bytes | None, str, tuple[tuple[bytes, bytes], ...]]


class HttpContext(Service):
    """An http listener: its routes, limits and rules."""

    def __init__(self, settings: ListenerSettings, targets: Mapping[str, Target], answers: Answers, common: Common):
        """`targets` by the names of upstreams."""
        super().__init__(settings.name, common)
        self.serve_plain: Callable[..., Any]  # see plain.py; an HttpService has it
        self.settings = settings
        self.answers = answers
        self.routes = Routes(settings.routes, settings.upstream)
        self.limits = HeadLimits(
            request_line=settings.max_request_line, head=settings.max_head, fields=settings.max_fields
        )
        self.options = forward_options(settings)
        self.explains = settings.explain_header
        # Whether a request needs no look at routes, its client may stay, and its response stays as it is.
        self.plain = self.routes.trivial and not self.explains
        self.default = targets[settings.upstream]
        self.requests: Remembered[bytes, RequestBlock] = Remembered(_REMEMBERED)
        self.responses: Remembered[bytes, ResponseBlock] = Remembered(_REMEMBERED)
        self._lines: Remembered[_ClientKey, bytes] = Remembered(_REMEMBERED)
        self._targets = targets
        for target in targets.values():
            for backend in target.upstream.backends:
                backend.pool.greetings = False
        self._id_prefix = os.urandom(8).hex().encode()
        self._ids = count(1)
        self._date = b""
        self._date_second = 0

    @property
    def targets(self) -> Sequence[Target]:
        return tuple(self._targets.values())

    def drain(self) -> None:
        super().drain()
        self.plain = False

    def target(self, host: bytes | None, target: bytes) -> Target:
        """By the routes."""
        return self._targets[self.routes.match(host, target)]

    def read_request(self, rest: bytes) -> RequestBlock:
        """What a request head says from its version on. Malformed."""
        block = RequestBlock(rest, self.limits, self.options)
        if len(rest) <= LONGEST:
            self.requests.keep(rest, block)
        return block

    def read_response(self, head: bytes) -> ResponseBlock:
        """What a response head says. Malformed."""
        block = ResponseBlock(head, self.limits, self.options)
        if len(head) <= LONGEST:
            self.responses.keep(head, block)
        return block

    def client_lines(self, block: RequestBlock, client: str, trusted: bool, own_address: Callable[[], str]) -> bytes:
        """The lines that tell a backend of a client; `own_address` is where it has connected to."""
        if self.settings.forwarded is Forwarded.FORWARDED:
            return client_lines(block, self.options, client, own_address(), trusted)
        key = block.host, client, block.forwarded_for if trusted else ()
        lines = self._lines.get(key)
        if lines is None:
            lines = client_lines(block, self.options, client, "", trusted)
            if len(lines) + sum(len(value) for _, value in key[2]) <= LONGEST:  # a rule may have removed what is long
                self._lines.keep(key, lines)
        return lines

    def new_id(self) -> bytes:
        """A request id, unique among all proxies."""
        return b"%b%08x" % (self._id_prefix, next(self._ids))

    def date(self) -> bytes:
        """The value of a Date field."""
        now = int(time.time())
        if now != self._date_second:
            self._date_second, self._date = now, http_date(now)
        return self._date

    def trusts(self, peer: Any) -> bool:
        """Whether the forwarding fields of a client are believed."""
        networks = self.settings.trusted_proxies
        if not networks or not isinstance(peer, tuple):
            return False
        address = ip_address(peer[0].partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in networks)
