"""What an http client is told for whom there is no room."""

from __future__ import annotations

import time
from typing import Any

from gproxy.core.record import ExchangeRecord
from gproxy.core.settings import Mode
from gproxy.core.termination import Ended
from gproxy.http.context import HttpContext
from gproxy.http.record import count
from gproxy.net.connection import format_sockaddr
from gproxy.stories import Trace


def turned_away(context: HttpContext, peer: Any) -> bytes:
    """A 503, counted and logged as that of a request that nobody has read."""
    request_id = context.new_id()
    answer = context.answers.bytes(
        503,
        reason="the proxy has as many connections as it may",
        accept=None,
        request_id=request_id,
        retry_after=context.default.upstream.settings.retry_after,
        date=context.date(),
        head_only=False,
        keep_alive=False,
    )
    count(context, 503, 0, len(answer))
    context.stories.keep(_trace(context, peer, len(answer), request_id))
    if context.access_log is not None:
        context.access_log.exchange(_record(context, peer, len(answer), request_id))
    return answer


def _trace(context: HttpContext, peer: Any, bytes_out: int, request_id: bytes) -> Trace:
    now = context.clock()
    return Trace(
        Mode.HTTP, peer, context.name, None, now, now, 0, bytes_out, Ended.OVERLOADED, status=503, request_id=request_id
    )  # fmt: skip


def _record(context: HttpContext, peer: Any, bytes_out: int, request_id: bytes) -> ExchangeRecord:
    return ExchangeRecord(
        client=format_sockaddr(peer),
        listener=context.name,
        upstream="",
        backend="",
        started=time.time(),
        tr=None,
        tw=None,
        tc=None,
        tresp=None,
        ta=0.0,
        status=503,
        bytes_in=0,
        bytes_out=bytes_out,
        code=Ended.OVERLOADED,
        active=len(context.sessions),
        listener_active=context.server.active if context.server is not None else 0,
        upstream_active=0,
        backend_active=0,
        retries=0,
        reused=None,
        method=b"",
        target=b"",
        version=b"",
        request_id=request_id,
    )
