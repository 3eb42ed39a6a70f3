"""What is counted, logged and kept of an exchange."""

from __future__ import annotations

import time
from typing import NamedTuple

from gproxy.core.record import ExchangeRecord
from gproxy.core.settings import Mode
from gproxy.core.termination import Ended
from gproxy.http.client import ClientSide
from gproxy.http.context import HttpContext
from gproxy.http.exchange import Exchange
from gproxy.metrics import Slot
from gproxy.stories import LONGEST_TARGET, Trace, timers

_BYTES_IN, _BYTES_OUT = Slot.BYTES_IN, Slot.BYTES_OUT


def count(context: HttpContext, status: int, bytes_in: int, bytes_out: int) -> None:
    """Add an exchange to the totals."""
    view, base = context.metrics.view, context.stats.base
    view[_BYTES_IN] += bytes_in
    view[_BYTES_OUT] += bytes_out
    view[base] += 1
    if status:
        view[base + status // 100] += 1


def record(session: ClientSide, exchange: Exchange, bytes_out: int, code: Ended) -> ExchangeRecord:
    """What the access log is told of an Exchange."""
    search, read_at = exchange.search, exchange.read_at
    reused = upstream = backend = None
    retries = 0
    if search is not None:
        upstream, backend, retries = search.upstream, search.backend, search.retries
        reused = search.uses > 1 if search.uses else None
    tw, tc, tresp = timers(search, read_at, exchange.response_at)
    context, began = session.context, exchange.began
    lasted = context.clock() - began
    # By position, which is twice as fast; in the order of the record's fields.
    return ExchangeRecord(
        session.name,
        context.name,
        upstream.name if upstream is not None else "",
        backend.name if backend is not None else "",
        time.time() - lasted,
        read_at - began if exchange.method else None,
        tw,
        tc,
        tresp,
        lasted,
        exchange.status,
        exchange.bytes_in,
        bytes_out,
        code,
        len(context.sessions),
        context.server.active if context.server is not None else 0,
        upstream.active if upstream is not None else 0,
        backend.active if backend is not None else 0,
        retries,
        reused,
        exchange.method,
        exchange.asked or exchange.target,
        exchange.version,
        exchange.request_id,
    )


class Over(NamedTuple):
    """How an exchange has ended."""

    at: float  # monotonic seconds
    bytes_out: int
    code: Ended


def trace(session: ClientSide, exchange: Exchange, over: Over | None = None) -> Trace:
    """For its story; without `over` it is under way."""
    target = exchange.asked or exchange.target
    ended: float | None = None
    code: Ended | None = None
    bytes_in = exchange.bytes_in
    if over is not None:
        ended, bytes_out, code = over
    else:
        bytes_in += exchange.upload.size if exchange.upload is not None else 0
        bytes_out = exchange.bytes_out + session.client.sent - session.sent_before
    return Trace(
        Mode.HTTP, session.peer, session.context.name, exchange.search, exchange.began, ended,
        bytes_in, bytes_out, code,
        exchange.read_at, exchange.response_at, exchange.status, exchange.method, target[:LONGEST_TARGET],
        exchange.version, exchange.request_id, exchange.told,
    )  # fmt: skip
