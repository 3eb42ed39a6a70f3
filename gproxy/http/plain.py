"""The plain exchange, in one piece: nearly all requests of a busy proxy, and so the one path written for speed.

Plain is a request that came alone and whole, has no body and may be sent again; of a client that stays; to an
upstream that has an idle connection. Its response comes whole, with a length. Neither head is longer than what is
remembered. Everything else is the Exchange's: what turns out not to be plain on its way is handed over as far as it
has come.

It does in one function what the Exchange, the Search and the Router do in small ones, with what never changes bound
once, because a call costs 0.1 us here, and the budget for all of a request's Python is about ten
(docs/performance.md has the numbers).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from time import time

from gproxy.core.balance import PolicyError
from gproxy.core.http.forward import RequestBlock, ResponseBlock
from gproxy.core.http.messages import Malformed
from gproxy.core.retry import IDEMPOTENT
from gproxy.http.client import DOWNLOAD, WAITING, ClientSide
from gproxy.http.context import LONGEST, HttpContext
from gproxy.http.exchange import Exchange, Handover
from gproxy.http.tally import AT_ONCE, PlainTally
from gproxy.net.pool import ConnectionPool, PooledConnection
from gproxy.net.stream import PeerReset, Stream
from gproxy.stories import LONGEST_TARGET

ServePlain = Callable[[ClientSide, bytes], Exchange | bool]

_METHODS = IDEMPOTENT - {b"HEAD"}  # whose response's length is not that of what follows
_PATH = re.compile(rb"/[!-\"$-~]*")  # as check_request_line has it


def plain_server(context: HttpContext) -> ServePlain:
    """The function that serves the plain requests of a listener."""
    upstream, limits = context.default.upstream, context.limits
    policy, retries = upstream.policy, upstream.retries
    clock, metrics = context.clock, context.metrics
    view = metrics.view
    tally = PlainTally(metrics, context.stats, context.stories)
    waiting, add_up = tally.waiting, tally.add_up
    requests, responses = context.requests, context.responses
    is_path = _PATH.fullmatch
    # Bytes of a request: beyond it, somebody else looks closely. And what is kept of it for stories has a bound.
    most = min(limits.request_line - 32, limits.head, LONGEST_TARGET)
    sessions = context.sessions

    def read_request(rest: bytes) -> RequestBlock | None:
        """None for what is not one whole head, or malformed: somebody else will say so."""
        if len(rest) > LONGEST or rest.find(b"\r\n\r\n") != len(rest) - 4:
            return None
        try:
            return context.read_request(rest)
        except Malformed:
            return None

    def read_response(head: bytes) -> ResponseBlock | None:
        """The same for a response."""
        if not 3 < len(head) <= LONGEST:
            return None
        try:
            return context.read_response(head)
        except Malformed:
            return None

    possible = upstream.shares and not upstream.looks_inside

    def serve(session: ClientSide, data: bytes) -> Exchange | bool:
        """True when `data`, all that the client has sent, was a plain request and was served; False when nothing was
        done; else the Exchange that is to go on. What is raised comes from the last write to the client.
        """
        parts = data.split(b" ", 2)
        size = len(data)
        if len(parts) != 3 or size > most:
            return False
        method, target, rest = parts
        if method not in _METHODS or not is_path(target):
            return False
        block: RequestBlock | None = requests.get(rest) or read_request(rest)
        if block is None or not block.quick:
            return False
        began = session.began
        standing = upstream.known
        if standing is None or began >= standing.valid_until:
            standing = upstream.standing(began)
        candidates = standing.plain
        if not candidates or not possible:
            return False
        try:
            backend = policy.choose(candidates, session.route_request) if len(candidates) > 1 else candidates[0]
        except PolicyError:
            return False  # the Router will say so
        session.data = b""
        request_id = block.request_id or context.new_id()
        scored = policy.scored
        choice = began, upstream, session.route_request, standing, backend, scored, method, target, request_id
        retries.pending += 1
        lines = session.lines if block is session.block else session.remember(block)
        pool: ConnectionPool = backend.pool
        pool.borrowed += 1
        connection: PooledConnection | None = pool.lend(began)
        if connection is None:
            return Exchange(session, method, target, block, request_id, size, Handover(choice))
        idle_since, uses = connection.idle_since, connection.uses
        stream: Stream | None = connection.stream
        if stream is None:  # dialled ahead
            stream = connection.attach(Stream(connection.sock, session.client.hub), pool)
        else:
            view[backend.reuses] += 1

        session.lent = choice
        session.backend_stream = stream
        session.phase = WAITING
        try:
            stream.write(
                b"%b %b HTTP/1.1\r\n%b%bX-Request-ID: %b\r\n\r\n"
                % (method, target, block.end_to_end, lines, request_id)
            )
            data = stream.read()
        except PeerReset:
            return Exchange(session, method, target, block, request_id, size, Handover(choice, connection, idle_since))
        except BaseException as error:  # noqa: BLE001  # raised again by the Exchange
            so_far = Handover(choice, connection, idle_since, error=error)
            return Exchange(session, method, target, block, request_id, size, so_far)
        end = data.find(b"\r\n\r\n") + 4
        response: ResponseBlock | None = responses.get(data[:end]) or read_response(data[:end])
        if response is None or not response.ready or response.length != len(data) - end or not context.plain:
            so_far = Handover(choice, connection, idle_since, data)
            return Exchange(session, method, target, block, request_id, size, so_far)

        answered = clock()
        session.backend_stream = None
        pool.borrowed -= 1
        pool.keep(connection, answered)
        backend.slot_freed()
        status = response.status
        if upstream.judges:
            backend.responded(status)
        session.phase = DOWNLOAD
        if block.keep_alive:
            answer = response.whole + data[end:]
        else:
            session.closing = True
            answer = response.closing + data[end:]
        client: Stream = session.client
        sent_before = client.sent
        try:
            client.write(answer)
        except BaseException:
            so_far = Handover(choice, connection, idle_since, status=status, answered=answered, sent_before=sent_before)
            session.cut_off = Exchange(session, method, target, block, request_id, size, so_far)
            raise
        session.lent = None
        sent, ended = len(answer), clock()
        waiting.append((size, sent, status, answered, ended, session.peer, uses, idle_since, choice))
        if len(waiting) >= AT_ONCE:
            add_up()
        if context.access_log is not None:
            lasted, server = ended - began, context.server
            context.access_log.plain(
                session.name, context.name, upstream.name, backend.name, time() - lasted, answered - began, lasted,
                status, size, sent, len(sessions), server.limit.active if server is not None else 0,
                upstream.active, pool.borrowed, uses > 1, method, target, request_id,
            )  # fmt: skip
        return True

    return serve
