"""Stream: a socket for straight-line code, with one read watcher that stays for its life.

A greenlet that reads waits for the watcher, which switches to it: no watcher is started and no
exception raised per message. While nobody reads, a readable socket is told to `on_idle`; without
one, or when that leaves the bytes where they are, the watcher stops until somebody reads again.

One greenlet may read while another one writes. Nothing here has a deadline: the TimeoutManager looks
at `moved`, and ends what does not move by `interrupt`.
"""

from __future__ import annotations

from _socket import socket as Socket
from collections.abc import Callable
from typing import Any

from gevent import getcurrent
from gevent.hub import Hub
from greenlet import greenlet  # type: ignore[import-untyped]

from gproxy.net.connection import poller, reset
from gproxy.net.splice import CANNOT_SPLICE, PIPES, Pipe

READ_SIZE = 64 * 1024  # bytes at most in one read

_READ, _WRITE = 1, 2  # libev's event masks

_switch_to = greenlet.switch  # the hub's own looks for a hook that none of our greenlets has


class PeerReset(Exception):
    """The peer of `stream` takes or gives no more bytes: it has reset the connection."""

    def __init__(self, stream: Stream, error: OSError):
        self.stream = stream
        super().__init__(str(error))


class Stream:
    """`received` and `sent` count bytes."""

    def __init__(self, sock: Socket, hub: Hub):
        self.sock = sock
        self.hub = hub
        self.received = self.sent = 0
        self.watching = True
        self.idle_callback: Callable[[], None] | None = None
        self._reading: Any = None  # the greenlet that waits for bytes
        self._writing: Any = None  # the one that waits for room
        self._writer: Any = None
        self._poll: Any = None
        self._reader: Any = hub.loop.io(sock.fileno(), _READ)
        self._reader.start(self._readable)

    def has_input(self) -> bool:
        """Whether a read would not block: bytes, an end or an error are waiting."""
        if self._poll is None:
            self._poll = poller(self.sock)  # kept, because to make one costs more than to ask it
        return bool(self._poll.poll(0))

    @property
    def open(self) -> bool:
        """Whether it still has the socket."""
        return self._reader is not None

    @property
    def moved(self) -> int:
        """Bytes both ways: while they stay the same, nothing moves."""
        return self.received + self.sent

    @property
    def wants_room(self) -> bool:
        """Whether somebody waits for the peer to take bytes."""
        return self._writing is not None

    # Reading.

    def read(self) -> bytes:
        """What has come, at least a byte; b"" at the end. Waits. PeerReset."""
        while True:
            # As wait_readable, whose call would be a tenth of all of this.
            if not self.watching:
                self._watch()
            self._reading = me = getcurrent()
            try:
                _switch_to(self.hub)
            except BaseException:
                self._read_no_more(me)
                raise
            try:
                data = self.sock.recv(READ_SIZE)
            except BlockingIOError:
                continue
            except OSError as error:
                raise PeerReset(self, error) from None
            self.received += len(data)
            return data

    def read_now(self) -> bytes | None:
        """What has come, b"" at the end, None where there is nothing now. PeerReset."""
        try:
            data = self.sock.recv(READ_SIZE)
        except BlockingIOError:
            return None
        except OSError as error:
            raise PeerReset(self, error) from None
        self.received += len(data)
        return data

    def wait_readable(self) -> None:
        """Wait for bytes or an end."""
        if not self.watching:
            self._watch()
        self._reading = me = getcurrent()
        try:
            _switch_to(self.hub)
        except BaseException:
            self._read_no_more(me)
            raise

    def _watch(self) -> None:
        self._reader.start(self._readable)
        self.watching = True

    def _read_no_more(self, me: Any) -> None:
        """The greenlet was interrupted; somebody else may have begun to read meanwhile."""
        if self._reading is me:
            self._reading = None

    def on_idle(self, callback: Callable[[], None] | None) -> None:
        """Whom to tell of a readable socket while nobody reads; in the hub, where it must not wait."""
        self.idle_callback = callback
        if callback is not None and not self.watching:
            self._watch()

    def pause(self) -> None:
        """Leave what comes in the kernel until somebody reads."""
        self._reader.stop()
        self.watching = False

    def _readable(self) -> None:
        reading = self._reading
        if reading is not None:
            self._reading = None
            reading.switch()
        elif self.idle_callback is not None:
            self.idle_callback()
        else:
            self.pause()

    # Writing.

    def write(self, data: bytes) -> None:
        """Hand all of it to the kernel; waits for room. PeerReset."""
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise PeerReset(self, error) from None
        self.sent += sent
        if sent != len(data):
            self._write_rest(memoryview(data)[sent:])

    def _write_rest(self, rest: memoryview) -> None:
        while rest:
            self._wait_writable()
            try:
                sent = self.sock.send(rest)
            except BlockingIOError:
                continue
            except OSError as error:
                raise PeerReset(self, error) from None
            self.sent += sent
            rest = rest[sent:]

    def _wait_writable(self) -> None:
        if self._writer is None:
            self._writer = self.hub.loop.io(self.sock.fileno(), _WRITE)
        self._writing = getcurrent()
        self._writer.start(self._writing.switch)
        try:
            _switch_to(self.hub)
        finally:
            self._writing = None
            if self._writer is not None:
                self._writer.stop()

    # Bulk.

    def splice_to(self, sink: Stream, size: int) -> int:
        """Move up to `size` bytes to another stream inside the kernel, a pipe's fill at the most; how many it was.

        0 where the source has ended, or can't be spliced: a read tells. PeerReset of either.
        """
        self.wait_readable()
        pipe = PIPES.take()
        if pipe is None:
            return 0
        try:
            part = self._fill(pipe, size)
            if part:
                sink.drain(pipe)
        finally:
            PIPES.give_back(pipe)
        return part

    def _fill(self, pipe: Pipe, size: int) -> int:
        try:
            part = pipe.fill(self.sock.fileno(), size)
        except OSError as error:
            if error.errno in CANNOT_SPLICE:
                return 0
            raise PeerReset(self, error) from None
        self.received += part
        return part

    def drain(self, pipe: Pipe) -> None:
        """Take all that is in a pipe; waits for room. PeerReset."""
        while True:
            before = pipe.pending
            try:
                pipe.drain(self.sock.fileno())
            except BlockingIOError:
                self.sent += before - pipe.pending
                self._wait_writable()
                continue
            except OSError as error:
                raise PeerReset(self, error) from None
            self.sent += before
            return

    # Ending.

    def interrupt(self, error: type[BaseException]) -> None:
        """In the hub: end the waits for this stream."""
        for waiting in (self._reading, self._writing):
            if waiting is not None:
                waiting.throw(error)

    def release(self) -> Socket:
        """Let go of the socket: the caller's from now on."""
        self.idle_callback = None
        for watcher in (self._reader, self._writer):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        self._reader = self._writer = None
        self.watching = False
        return self.sock

    def close(self) -> None:
        if self.open:
            self.release()
        self.sock.close()

    def reset(self) -> None:
        """Close with RST, so that the peer can't take what it has for all."""
        if self.open:
            self.release()
        reset(self.sock)

    def __repr__(self) -> str:
        return f"<Stream {self.sock.fileno()}, {self.moved} bytes moved>"
