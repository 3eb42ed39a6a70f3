"""Exchange: one request and its response.

    run() ─▶ _ask: search, send, wait for the head; again on another connection where that does no harm
          ─▶ _respond: the head as the client may have it, the body by its framing
          ─▶ release: the backend's connection back to its pool, if both ends are where they should be

Whatever goes wrong before a byte of a response was sent is answered by gproxy; after that the client's
connection is cut off, so that it can't take what it has for all.
"""

from __future__ import annotations

import logging

from gproxy.core.balance import RouteRequest
from gproxy.core.http.bodies import LengthReader, body_reader, encode_chunk, encode_last
from gproxy.core.http.forward import (
    ForwardOptions,
    RequestBlock,
    ResponseBlock,
    cookie_value,
    end_to_end_trailers,
    hash_key,
    request_block,
    request_bytes,
    set_cookie,
    sticky_token,
)
from gproxy.core.http.heads import check_unfinished_response
from gproxy.core.http.messages import Body, Framing, HeadLimits, Malformed
from gproxy.core.retry import IDEMPOTENT, Failure, Verdict, retry_verdict
from gproxy.core.termination import Ended
from gproxy.http.client import DOWNLOAD, ROUTING, UPLOAD, WAITING, ClientSide
from gproxy.http.download import AS_IT_IS, BackendCutOff, BodyReader, Encoding, relay_length, relay_pieces
from gproxy.http.upload import Upload
from gproxy.net.pool import PooledConnection
from gproxy.net.stream import PeerReset, Stream
from gproxy.search import NotServed, Search
from gproxy.service import Target
from gproxy.upstream import Backend

log = logging.getLogger("gproxy.http")

_NO_BODY = Framing(Body.NONE)
UNREAD = request_block(b"HTTP/1.0\r\n\r\n", HeadLimits(), ForwardOptions())  # of a request that was never read
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


