"""Upload: a request body on its way from the client to the backend.

What came with the head leaves with the head. The rest is pumped by a greenlet of its own, so that the
exchange can take an early response meanwhile. What was sent is kept while it fits in REPLAY_LIMIT:
as long as nothing else was sent, the request can be sent again.
"""

from __future__ import annotations

from typing import Any

import gevent
from gevent import GreenletExit, getcurrent

from gproxy.core.http.bodies import LengthReader, body_reader, encode_chunk, encode_last
from gproxy.core.http.forward import end_to_end_trailers
from gproxy.core.http.messages import Body, Framing, Malformed
from gproxy.core.retry import REPLAY_LIMIT
from gproxy.core.termination import Ended
from gproxy.http.client import UPLOAD, WAITING, ClientSide
from gproxy.net.lowwater import LowWaterMark
from gproxy.net.stream import READ_SIZE, PeerReset, Stream


class _Stopped(GreenletExit):  # type: ignore[misc]  # gevent has no types
    """The rest of the body is of no use any more."""


class _CutOff(Exception):
    """The client has ended amid its body."""


class Upload:
    """One request body. `done` once all of it was handed to the backend's kernel."""

    __slots__ = ("_client", "_first", "_greenlet", "_kept", "_left", "_most", "_raw", "_reader",
                 "broken", "done", "refusal", "size")  # fmt: skip

    def __init__(self, client: ClientSide, framing: Framing):
        """Malformed when it is longer than `max_body` allows."""
        context = client.context
        self._client = client
        self._most = context.settings.max_body
        self._check(framing.length)
        self._reader = body_reader(framing, context.limits, 400)
        self._raw = framing.body is Body.LENGTH
        self._greenlet: Any = None
        self._kept: list[bytes] | None = []
        self._left = 0  # bytes of the body as it is kept
        self.size = 0  # bytes of the body so far, decoded
        self.done = self._reader is None or self._reader.done
        self.broken = False  # the backend takes no more
        self.refusal: Malformed | None = None  # of what the client sent
        self._first = b"" if self.done else self._take(client.data)
        self._finish_sending()

    @property
    def replayable(self) -> bool:
        """Whether everything that was sent can be sent again."""
        return self._kept is not None

    @property
    def running(self) -> bool:
        return self._greenlet is not None

    def opening(self) -> bytes:
        """What can be sent now, all of what was sent before included."""
        return self._first if self._kept is None else b"".join(self._kept)

    def start(self, sink: Stream) -> None:
        """Pump the rest, if there is one."""
        if not self.done:
            self._client.client.on_idle(None)  # nobody but the pump reads now
            self._greenlet = gevent.spawn(self._pump, sink)

    def stop(self, *, wait: bool = False) -> None:
        """Stop pumping soon, or before this returns."""
        if self._greenlet is not None:
            self._greenlet.kill(_Stopped, block=wait)

    # The pump.

    def _pump(self, sink: Stream) -> None:
        client, mark = self._client, LowWaterMark(self._client.client)
        try:
            while not self.done:
                if not self._splice(sink):
                    sink.write(self._next())
                if isinstance(self._reader, LengthReader):
                    mark.moved(self._reader.remaining)
                self._finish_sending()
            if client.phase is UPLOAD:
                client.phase = WAITING
        except PeerReset as error:
            self.broken = True
            if error.stream is client.client:
                client.interrupt(Ended.CLIENT_LEFT_WAITING)
        except _CutOff:
            client.finished = self.broken = True
            client.interrupt(Ended.CLIENT_LEFT_WAITING)
        except Malformed as refusal:
            self.refusal = refusal
            client.interrupt(Ended.REFUSED)
        except _Stopped:
            self.broken = True
        finally:
            mark.stop()
            if self._greenlet is getcurrent():
                self._greenlet = None
            if client.client.open and not client.finished:
                client.client.on_idle(client._spoke)

    def _next(self) -> bytes:
        """The next bytes for the backend; waits for the client."""
        data = self._client.data or self._client.client.read()
        if not data:
            raise _CutOff
        if not self.size and self._client.phase is WAITING:
            self._client.phase = UPLOAD  # the client that held its body back sends it
        return self._take(data)

    def _splice(self, sink: Stream) -> bool:
        """Move a long body of known length inside the kernel; whether that moved anything."""
        reader = self._reader
        if not isinstance(reader, LengthReader) or reader.remaining < READ_SIZE or self._kept is not None:
            return False
        moved = self._client.client.splice_to(sink, reader.remaining)
        reader.advance(moved)
        self.size += moved
        return bool(moved)

    # What is read.

    def _take(self, data: bytes) -> bytes:
        """The bytes for the backend that these bytes of the client's amount to; what is not of the body is left."""
        reader = self._reader
        assert reader is not None
        pieces, used = reader.feed(data)
        self._client.data = data[used:] if used != len(data) else b""
        self.size += sum(map(len, pieces))
        self._check(self.size)
        body = b"".join(pieces)
        encoded = body if self._raw else encode_chunk(body)  # one chunk, however small the client's are
        if reader.done and not self._raw:
            trailers = getattr(reader, "trailers", None)
            encoded += encode_last(
                end_to_end_trailers(trailers, self._client.context.options.request_ruled) if trailers else None
            )
        self._keep(encoded)
        return encoded

    def _keep(self, encoded: bytes) -> None:
        if self._kept is None:
            return
        self._left += len(encoded)
        if self._left > REPLAY_LIMIT:
            self._kept = None
        else:
            self._kept.append(encoded)

    def _finish_sending(self) -> None:
        if self._reader is not None and self._reader.done:
            self.done = True

    def _check(self, size: int) -> None:
        if self._most is not None and size > self._most:
            raise Malformed(413, f"the body is longer than {self._most} bytes")
