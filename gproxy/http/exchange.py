"""Exchange: one request and its response.

    run() ─▶ _ask: search, send, wait for the head; again on another connection where that does no harm
          ─▶ _respond: the head as the client may have it, the body by its framing
          ─▶ release: the backend's connection back to its pool, if both ends are where they should be

Whatever goes wrong before a byte of a response was sent is answered by gproxy; after that the client's
connection is cut off, so that it can't take what it has for all.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

from gproxy.core.balance import RouteRequest
from gproxy.core.http.bodies import LengthReader, body_reader, encode_chunk, encode_last
from gproxy.core.http.forward import (
    ForwardOptions,
    RequestBlock,
    ResponseBlock,
    cookie_value,
    end_to_end_trailers,
    hash_key,
    request_bytes,
    set_cookie,
    sticky_token,
)
from gproxy.core.http.heads import check_unfinished_response
from gproxy.core.http.messages import Body, Framing, HeadLimits, Malformed
from gproxy.core.retry import IDEMPOTENT, Failure, Verdict, retry_verdict, why_not_again
from gproxy.core.reuse import ExchangeEnd, safe_objection
from gproxy.core.termination import Ended
from gproxy.http.client import DOWNLOAD, ROUTING, UPLOAD, WAITING, ClientSide
from gproxy.http.download import AS_IT_IS, BackendCutOff, BodyReader, Encoding, relay_length, relay_pieces
from gproxy.http.explain import explain_line
from gproxy.http.upload import Upload
from gproxy.metrics import Slot
from gproxy.net.pool import PooledConnection
from gproxy.net.stream import PeerReset, Stream
from gproxy.search import NotServed, Search
from gproxy.service import Target
from gproxy.stories import PlainChoice
from gproxy.upstream import Backend

log = logging.getLogger("gproxy.http")

_NO_BODY = Framing(Body.NONE)
UNREAD = RequestBlock(b"HTTP/1.0\r\n\r\n", HeadLimits(), ForwardOptions())  # of a request that was never read
_INTERIM_LIMIT = 100  # 1xx responses before a final one


class Refused(Exception):
    """gproxy answers in the backend's place."""

    def __init__(self, status: int, code: Ended, reason: str):
        self.status = status
        self.code = code
        self.reason = reason
        super().__init__(reason)


class CutOff(Exception):
    """The session can't go on: a response was sent in part, or nobody is there to be answered."""

    def __init__(self, code: Ended):
        self.code = code
        super().__init__(code)


class _BackendDied(Exception):
    """The backend's connection ended before a byte of the response."""

    def __init__(self, unsent: bool):
        self.unsent = unsent
        super().__init__()


class Handover(NamedTuple):
    """How far a plain exchange has come: a slot is reserved, or the request was sent and this is what came of it."""

    choice: PlainChoice
    connection: PooledConnection | None = None
    idle_since: float = 0.0  # of the connection, before it was lent
    data: bytes = b""  # of the response; none: the backend has ended the connection
    error: BaseException | None = None  # that ended the wait
    status: int = 0  # of a response that was sent in part, and when it came
    answered: float | None = None
    sent_before: int = 0  # bytes to the client before it


