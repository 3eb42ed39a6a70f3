"""The relay: moves the bytes of one session both ways until both directions have ended.

    client ──recv──▶ shared buffer ──send──▶ backend        Relay.up
    client ◀──send── shared buffer ◀──recv── backend        Relay.down

Each direction is a Flow, run by callbacks of the hub; no greenlet waits.

    OPEN      the source's read watcher runs; what is read is sent at once
    BLOCKED   the sink took only a part: the rest is stashed, reading stops until it is gone
    ENDED     the source has ended and everything it sent was handed to the sink

What must hold:

1. A flow holds at most one buffer (or one pipe) of bytes, and reads only when it holds none.
2. A FIN is passed on when everything before it has been; the other flow goes on.
3. A reset is passed on as a reset, once the peer's kernel has confirmed every byte that
   came before it: a reset throws away what is not yet delivered.
4. A sink that fails may have sent bytes before it did: they are read to their end first.
5. Every descriptor and watcher is gone when `on_end` is called, which happens once.

Per message there is one callback, one recv and one send: no watcher is started, no
exception raised, nothing allocated but a slice (docs/performance.md has the numbers).
"""

from __future__ import annotations

from _socket import SHUT_WR
from _socket import socket as Socket
from collections.abc import Callable
from typing import Any

from gproxy.net.connection import cork, has_fin, reset, unacknowledged
from gproxy.net.splice import CANNOT_SPLICE, PIPES, Pipe

BUFFER_SIZE = 64 * 1024  # bytes; above what one wake-up finds unless the flow is bulk
SPLICE_AFTER = 3  # full buffers in a row that show a flow to be bulk
CALM_AFTER = 16  # short splices in a row that show it to be bulk no more

READ, WRITE = 1, 2  # libev's event masks

_FIRST_LOOK, _LAST_LOOK = 0.001, 0.1  # seconds between looks at an unconfirmed tail

_buffer = bytearray(BUFFER_SIZE)
_view = memoryview(_buffer)


