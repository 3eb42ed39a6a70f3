"""The plain exchange, in one piece: nearly all requests of a busy proxy, and so the one path written for speed.

Plain is a request without a body of an HTTP/1.1 client that stays, which may be sent again, and whose upstream has an
idle connection; and a complete response of known length, come in one piece, whose head is remembered. Everything else
is the Exchange's: what turns out not to be plain on its way is handed over as far as it has come.

It does in one function what the Exchange, the Search and the Router do in small ones, because a call costs
0.1 us here and the budget for all of a request's Python is about ten (docs/performance.md has the numbers).
"""

from __future__ import annotations

from typing import Literal

from gproxy.core.http.forward import RequestBlock, request_bytes
from gproxy.core.retry import IDEMPOTENT
from gproxy.core.termination import Ended
from gproxy.http.client import DOWNLOAD, WAITING, ClientSide
from gproxy.http.exchange import Handover
from gproxy.http.record import count, make_record
from gproxy.net.stream import PeerReset, Stream

_METHODS = IDEMPOTENT - {b"HEAD"}  # whose response's length is not that of what follows


def serve_plain(
    session: ClientSide, method: bytes, target: bytes, block: RequestBlock, lines: bytes, request_id: bytes, size: int
) -> Handover | Literal[True] | None:
    """True when it was served; else what an Exchange has to go on from, None for its beginning.

    `block` is plain and `size` are the bytes of the request. PeerReset and Interrupted are those of the last
    write to the client alone.
    """
    context, began = session.context, session.began
    upstream = context.default.upstream
    if upstream.looks_inside or method not in _METHODS:
        return None
    backend = context.router.pick(upstream, session.route_request, began)
    if backend is None:
        return None
    upstream.retries.pending += 1
    pool = backend.pool
    connection = pool.lend(began)
    if connection is None:
        return Handover(backend)

    stream = connection.stream
    if stream is None:  # dialled ahead
        stream = connection.attach(Stream(connection.sock, session.client.hub), pool)
    else:
        backend.stats.view[backend.reuses] += 1
    session.lent = backend
    session.backend_stream = stream
    session.phase = WAITING
    try:
        stream.write(request_bytes(block, method, target, lines, request_id))
        data = stream.read()
    except PeerReset:
        return Handover(backend, connection)
    except BaseException as error:  # noqa: BLE001  # raised again by the Exchange
        return Handover(backend, connection, error=error)
    end = data.find(b"\r\n\r\n") + 4
    response = context.responses.get(data[:end])
    if response is None or not response.ready or response.length != len(data) - end or not context.plain:
        return Handover(backend, connection, data)

    answered = context.clock()
    session.backend_stream = None
    pool.borrowed -= 1
    pool.keep(connection, answered)
    backend.slot_freed()
    session.phase = DOWNLOAD
    status = session.status = response.status
    answer = response.whole + data[end:]
    session.client.write(answer)
    session.lent = None
    if upstream.judges:
        backend.responded(status)
    count(context, status, size, len(answer))
    context.metrics.response_time.record(answered - began)
    if context.access_log is not None:
        timers = (began, 0.0, 0.0, 0.0, answered - began)
        told = (status, size, len(answer), Ended.NORMAL)
        request = (method, target, b"HTTP/1.1", request_id)
        context.access_log.exchange(
            make_record(session, upstream, backend, timers, told, 0, connection.uses > 1, request)
        )
    return True
