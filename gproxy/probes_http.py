"""An http check with `use_pool`: asked over an idle connection of the backend's, and read as sessions read.

    ask() ─▶ an idle connection, or a fresh one ─▶ question, answer ─▶ back to the pool, or closed
          ─▶ when the idle one died unanswered, which may have been its time: the same with a fresh one
          ─▶ without a pool, or with one that is full: a fresh one ─▶ question, answer ─▶ closed

A Timeout or a kill may strike wherever it waits: what was borrowed is given back all the same.
"""

from __future__ import annotations

from _socket import socket as Socket
from collections.abc import Callable
from typing import NamedTuple, Protocol

from gevent import get_hub

from gproxy.core.http.bodies import body_reader
from gproxy.core.http.forward import ForwardOptions, ResponseBlock
from gproxy.core.http.heads import check_unfinished_response
from gproxy.core.http.messages import Body, Framing, HeadLimits, Malformed
from gproxy.core.reuse import ExchangeEnd, safe_objection
from gproxy.net.pool import ConnectionPool, PooledConnection, PoolEvent, PoolOwner
from gproxy.net.stream import PeerReset, Stream

BODY_LIMIT = 64 * 1024  # bytes of a body that are searched for the expected text

_LIMITS, _OPTIONS = HeadLimits(), ForwardOptions()


class Lender(PoolOwner, Protocol):
    """A backend whose idle connections a check may borrow."""

    pool: ConnectionPool

    def idle_promised(self, timeout: float) -> None:
        """It said how long it keeps an idle connection, in seconds."""


class Question(NamedTuple):
    """What a check asks, and the text that it looks for in the answer's body."""

    path: str
    host: str
    wanted: bytes | None

    def request(self, connection: str) -> bytes:
        lines = (f"GET {self.path} HTTP/1.1", f"Host: {self.host}", "Accept-Encoding: identity",
                 f"Connection: {connection}", "User-Agent: gproxy-health", "", "")  # fmt: skip
        return "\r\n".join(lines).encode()


class Answer(NamedTuple):
    """`body` is cut off behind BODY_LIMIT; what only the connection's end ends, sooner than that."""

    status: int
    body: bytes
    end: ExchangeEnd
    keep_alive_timeout: float | None  # in seconds, as the backend announced it


def ask(question: Question, lender: Lender | None, dial: Callable[[], Socket], now: float) -> Answer:
    """The backend's answer. DialError; Malformed, also for one that is cut short; PeerReset."""
    if lender is None or lender.pool.full:
        return _ask_apart(question, dial)
    answer = _ask_lender(question, lender, dial, now)
    if answer is None:
        answer = _ask_lender(question, lender, dial, now, fresh=True)
    assert answer is not None
    return answer


def _ask_lender(
    question: Question, lender: Lender, dial: Callable[[], Socket], now: float, *, fresh: bool = False
) -> Answer | None:
    """Over the pool; None where a connection that was used before died unanswered."""
    pool = lender.pool
    connection, reusable = None, False
    pool.reserve()
    try:
        connection = pool.connect(dial, fresh=fresh)
        answer = _ask_lent(question, lender, connection, now)
        reusable = answer is not None and _may_live_on(lender, answer)
        return answer
    finally:
        if connection is not None and not reusable:
            connection.close()
        pool.release(connection, reusable=reusable)


def _ask_lent(question: Question, lender: Lender, connection: PooledConnection, now: float) -> Answer | None:
    stream = connection.stream
    if stream is None:  # fresh
        stream = connection.attach(Stream(connection.sock, get_hub()), lender.pool)
    before = stream.received
    try:
        return _exchange(stream, question.request("keep-alive"), question.wanted)
    except (Malformed, PeerReset):
        if stream.received != before or not connection.reused:
            raise
    lender.idle_closed(now - connection.idle_since)
    return None


def _may_live_on(lender: Lender, answer: Answer) -> bool:
    if answer.end.leftover:
        lender.pool_event(PoolEvent.DIRTY)
    if safe_objection(answer.end) is not None:
        return False
    if answer.keep_alive_timeout is not None:
        lender.idle_promised(answer.keep_alive_timeout)
    return True


def _ask_apart(question: Question, dial: Callable[[], Socket]) -> Answer:
    stream = Stream(dial(), get_hub())
    try:
        return _exchange(stream, question.request("close"), question.wanted)
    finally:
        stream.close()


# Reading.


def _exchange(stream: Stream, request: bytes, wanted: bytes | None) -> Answer:
    stream.write(request)
    block, rest = _read_head(stream)
    body, done, leftover = _read_body(stream, block.framing, rest, wanted)
    end = ExchangeEnd(
        response_done=done,
        request_done=True,
        leftover=leftover,
        backend_keeps=block.keep_alive,
        until_close=block.framing.body is Body.UNTIL_CLOSE,
        upgraded=block.switching,
    )
    return Answer(block.status, body, end, block.keep_alive_timeout)


def _read_head(stream: Stream) -> tuple[ResponseBlock, bytes]:
    """The final response's head, and what came behind it. Those of interim ones have the same limit, all together."""
    data, checked, interims = b"", 0, 0
    while True:
        while (end := data.find(b"\r\n\r\n", checked) + 4) > 3:
            block = ResponseBlock(data[:end], _LIMITS, _OPTIONS)
            data, checked = data[end:], 0
            if not block.interim:
                return block, data
            interims += end
            if interims > _LIMITS.head:
                raise Malformed(502, "too many interim responses")
        check_unfinished_response(data, _LIMITS, checked)
        checked = max(0, len(data) - 3)
        more = stream.read()
        if not more:
            raise Malformed(502, "the connection ended before the response's head did")
        data += more


def _read_body(stream: Stream, framing: Framing, data: bytes, wanted: bytes | None) -> tuple[bytes, bool, bool]:
    """The body, whether all of it was read, and whether more came behind it.

    One that may end within BODY_LIMIT is read to its end, so that the connection can live on; of another one,
    which is its connection's last, no more than it takes to find the text.
    """
    reader = body_reader(framing, _LIMITS, 502)
    if reader is None:
        return b"", True, bool(data)
    last = framing.body is Body.UNTIL_CLOSE or framing.length > BODY_LIMIT
    body = bytearray()
    while True:
        pieces, used = reader.feed(data)
        body += b"".join(pieces)
        if len(body) > BODY_LIMIT or (last and (wanted is None or len(body) == BODY_LIMIT or wanted in body)):
            return bytes(body[:BODY_LIMIT]), False, False
        if reader.done:
            return bytes(body), True, used < len(data)
        data = stream.read()
        if not data:
            reader.eof()
            return bytes(body), True, False
