"""Probes: one active check each. A probe returns, or raises ProbeFailed with the reason."""

from __future__ import annotations

import time
from _socket import socket as Socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from gevent import Timeout
from gevent.socket import socket as GeventSocket

from gproxy.core.http.messages import Malformed
from gproxy.core.settings import HealthCheckSettings, Probe
from gproxy.errors import DialError, GproxyError
from gproxy.net.stream import PeerReset
from gproxy.probes_http import BODY_LIMIT, Lender, Question, ask

if TYPE_CHECKING:
    from http.client import HTTPResponse


class ProbeFailed(GproxyError):
    """The backend did not pass its check; the message says how."""


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """What a probe needs to know: how to check, whom to name as Host, and how to connect."""

    settings: HealthCheckSettings
    host: str
    dial: Callable[[float], Socket]  # seconds -> a connected socket, or DialError
    lender: Lender | None = None  # with `use_pool`, where its pool holds what an http check may use
    clock: Callable[[], float] = time.monotonic  # the pool's


def probe(target: ProbeTarget) -> None:
    """Check once, within the settings' timeout; ProbeFailed says what was wrong."""
    seconds = target.settings.timeout
    try:
        with Timeout(seconds, ProbeFailed(f"no answer within {seconds:g} s")):
            if target.settings.use_pool:
                _ask_with_pool(target)
            else:
                _dial_and_ask(target)
    except DialError as error:
        raise ProbeFailed(str(error)) from error


def _ask_with_pool(target: ProbeTarget) -> None:
    settings = target.settings
    wanted = None if settings.expect_body is None else settings.expect_body.encode()
    try:
        answer = ask(
            Question(settings.path, target.host, wanted),
            target.lender,
            partial(target.dial, settings.timeout),
            target.clock(),
        )
    except (Malformed, PeerReset) as error:
        raise ProbeFailed(f"broken answer: {error.reason if isinstance(error, Malformed) else error}") from error
    _judge(settings, answer.status, lambda text: text in answer.body)


def _dial_and_ask(target: ProbeTarget) -> None:
    sock = target.dial(target.settings.timeout)
    try:
        if target.settings.type is Probe.HTTP:
            _ask(sock, target)
    finally:
        sock.close()


def _ask(sock: Socket, target: ProbeTarget) -> None:
    """Send one GET on a connected socket and judge the answer."""
    import http.client  # here, because with all that it imports it is a tenth of gproxy's start

    # The connection is ours: http.client only ever sees a socket that cooperates with gevent.
    wrapped = GeventSocket(sock.family, sock.type, sock.proto, fileno=sock.detach())
    connection = http.client.HTTPConnection("localhost")  # a name for its errors only: it never dials
    connection.sock = wrapped
    try:
        connection.request("GET", target.settings.path, headers={"Host": target.host, "Connection": "close",
                                                                 "User-Agent": "gproxy-health"})  # fmt: skip
        response = connection.getresponse()
        _judge(target.settings, response.status, partial(_contains, response))
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ProbeFailed(f"broken answer: {error or type(error).__name__}") from error
    finally:
        connection.close()


def _judge(settings: HealthCheckSettings, status: int, contains: Callable[[bytes], bool]) -> None:
    if not any(low <= status <= high for low, high in settings.expect_status):
        raise ProbeFailed(f"status {status}")
    if settings.expect_body is not None and not contains(settings.expect_body.encode()):
        raise ProbeFailed(f"status {status}, but the body lacks {settings.expect_body!r}")


def _contains(response: HTTPResponse, wanted: bytes) -> bool:
    """Whether the text comes within the first BODY_LIMIT bytes; reads no further than it has to."""
    body = b""
    while wanted not in body:
        more = response.read1(BODY_LIMIT - len(body)) if len(body) < BODY_LIMIT else b""
        if not more:
            return False
        body += more
    return True
