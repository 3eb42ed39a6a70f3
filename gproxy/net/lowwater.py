"""Fewer, larger reads of a body that comes fast: the receive low-water mark, SO_RCVLOWAT of socket(7).

A reader that the kernel wakes for each segment moves a fast body in small pieces, and most of what bulk costs is by the
piece: a wake-up, two calls, an acknowledgement. With a mark it is woken when so many bytes are there, or the end.

Bytes below the mark wait for more of them. So only a fast body has one; it follows the rate, which makes bytes wait for
a millisecond; it is never above what is still to come of the body; and one tick with few bytes takes it away, so that a
body that stalls is two ticks late at the most.
"""

from __future__ import annotations

import contextlib
from socket import SO_RCVLOWAT, SOL_SOCKET
from typing import Any

from gproxy.net.stream import Stream

FAST = 1024 * 1024, 0.010  # a body is fast that brings so many bytes in so many seconds
TICK = 0.005  # seconds
PIECES = 4  # to a tick, at the rate of the tick before
LEAST, MOST = 64 * 1024, 256 * 1024  # bytes of a mark


class LowWaterMark:
    """That of one stream, for one body. `stop` when the body is over, however it ended."""

    __slots__ = ("_at", "_before", "_left", "_mark", "_stream", "_timer")

    def __init__(self, stream: Stream):
        self._stream = stream
        self._left = 0
        self._mark = 1
        self._timer: Any = None
        self._look()

    @property
    def watching(self) -> bool:
        """Whether it looks at the rate."""
        return self._timer is not None

    def moved(self, left: int) -> None:
        """Bytes were read, and `left` bytes of the body are still to come."""
        self._left = left
        if self._mark > left:
            self._set(1)
        size, seconds = FAST
        if self._timer is None and self._stream.received - self._before >= size:
            fast = self._stream.hub.loop.now() - self._at <= seconds
            self._look()
            if fast:
                self._timer = self._stream.hub.loop.timer(TICK, TICK)
                self._timer.start(self._tick)

    def stop(self) -> None:
        """Back to how it was."""
        self._set(1)
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None

    def _tick(self) -> None:
        mark = min((self._stream.received - self._before) // PIECES, MOST)
        self._look()
        if LEAST <= mark <= self._left:
            self._set(mark)
        else:
            self.stop()

    def _look(self) -> None:
        self._before, self._at = self._stream.received, self._stream.hub.loop.now()

    def _set(self, mark: int) -> None:
        if mark != self._mark:
            self._mark = mark
            with contextlib.suppress(OSError):  # closed meanwhile; or a sandbox without marks: the pieces stay small
                self._stream.sock.setsockopt(SOL_SOCKET, SO_RCVLOWAT, mark)

    def __repr__(self) -> str:
        return f"<LowWaterMark {self._mark}>"