class Exchange:
    """`status` is 0 until a response's head was sent."""

    __slots__ = ("_backend_stream", "_client", "_context", "_head", "_idempotent", "began", "block",
                 "bytes_in", "bytes_out", "code", "ended", "head_at", "head_only", "method", "read_at",
                 "request_id", "response_at", "search", "status", "tail", "target", "upload")  # fmt: skip

    def __init__(self, client: ClientSide, method: bytes, target: bytes, block: RequestBlock, began: float):
        self._client = client
        self._context = client.context
        self.method = method
        self.target = target
        self.block = block
        self.began = began
        self.read_at = client.context.clock()
        self.response_at: float | None = None
        self.head_only = method == b"HEAD"
        self.status = 0
        self.bytes_in = self.bytes_out = 0
        self.code = Ended.NORMAL
        self.upload: Upload | None = None
        self.search: Search | None = None
        self.request_id = block.request_id or client.context.new_id()
        self._backend_stream: Stream | None = None
        self.tail = b""  # bytes of the backend's behind a 101

    @property
    def backend(self) -> Backend | None:
        return self.search.backend if self.search is not None else None

    @property
    def version(self) -> bytes:
        """As the client wrote it; empty for a request that was never read."""
        return (b"HTTP/1.1" if self.block.minor else b"HTTP/1.0") if self.method else b""

    @property
    def replayable(self) -> bool:
        return self.upload is None or self.upload.replayable

    # The whole.

    def run(self, client_lines: bytes) -> bool:
        """Serve it; whether the connection is a tunnel now. Refused, CutOff, Malformed, Interrupted, PeerReset."""
        client, context, block = self._client, self._context, self.block
        target = context.default if context.routes.trivial else context.target(block.host, self.target)
        client.timeouts = target.timeouts
        if block.framing is not _NO_BODY and block.framing.body is not Body.NONE:
            self.upload = Upload(client, block.framing)
        self._head = request_bytes(block, self.method, self.target, client_lines, self.request_id)
        client.phase = ROUTING
        self.search = Search(context, target, self._route_request(target), client.client.sock)
        target.upstream.retries.request(self.read_at)
        try:
            response, rest = self._ask()
            if response.switching:
                self._switch(response, rest)
                return True
            self._respond(response, rest)
        except BaseException:
            self._drop()
            raise
        return False

    def _route_request(self, target: Target) -> RouteRequest:
        """What the balancing policy may want to know."""
        client, settings = self._client, target.upstream.settings
        key = sticky = ""
        if settings.balance.kind == "hash":
            key = hash_key(settings.balance.argument, self.block.fields, self.target)
        if settings.sticky is not None:
            token = cookie_value(self.block.fields, settings.sticky.cookie.encode())
            sticky = target.upstream.by_token.get(token, "") if token else ""
        return RouteRequest(client.peer_name, self._context.name, key, sticky)

    # Asking.

    def _ask(self) -> tuple[ResponseBlock, bytes]:
        """The head of the final response, and what came behind it; as many tries as do no harm."""
        idempotent = self.method in IDEMPOTENT
        fresh = False
        attempts = 0
        while True:
            connection = self._connect(fresh, look=not (idempotent and self.replayable), again=attempts > 0)
            attempts += 1
            try:
                return self._ask_once(connection)
            except _BackendDied as death:
                failure = Failure.REUSED_DIED if connection.uses > 1 else Failure.FRESH_DIED
                if connection.uses > 1:
                    self._backend().idle_closed(connection.rested)
                unsent = death.unsent
            self._stop_upload()
            verdict = self._verdict(failure, idempotent or unsent, attempts)
            failed = self._backend()
            self._drop()
            if verdict is Verdict.GIVE_UP:
                raise Refused(502, Ended.NO_RESPONSE, "the backend ended the connection before its response")
            fresh = verdict is Verdict.FRESH_CONNECTION
            assert self.search is not None
            if not fresh:
                self.search.tried += (failed,)
            self.search.retried(failed)
            self._client.phase = ROUTING

    def _verdict(self, failure: Failure, idempotent: bool, attempts: int) -> Verdict:
        """What to do after a failure, within the retry budget."""
        assert self.search is not None
        upstream = self.search.target.upstream
        verdict = retry_verdict(
            failure,
            idempotent=idempotent,
            replayable=self.replayable,
            attempts=attempts,
            retries=upstream.settings.retries,
        )
        if verdict is not Verdict.GIVE_UP:
            now = self._context.clock()
            if not upstream.retries.may_retry(now):
                return Verdict.GIVE_UP
            upstream.retries.retried(now)
        return verdict

    def _connect(self, fresh: bool, look: bool, again: bool) -> PooledConnection:
        assert self.search is not None
        try:
            return self.search.connect(fresh=fresh, look=look)
        except NotServed as refusal:
            if again and refusal.code is Ended.NO_BACKEND:
                raise Refused(502, Ended.NO_RESPONSE, "the backends ended the connection before a response") from None
            raise

    def _ask_once(self, connection: PooledConnection) -> tuple[ResponseBlock, bytes]:
        """Send the request and wait for its answer. _BackendDied, Malformed."""
        client, upload = self._client, self.upload
        stream = connection.stream
        if stream is None:
            stream = connection.stream = Stream(connection.sock, client.client.hub)
        client.backend_stream = self._backend_stream = stream
        before = stream.moved
        try:
            if upload is None:
                client.phase = WAITING
                stream.write(self._head)
            else:
                client.phase = UPLOAD
                stream.write(self._head + upload.opening())
                upload.start(stream)
                if upload.done:
                    client.phase = WAITING
        except PeerReset:
            if stream.moved == before:
                raise _BackendDied(unsent=True) from None
            # It takes no more, but it may have answered: that is still to be read.
        return self._response_head(stream)

    def _response_head(self, stream: Stream) -> tuple[ResponseBlock, bytes]:
        data = b""
        interims = checked = 0
        while True:
            try:
                more = stream.read()
            except PeerReset:
                more = b""
            if not more:
                if data or interims:
                    raise Refused(502, Ended.NO_RESPONSE, "the backend ended the connection amid its response's head")
                raise _BackendDied(unsent=False)
            data = data + more if data else more
            while (end := data.find(b"\r\n\r\n", max(0, checked - 3)) + 4) > 3:
                head = data[:end] if end != len(data) else data
                block = self._context.responses.get(head) or self._read_head(head)
                rest = data[end:] if end != len(data) else b""
                if not block.interim:
                    self.response_at = self._context.clock()
                    return block, rest
                interims += 1
                self._forward_interim(block, interims)
                data = rest
                checked = 0
            self._check_unfinished(data, checked)
            checked = len(data)

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
        if self.block.minor:
            self._send(block.start_and_fields + b"\r\n")

    # Responding.

    def _respond(self, block: ResponseBlock, rest: bytes) -> None:
        """Send the response, and part with the backend."""
        client, upload = self._client, self.upload
        if block.status == 101:
            raise Refused(502, Ended.RESPONSE_MALFORMED, "the backend switched to a protocol that nobody asked for")
        framing = _NO_BODY if self.head_only else block.framing
        if upload is not None and not upload.done:
            client.closing = True  # an early response: the rest of the request stays unread
        client.phase = DOWNLOAD
        self.status = block.status
        head = self._client_head(block, framing)
        if framing.body is Body.LENGTH and len(rest) == framing.length:
            # All of it is at hand: the backend's connection is free before a slow client is served.
            self._release(block, reusable=True)
            self._send(head + rest)
        elif framing.body is Body.NONE:
            self._release(block, reusable=not rest)
            self._send(head)
        else:
            self._relay_body(block, framing, head, rest)

    def _relay_body(self, block: ResponseBlock, framing: Framing, head: bytes, rest: bytes) -> None:
        client, stream = self._client.client, self._backend_stream
        assert stream is not None
        reader = body_reader(framing, self._context.limits, 502)
        sent = client.moved
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
        except Malformed:
            raise CutOff(Ended.BODY_MALFORMED) from None
        finally:
            self.bytes_out += client.moved - sent
        self._release(block, reusable=not left and framing.body is not Body.UNTIL_CLOSE)

    def _last_chunk(self, reader: BodyReader) -> bytes:
        trailers = getattr(reader, "trailers", None)
        return encode_last(trailers and end_to_end_trailers(trailers, self._context.options.response_ruled))

    def _client_head(self, block: ResponseBlock, framing: Framing) -> bytes:
        """The head as this client may have it, its blank line included."""
        client = self._client
        if not self.block.minor and framing.body in (Body.CHUNKED, Body.UNTIL_CLOSE):
            client.closing = True
            head = block.close_delimited
        else:
            head = block.for_head if self.head_only else block.start_and_fields
        if self._context.draining:
            client.closing = True
        if client.closing:
            head += b"Connection: close\r\n"
        elif not self.block.minor:
            head += b"Connection: keep-alive\r\n"
        if not block.has_date:
            head += b"Date: %b\r\n" % self._context.date()
        search = self.search
        if search is not None and search.target.upstream.settings.sticky is not None:
            head += self._sticky(search)
        return head + b"\r\n"

    def _sticky(self, search: Search) -> bytes:
        """The cookie, where the client has none or another one."""
        settings, backend = search.target.upstream.settings.sticky, search.backend
        assert settings is not None
        assert backend is not None
        token = sticky_token(search.target.upstream.name, backend.name)
        if cookie_value(self.block.fields, settings.cookie.encode()) == token:
            return b""
        return set_cookie(settings, token)

    def _send(self, data: bytes) -> None:
        client = self._client.client
        sent = client.moved
        try:
            client.write(data)
        finally:
            self.bytes_out += client.moved - sent

    # Upgrades.

    def _switch(self, block: ResponseBlock, rest: bytes) -> None:
        """Send the 101; from here on the bytes are none of ours."""
        if self.block.upgrade is None:
            raise Refused(502, Ended.RESPONSE_MALFORMED, "the backend switched to a protocol that nobody asked for")
        self._client.phase = DOWNLOAD
        self.status = block.status
        self._send(block.start_and_fields + b"\r\n")
        self.tail = rest

    # Parting with the backend.

    def _release(self, block: ResponseBlock, *, reusable: bool) -> None:
        """Give the connection back; `reusable` as far as the response's own end goes."""
        search, upload = self.search, self.upload
        assert search is not None
        connection, backend = search.connection, search.backend
        assert connection is not None
        assert backend is not None
        self._backend_stream = self._client.backend_stream = None
        if upload is not None and not upload.done:
            upload.stop()
            reusable = False
        if not (reusable and block.keep_alive and backend.upstream.shares):
            connection.close()
            reusable = False
        elif block.keep_alive_timeout is not None:
            backend.idle_promised(block.keep_alive_timeout)
        backend.pool.release(connection, reusable=reusable)
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

    def _stop_upload(self) -> None:
        if self.upload is not None:
            self.upload.stop()

    def _backend(self) -> Backend:
        backend = self.backend
        assert backend is not None
        return backend

    def __repr__(self) -> str:
        return f"<Exchange {self.method!r} {self.target[:80]!r} {self.status}>"
