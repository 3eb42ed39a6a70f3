"""Message bodies: readers that know to the byte where a body ends, and the chunked coding we write ourselves.

    pieces, consumed = reader.feed(data)     decoded bytes, and how much of `data` they took; never past the end
    reader.done                              whether the end was read
    reader.eof()                             the input has ended: Malformed where the body has not

A chunked body is never passed on as it came: it is decoded here and encoded anew, so that whatever its sender
wrote about its chunks has one reading behind us. A reader that has raised is of no more use.
"""

from __future__ import annotations

import re
from enum import Enum, auto

from gproxy.core.http.fields import Fields
from gproxy.core.http.heads import parse_trailers
from gproxy.core.http.messages import Body, Framing, HeadLimits, Malformed

_LINE_LIMIT = 4096  # bytes of one chunk-size line, its CRLF included
_FREE_OVERHEAD = 16  # bytes of a chunk-size line that need no excuse
_OVERHEAD_LIMIT = 16 * 1024  # bytes more than that, in a row, before it is an attack

# White space is good between the size and an extension alone (RFC 9112 7.1.1). 15 digits stay below 2**63.
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e]*)?\r\n")


class LengthReader:
    """A body of `length` bytes."""

    __slots__ = ("_status", "remaining")

    def __init__(self, length: int, status: int = 400):
        self.remaining = length
        self._status = status

    @property
    def done(self) -> bool:
        return not self.remaining

    def feed(self, data: bytes) -> tuple[list[bytes], int]:
        """Hands out `data` itself where all of it is body: nothing is copied."""
        size = len(data)
        if size > self.remaining:
            size = self.remaining
            data = data[:size]
        self.remaining -= size
        return [data] if size else [], size

    def advance(self, count: int) -> None:
        """So many bytes of the body went another way: spliced."""
        if not 0 <= count <= self.remaining:
            raise ValueError(f"{count} bytes of a body with {self.remaining} left")
        self.remaining -= count

    def eof(self) -> None:
        if self.remaining:
            raise Malformed(self._status, f"the body ended {self.remaining} bytes early")

    def __repr__(self) -> str:
        return f"<LengthReader {self.remaining} left>"


class UntilCloseReader:
    """A response's body that ends with its connection."""

    __slots__ = ("done",)

    def __init__(self) -> None:
        self.done = False

    def feed(self, data: bytes) -> tuple[list[bytes], int]:
        return [data] if data else [], len(data)

    def eof(self) -> None:
        self.done = True

    def __repr__(self) -> str:
        return f"<UntilCloseReader {'done' if self.done else 'open'}>"


class _Next(Enum):
    """What a chunked body goes on with."""

    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILERS = auto()
    NOTHING = auto()


_SIZE, _DATA, _DATA_END, _TRAILERS, _NOTHING = _Next  # looked up for every chunk: far cheaper than _Next.SIZE