class Flow:
    """One direction. `received` counts the bytes read from its source."""

    __slots__ = ("_full", "_pipe", "_reader", "_relay", "_splicing", "_stash", "_writer", "ended", "received", "sink",
                 "source", "source_ended", "source_reset")  # fmt: skip

    def __init__(self, relay: Relay, source: Socket, sink: Socket):
        self._relay = relay
        self.source = source
        self.sink = sink
        self.received = 0
        self.ended = False
        self.source_ended = False
        self.source_reset = False
        self._reader: Any = None
        self._writer: Any = None
        self._stash = b""
        self._pipe: Pipe | None = None
        self._splicing = False
        self._full = 0  # full buffers in a row; while splicing, short splices in a row

    @property
    def held(self) -> int:
        """Bytes received and not yet taken by the sink's kernel."""
        return len(self._stash) + (self._pipe.pending if self._pipe is not None else 0)

    @property
    def delivered(self) -> int:
        """Bytes that the sink's kernel has taken."""
        return self.received - self.held

    def start(self, loop: Any, *, expect_short: bool = False) -> None:
        self._reader = loop.io(self.source.fileno(), READ)
        self._reader.start(self._opening if expect_short else self._readable)

    def stop(self) -> None:
        """Let go of everything but the sockets; held bytes are lost."""
        self.ended = True
        self._stash = b""
        for watcher in (self._reader, self._writer):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        self._reader = self._writer = None
        if self._pipe is not None:
            PIPES.give_back(self._pipe)
            self._pipe = None

    # Copying: the hot path.

    def _readable(self) -> None:
        try:
            size = self.source.recv_into(_buffer)
        except BlockingIOError:
            return
        except OSError:
            self._end(by_reset=True)
            return
        if not size:
            self._end(by_reset=False)
            return
        self.received += size
        try:
            sent = self.sink.send(_view[:size])
        except BlockingIOError:
            sent = 0
        except OSError:
            self._relay.sink_failed(self)
            return
        if sent != size:
            self._stash = bytes(_view[sent:size])
            self._block()
        if size == BUFFER_SIZE:
            self._grow()
        elif self._full:
            self._full = 0

    def _opening(self) -> None:
        """The backend's first bytes: if its FIN is there too, all of it leaves in one packet.

        Many sessions are one answer and a FIN. This spares them a packet, a wake-up of
        ours and one of the client's, for one more look at a session that stays.
        """
        self._reader.callback = self._readable
        if has_fin(self.source) and cork(self.sink):
            self._readable()  # the answer, which waits for the FIN behind it
            if self.ended or self._stash:
                return
        self._readable()

    def _flush(self) -> None:
        """The sink takes bytes again."""
        try:
            sent = self.sink.send(self._stash)
        except BlockingIOError:
            return
        except OSError:
            self._relay.sink_failed(self)
            return
        self._stash = self._stash[sent:]
        if not self._stash:
            self._unblock()

    # Splicing: for bulk. A flow has a pipe only while there are bytes in it, so that all
    # flows use the same few pipes, which stay in the processor's cache.

    def _grow(self) -> None:
        self._full += 1
        if self._full >= SPLICE_AFTER and not self._stash:
            self._full = 0
            self._splicing = True
            self._restart_reader()

    def _spliceable(self) -> None:
        pipe = PIPES.take()
        if pipe is None:
            self._calm()  # there are enough of them in use: copy
            return
        try:
            size = pipe.fill(self.source.fileno())
        except OSError as error:
            PIPES.give_back(pipe)
            if error.errno in CANNOT_SPLICE:
                self._calm()
            else:
                self._end(by_reset=True)
            return
        if not size:
            # The end; or an urgent byte, at which splice stops, with more behind it: recv can tell.
            PIPES.give_back(pipe)
            self._calm()
            return
        self._pipe = pipe
        self._pass_on(size)

    def _pass_on(self, size: int) -> None:
        self.received += size
        self._full = self._full + 1 if size < BUFFER_SIZE else 0
        if not self._drain():
            if self._pipe is not None:
                self._block()
        elif self._full >= CALM_AFTER:
            self._calm()

    def _drain(self) -> bool:
        """Empty the pipe into the sink; whether that is done."""
        assert self._pipe is not None
        try:
            self._pipe.drain(self.sink.fileno())
        except BlockingIOError:
            return False
        except OSError:
            self._relay.sink_failed(self)
            return False
        PIPES.give_back(self._pipe)
        self._pipe = None
        return True

    def _drain_on(self) -> None:
        """The sink takes bytes from the pipe again."""
        if self._drain():
            self._unblock()

    def _calm(self) -> None:
        self._splicing = False
        self._full = 0
        self._restart_reader()

    # Back-pressure.

    def _block(self) -> None:
        self._reader.stop()
        if self._writer is None:
            self._writer = self._relay.loop.io(self.sink.fileno(), WRITE)
        self._writer.start(self._drain_on if self._pipe is not None else self._flush)

    def _unblock(self) -> None:
        self._writer.stop()
        self._restart_reader()

    def _restart_reader(self) -> None:
        self._reader.stop()
        self._reader.start(self._spliceable if self._splicing else self._readable)

    # The end.

    def _end(self, *, by_reset: bool) -> None:
        """The source has ended. Nothing is held: reading happens only then."""
        self.source_ended = True
        self.source_reset = self.source_reset or by_reset
        self.stop()
        self._relay.flow_ended(self)


class AskingFlow(Flow):
    """A client's flow that notes how much the backend had said when the client last spoke."""

    __slots__ = ()

    def _readable(self) -> None:
        self._noting(super()._readable)

    def _spliceable(self) -> None:
        self._noting(super()._spliceable)

    def _noting(self, read: Callable[[], None]) -> None:
        relay, before = self._relay, self.received
        said = relay.down.received
        read()
        if self.received != before:  # an end is no question
            relay.asked_at = said