class Exchange:
    """`status` is 0 until a response's head was sent."""

    def __init__(
        self,
        client: ClientSide,
        method: bytes,
        target: bytes,
        block: RequestBlock,
        request_id: bytes,
        size: int,
        handover: Handover | None = None,
    ):
        """`size` are the bytes of the request's head."""
        self.status = 0
        self.response_at: float | None = None
        self.upload: Upload | None = None
        self.search: Search | None = None
        self.bytes_out = 0
        self.asked = b""  # the target as the client wrote it, where it is another one
        self.told = ""  # why, in an answer of ours
        self.tail = b""  # bytes of the backend's behind a 101
        self._backend_stream: Stream | None = None
        self._client = client
        self._context = client.context
        self.method = method
        self.target = target
        self.block = block
        self.began = client.began
        self.read_at = client.read_at
        self.head_only = method == b"HEAD"
        self.request_id = request_id
        self.bytes_in = size
        self._handover = handover

    @property
    def backend(self) -> Backend | None:
        return self.search.backend if self.search is not None else None

    @property
    def version(self) -> bytes:
        """As the client wrote it; empty for a request that was never read."""
        return (b"HTTP/1.1" if self.block.minor else b"HTTP/1.0") if self.method else b""

    @property
    def _held_back(self) -> bool:
        """Whether the client waits for a 100 before it sends its body."""
        return self.block.expects_continue and self.upload is not None and not self.upload.size

    def was_cut_off(self) -> None:
        """Take in what was handed over of a response whose last bytes could not be sent."""
        client, handover = self._client, self._handover
        assert handover is not None
        context = self._context
        search = self.search = Search(context, context.default, client.route_request, client.client.sock, self.began)
        search.take_over(handover.choice, handover.connection, handover.idle_since)
        self.status, self.response_at = handover.status, handover.answered
        client.sent_before = handover.sent_before

    # The whole.

    def run(self) -> bool:
        """Serve it; whether the connection is a tunnel now. Refused, CutOff, Malformed, Interrupted, PeerReset."""
        client, context, block = self._client, self._context, self.block
        target = context.default if context.routes.trivial else context.target(block.host, self.target)
        client.timeouts = target.timeouts
        if not block.bodiless:
            self.upload = Upload(client, block.framing)
        self._head = request_bytes(block, self.method, self.target, client.lines, self.request_id)
        client.phase = ROUTING
        upstream = target.upstream
        request = self._route_request(target) if upstream.looks_inside else client.route_request
        search = self.search = Search(context, target, request, client.client.sock, self.read_at)
        if self._handover is None:
            upstream.retries.pending += 1
        else:
            search.take_over(self._handover.choice, self._handover.connection, self._handover.idle_since)
        client.lent = None
        try:
            response, rest = self._ask(search)
            if response.switching:
                self._switch(response, rest)
                return True
            self._respond(response, rest, search)
        except BaseException:
            self._drop()
            raise
        return False

    def _route_request(self, target: Target) -> RouteRequest:
        """What a balancing policy may want to know that looks inside requests."""
        client, settings = self._client, target.upstream.settings
        key = sticky = ""
        if settings.balance.kind == "hash":
            key = hash_key(settings.balance.argument, self.block.fields, self.target)
        if settings.sticky is not None:
            token = cookie_value(self.block.fields, settings.sticky.cookie.encode())
            sticky = target.upstream.by_token.get(token, "") if token else ""
        return RouteRequest(client.peer_name, self._context.name, key, sticky)

    # Asking.

    def _ask(self, search: Search) -> tuple[ResponseBlock, bytes]:
        """The head of the final response, and what came behind it; as many tries as do no harm."""
        idempotent = self.method in IDEMPOTENT
        handover = self._handover
        connection = search.connection or search.connect()
        attempts = 1
        while True:
            try:
                if handover is not None and handover.connection is connection:
                    return self._go_on(connection, handover)
                return self._ask_once(connection)
            except _BackendDied as death:
                verdict = self._verdict(search, connection, idempotent or death.unsent, attempts)
            backend = search.backend
            assert backend is not None
            self._drop()
            if verdict is Verdict.GIVE_UP:
                raise Refused(502, Ended.NO_RESPONSE, "the backend ended the connection before its response")
            if verdict is Verdict.NEXT_BACKEND:
                search.tried += (backend,)
                attempts += 1  # a pooled connection's end is none of the backend's
            self._client.phase = ROUTING
            connection = self._connect_again(search, fresh=verdict is Verdict.FRESH_CONNECTION)
            search.retried(backend)
            if verdict is Verdict.NEXT_BACKEND:
                search.target.upstream.retries.retried(self._context.clock())

    def _verdict(self, search: Search, connection: PooledConnection, harmless: bool, attempts: int) -> Verdict:
        """What to do after a connection has died, within the retry budget; said in `search.failure`."""
        self._stop_upload(wait=True)
        upstream, now = search.target.upstream, self._context.clock()
        failure = Failure.FRESH_DIED
        if connection.uses > 1:
            failure = Failure.REUSED_DIED
            assert search.backend is not None
            search.backend.idle_closed((search.connected_at or now) - connection.idle_since)
        replayable = self.upload is None or self.upload.replayable
        verdict = retry_verdict(
            failure,
            idempotent=harmless,
            replayable=replayable,
            attempts=attempts,
            retries=upstream.settings.retries,
        )
        # That a pooled connection ends is our doing, so no outage and no matter for the budget.
        exhausted = verdict is Verdict.NEXT_BACKEND and not upstream.retries.may_retry(now)
        search.failure = failure.value
        if exhausted or verdict is Verdict.GIVE_UP:
            why = why_not_again(idempotent=harmless, replayable=replayable, exhausted=exhausted)
            search.failure = f"{failure.value}; not asked again, since {why}"
            return Verdict.GIVE_UP
        return verdict

    def _connect_again(self, search: Search, *, fresh: bool) -> PooledConnection:
        """After a failure, which is what the client is told of where nobody else can serve."""
        try:
            return search.connect(fresh=fresh)
        except NotServed as refusal:
            if refusal.code is Ended.NO_BACKEND:
                raise Refused(502, Ended.NO_RESPONSE, "the backends ended the connection before a response") from None
            raise

    def _ask_once(self, connection: PooledConnection) -> tuple[ResponseBlock, bytes]:
        """Send the request and wait for its answer. _BackendDied, Malformed."""
        client, upload = self._client, self.upload
        stream = connection.stream
        if stream is None:
            stream = connection.attach(Stream(connection.sock, client.client.hub), self._backend().pool)
        client.backend_stream = self._backend_stream = stream
        client.tries += 1
        before = stream.sent
        try:
            if upload is None:
                client.phase = WAITING
                stream.write(self._head)
            else:
                client.phase = WAITING if upload.done or self._held_back else UPLOAD
                stream.write(self._head + upload.opening())
                upload.start(stream)
        except PeerReset:
            if stream.sent == before:
                raise _BackendDied(unsent=True) from None
            # It takes no more, but it may have answered: that is still to be read.
        return self._response_head(stream)

    def _go_on(self, connection: PooledConnection, handover: Handover) -> tuple[ResponseBlock, bytes]:
        """Take in what has come of a request that was sent already."""
        stream = connection.stream
        assert stream is not None
        self._client.backend_stream = self._backend_stream = stream
        self._client.phase = WAITING
        if handover.error is not None:
            raise handover.error
        return self._response_head(stream, handover.data or self._ended_early(b"", 0))

    def _response_head(self, stream: Stream, data: bytes = b"") -> tuple[ResponseBlock, bytes]:
        context = self._context
        interims = checked = 0
        while True:
            if not data or checked:
                try:
                    data += stream.read() or self._ended_early(data, interims)
                except PeerReset:
                    self._ended_early(data, interims)
            while (end := data.find(b"\r\n\r\n", checked) + 4) > 3:
                head = data[:end]
                block = context.responses.get(head) or self._read_head(head)
                data = data[end:]
                if not block.interim:
                    self.response_at = context.clock()
                    return block, data
                interims += 1
                self._forward_interim(block, interims)
                checked = 0
            self._check_unfinished(data, checked)
            checked = max(1, len(data) - 3)

    def _ended_early(self, data: bytes, interims: int) -> bytes:
        """The backend has ended the connection before the end of its response's head."""
        if data or interims:
            raise Refused(502, Ended.NO_RESPONSE, "the backend ended the connection amid its response's head")
        raise _BackendDied(unsent=False)

    def _read_head(self, head: bytes) -> ResponseBlock:
        try:
            block = self._context.read_response(head)
        except Malformed as error:
            raise Refused(
                502, Ended.RESPONSE_MALFORMED, f"the backend's response is malformed: {error.reason}"
            ) from None
        return block

    def _check_unfinished(self, data: bytes, checked: int) -> None:
        try:
            check_unfinished_response(data, self._context.limits, checked)
        except Malformed as error:
            raise Refused(
                502, Ended.RESPONSE_MALFORMED, f"the backend's response is malformed: {error.reason}"
            ) from None

    def _forward_interim(self, block: ResponseBlock, number: int) -> None:
        if number > _INTERIM_LIMIT:
            raise Refused(502, Ended.RESPONSE_MALFORMED, "the backend sent too many interim responses")
        client, upload = self._client, self.upload
        if self.block.minor:
            client.phase, self.status = DOWNLOAD, block.status  # until it is written, nothing else may be
            client.client.write(block.start_and_fields + b"\r\n")
            self.status = 0
        uploading = upload is not None and not upload.done and (upload.size or block.status == 100)
        client.phase = UPLOAD if uploading else WAITING  # after a 100, it is the client's turn

    # Responding.

    def _respond(self, block: ResponseBlock, rest: bytes, search: Search) -> None:
        """Send the response, and part with the backend."""
        client, upload = self._client, self.upload
        if upload is not None and not upload.done:
            client.closing = client.unread = True  # an early response: the rest of the request stays unread
        if self._context.draining:
            client.closing = True
        client.phase = DOWNLOAD
        as_it_is = not (client.closing or self.head_only or search.upstream.sticks or self._context.explains)
        if self.block.plain and block.plain and as_it_is:
            length, head = block.length, block.whole
        else:
            length, head = (0 if self.head_only else block.length), self._client_head(block)
        self.status = block.status
        if len(rest) == length:
            # All of it is at hand: the backend's connection is free before a slow client is served.
            self._release(block, search, leftover=False)
            client.client.write(head + rest)
        else:
            self._relay_body(block, head, rest, search)

    def _relay_body(self, block: ResponseBlock, head: bytes, rest: bytes, search: Search) -> None:
        client, stream = self._client.client, self._backend_stream
        assert stream is not None
        framing = _NO_BODY if self.head_only else block.framing
        reader = body_reader(framing, self._context.limits, 502)
        sent_before = client.sent
        try:
            if reader is None:
                client.write(head)
                left = rest
            elif isinstance(reader, LengthReader):
                left = relay_length(stream, client, head, rest, reader)
            else:
                encoding = Encoding(encode_chunk, self._last_chunk) if self.block.minor else AS_IT_IS
                left = relay_pieces(stream, client, head, rest, reader, encoding)
        except BackendCutOff:
            raise CutOff(Ended.BACKEND_RESET) from None
        except Malformed as error:
            if client.sent == sent_before:  # the garbage came with the head
                self.status = 0
                raise Refused(
                    502, Ended.RESPONSE_MALFORMED, f"the backend's body is malformed: {error.reason}"
                ) from None
            raise CutOff(Ended.BODY_MALFORMED) from None
        self._release(block, search, leftover=bool(left))

    def _last_chunk(self, reader: BodyReader) -> bytes:
        trailers = getattr(reader, "trailers", None)
        return encode_last(trailers and end_to_end_trailers(trailers, self._context.options.response_ruled))

    def _client_head(self, block: ResponseBlock) -> bytes:
        """The head as this client may have it, its blank line included."""
        client = self._client
        if not self.block.minor and block.framing.body in (Body.CHUNKED, Body.UNTIL_CLOSE):
            client.closing = client.closing or not self.head_only
            head = block.close_delimited
        else:
            head = block.for_head if self.head_only else block.start_and_fields
        if client.closing:
            head += b"Connection: close\r\n"
        elif not self.block.minor:
            head += b"Connection: keep-alive\r\n"
        if not block.has_date:
            head += b"Date: %b\r\n" % self._context.date()
        search = self.search
        if search is not None and search.target.upstream.sticks:
            head += self._sticky(search)
        return head + self.explained() + b"\r\n"

    def explained(self) -> bytes:
        """The line that tells the client how its backend was chosen, where the listener says so."""
        return explain_line(self.search) if self._context.explains else b""

    def _sticky(self, search: Search) -> bytes:
        """The cookie, where the client has none or another one."""
        settings, backend = search.target.upstream.settings.sticky, search.backend
        assert settings is not None
        assert backend is not None
        token = sticky_token(search.target.upstream.name, backend.name)
        if cookie_value(self.block.fields, settings.cookie.encode()) == token:
            return b""
        return set_cookie(settings, token)

    # Upgrades.

    def _switch(self, block: ResponseBlock, rest: bytes) -> None:
        """Send the 101; from here on the bytes are none of ours."""
        if self.block.upgrade is None:
            raise Refused(502, Ended.RESPONSE_MALFORMED, "the backend switched to a protocol that nobody asked for")
        self._client.phase = DOWNLOAD
        self.status = block.status
        self._client.client.write(block.start_and_fields + self.explained() + b"\r\n")
        self.tail = rest

    # Parting with the backend.

    def _release(self, block: ResponseBlock, search: Search, *, leftover: bool) -> None:
        """Give the connection back after the response's end; `leftover` if more came behind it."""
        connection, backend, upload = search.connection, search.backend, self.upload
        assert connection is not None
        assert backend is not None
        self._backend_stream = self._client.backend_stream = None
        request_done = upload is None or upload.done
        if upload is not None and not request_done:
            upload.stop()
        objection = safe_objection(
            ExchangeEnd(
                response_done=True,
                request_done=request_done,
                leftover=leftover,
                backend_keeps=block.keep_alive,
                until_close=block.framing.body is Body.UNTIL_CLOSE and not self.head_only,
                upgraded=False,
            )
        )
        if leftover:
            self._context.metrics.view[Slot.POOL_DIRTY] += 1
        reusable = objection is None and search.target.upstream.shares
        if not reusable:
            log.debug("connection to %s is not reused: %s", backend.label, objection or "pool.reuse is never")
            connection.close()
        elif block.keep_alive_timeout is not None:
            backend.idle_promised(block.keep_alive_timeout)
        backend.pool.release(connection, reusable=reusable)
        if search.target.upstream.judges:
            backend.responded(block.status)

    def _drop(self) -> None:
        """Close the backend's connection, if there is one."""
        search = self.search
        self._stop_upload()
        if self._backend_stream is None or search is None:
            return
        connection, backend = search.connection, search.backend
        assert connection is not None
        assert backend is not None
        self._backend_stream = self._client.backend_stream = None
        connection.close()
        backend.pool.release(connection)

    def _stop_upload(self, *, wait: bool = False) -> None:
        if self.upload is not None:
            self.upload.stop(wait=wait)

    def _backend(self) -> Backend:
        backend = self.backend
        assert backend is not None
        return backend

    def __repr__(self) -> str:
        return f"<Exchange {self.method!r} {self.target[:80]!r} {self.status}>"