class ChunkedReader:
    """A chunked body (RFC 9112 section 7.1); extensions are read over.

    It holds an unfinished line or the trailer section at the most, and looks at each byte once: a line is
    searched for its end in what is new alone.
    """

    __slots__ = ("_held", "_left", "_limits", "_next", "_overhead", "_status", "_trailers", "trailers")

    def __init__(self, limits: HeadLimits, status: int = 400):
        self.trailers: Fields | None = None  # once done; None when there are none
        self._limits = limits
        self._status = status  # of what is refused
        self._next = _SIZE
        self._left = 0  # bytes of this chunk's data, or of the CRLF behind it, still to come
        self._overhead = 0
        self._held = bytearray()  # the start of a line
        self._trailers = bytearray()  # whole lines

    @property
    def done(self) -> bool:
        return self._next is _NOTHING

    def feed(self, data: bytes) -> tuple[list[bytes], int]:
        pieces: list[bytes] = []
        at, end = 0, len(data)
        while at < end:
            if self._next is _DATA:
                at = self._read_data(data, at, pieces)
            elif self._next is _DATA_END:
                at = self._read_data_end(data, at)
            elif self._next is _SIZE:
                at = self._read_size(data, at, pieces)
            elif self._next is _TRAILERS:
                at = self._read_trailers(data, at)
            else:
                break
        return pieces, at

    def eof(self) -> None:
        if not self.done:
            raise Malformed(self._status, "the body ended within its chunks")

    # Each reads one part of `data` from `at` on, as far as it is there, and returns where it stopped.

    def _read_size(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        line, at = self._read_line(data, at, _LINE_LIMIT)
        if not line:
            return at
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise Malformed(self._status, "not a chunk size")
        size = int(match[1], 16)
        self._count_overhead(len(line), size)
        end = at + size
        if size and data.startswith(b"\r\n", end):  # the usual: the whole chunk is at hand
            pieces.append(data[at:end])
            return end + 2
        self._left = size
        self._next = _DATA if size else _TRAILERS
        return at

    def _count_overhead(self, line: int, size: int) -> None:
        """Long extensions on tiny chunks make us work for nothing. Data pays for them, twice over."""
        excess = self._overhead + line - _FREE_OVERHEAD - 2 * size
        self._overhead = excess if excess > 0 else 0
        if excess > _OVERHEAD_LIMIT:
            raise Malformed(self._status, "too many chunk extensions")

    def _read_data(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        piece = data[at : at + self._left]
        pieces.append(piece)
        self._left -= len(piece)
        if not self._left:
            self._left = 2
            self._next = _DATA_END
        return at + len(piece)

    def _read_data_end(self, data: bytes, at: int) -> int:
        part = data[at : at + self._left]
        if not b"\r\n".startswith(part, 2 - self._left):
            raise Malformed(self._status, "a chunk's data is not followed by CRLF")
        self._left -= len(part)
        if not self._left:
            self._next = _SIZE
        return at + len(part)

    def _read_trailers(self, data: bytes, at: int) -> int:
        line, at = self._read_line(data, at, self._limits.head - len(self._trailers))
        if not line:
            return at
        if not line.endswith(b"\r\n") or line.count(b"\r") > 1:
            raise Malformed(self._status, "a CR or LF on its own in the trailer section")
        self._trailers += line
        if line == b"\r\n":
            if len(self._trailers) > len(line):
                self.trailers = parse_trailers(bytes(self._trailers), self._limits, self._status)
            self._next = _NOTHING
        return at

    def _read_line(self, data: bytes, at: int, limit: int) -> tuple[bytes, int]:
        """A line of at most `limit` bytes with its LF, or b"" while its end is not there, and where it stopped."""
        room = limit - len(self._held)
        end = data.find(b"\n", at, at + room) + 1
        if not end:
            if len(data) - at >= room:
                raise Malformed(self._status, "a chunk-size line, or the trailer section, is too long")
            self._held += data[at:]
            return b"", len(data)
        line = data[at:end]
        if self._held:
            line = bytes(self._held) + line
            self._held.clear()
        return line, end

    def __repr__(self) -> str:
        return f"<ChunkedReader {self._next.name}, {self._left} left>"


BodyReader = LengthReader | ChunkedReader | UntilCloseReader


def body_reader(framing: Framing, limits: HeadLimits, status: int) -> BodyReader | None:
    """The reader of a message's body; None when there is nothing to read. `status` is that of every refusal."""
    if framing.body is Body.CHUNKED:
        return ChunkedReader(limits, status)
    if framing.body is Body.UNTIL_CLOSE:
        return UntilCloseReader()
    return LengthReader(framing.length, status) if framing.length else None


def encode_chunk(data: bytes) -> bytes:
    """One chunk; nothing for no data, since an empty chunk would be the last."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def encode_last(trailers: Fields | None) -> bytes:
    """The last chunk and the trailer section, with these trailers as they are: choosing is forwarding's."""
    lines = [b"%b: %b\r\n" % line for line in (trailers.lines if trailers else ())]
    return b"0\r\n%b\r\n" % b"".join(lines)