class Relay:
    """Both directions of one session. `on_end` is called once, with the relay, when it is over.

    With `on_client_fin` the client's FIN is kept from the backend: the callback is called
    in its place, and decides between `forward_fin()` and `detach_backend()`.
    """

    __slots__ = ("_abort_timer", "_aborting", "_on_end", "asked_at", "backend_reset", "client_reset", "down", "loop",
                 "on_client_fin", "over", "up")  # fmt: skip

    def __init__(
        self,
        loop: Any,
        client: Socket,
        backend: Socket,
        on_end: Callable[[Relay], None],
        on_client_fin: Callable[[Relay], None] | None = None,
    ):
        self.loop = loop
        self.up = (AskingFlow if on_client_fin else Flow)(self, client, backend)
        self.down = Flow(self, backend, client)
        self.asked_at = -1  # with on_client_fin: bytes down when the client last spoke
        self.on_client_fin = on_client_fin
        self._on_end = on_end
        self._abort_timer: Any = None
        self._aborting: Flow | None = None
        self.client_reset = False
        self.backend_reset = False
        self.over = False

    @property
    def half_closed(self) -> bool:
        """Whether one side has sent FIN and the other goes on."""
        return self.up.source_ended is not self.down.source_ended

    @property
    def answered(self) -> bool:
        """With `on_client_fin`: whether the backend had the last word."""
        return self.down.received > self.asked_at

    @property
    def aborting(self) -> bool:
        """Whether only the last bytes before a reset are being waited for."""
        return self._aborting is not None

    def unconfirmed(self, flow: Flow) -> int:
        """Bytes of a flow that a reset would throw away, while one is held back for them."""
        return unacknowledged(flow.sink) if flow is self._aborting else 0

    def start(self) -> None:
        """Begin; from here on the relay owns both sockets."""
        self.up.start(self.loop)
        self.down.start(self.loop, expect_short=True)

    def close(self) -> None:
        """End both sides with FIN: everything was delivered, or nothing was promised."""
        if not self._stop():
            return
        self.up.source.close()
        self.up.sink.close()
        self._on_end(self)

    def kill(self) -> None:
        """End both sides with RST: the stream was cut off."""
        if not self._stop():
            return
        reset(self.up.source)
        reset(self.up.sink)
        self._on_end(self)

    def forward_fin(self) -> None:
        """Pass on the client's FIN that was held back."""
        self.on_client_fin = None
        self._shut(self.up)

    def detach_backend(self) -> Socket:
        """End the client's side alone, without `on_end`: the backend's socket is the caller's again."""
        self._stop()
        self.up.source.close()
        return self.up.sink

    # What the flows report.

    def flow_ended(self, flow: Flow) -> None:
        """Everything that the flow's source sent was handed to its sink."""
        if flow.source_reset:
            self._note_reset(flow is self.up)
            self._abort(flow)
        elif self._other(flow).ended:
            self.close()
        elif flow is self.up and self.on_client_fin is not None:
            self.on_client_fin(self)
        else:
            self._shut(flow)

    def sink_failed(self, flow: Flow) -> None:
        """The flow's sink takes nothing more; what it sent before that is still to be read."""
        self._note_reset(flow is self.down)
        flow.stop()
        other = self._other(flow)
        if other.ended:
            self._abort(other)
        else:
            other.source_reset = True

    # How it ends.

    def _other(self, flow: Flow) -> Flow:
        return self.down if flow is self.up else self.up

    def _note_reset(self, client: bool) -> None:
        """Remember who was first; the other one's reset may be our own doing."""
        if client:
            self.client_reset = not self.backend_reset
        else:
            self.backend_reset = not self.client_reset

    def _shut(self, flow: Flow) -> None:
        try:
            flow.sink.shutdown(SHUT_WR)
        except OSError:
            self.sink_failed(flow)

    def _abort(self, flow: Flow) -> None:
        """Reset the flow's sink as soon as its kernel has confirmed the last byte."""
        self._aborting = flow
        self.up.stop()
        self.down.stop()
        self._look(flow, _FIRST_LOOK)

    def _look(self, flow: Flow, again_in: float) -> None:
        if not unacknowledged(flow.sink):
            self.kill()
            return
        if self._abort_timer is not None:
            self._abort_timer.close()
        self._abort_timer = self.loop.timer(again_in)
        self._abort_timer.start(self._look, flow, min(again_in * 2, _LAST_LOOK))

    def _stop(self) -> bool:
        """Let go of the watchers; False where it was over already."""
        if self.over:
            return False
        self.over = True
        self._aborting = None
        for flow in (self.up, self.down):
            flow.stop()
            # Else each would keep the other alive until the garbage collector comes.
            flow._relay = None  # type: ignore[assignment]
        if self._abort_timer is not None:
            self._abort_timer.stop()
            self._abort_timer.close()
            self._abort_timer = None
        self.on_client_fin = None
        return True

    def __repr__(self) -> str:
        state = "over" if self.over else "aborting" if self.aborting else "half-closed" if self.half_closed else "open"
        return f"<Relay {state}, {self.up.received} bytes up, {self.down.received} down>"
