"""WebSocket frames by hand (RFC 6455 5.2), for what no library sends.

A `Case` is a conversation in steps: the bytes of a step are sent, and what it wants must come before
the next one goes. After the last, both sides close, unless the server has done so already.
"""

from __future__ import annotations

import base64
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

HANDSHAKE = (
    b"GET %b HTTP/1.1\r\nHost: app.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + base64.b64encode(b"sixteen bytes ok") + b"\r\n\r\n"
)

BYTEWISE = 400  # the longest first step that is also sent byte by byte


class Frame(NamedTuple):
    """As a server sends it; `first` is FIN, the reserved bits and the opcode."""

    first: int
    payload: bytes


class Step(NamedTuple):
    sent: bytes
    wanted: tuple[Frame, ...]


class Case(NamedTuple):
    name: str
    steps: tuple[Step, ...]

    @property
    def ended_by_server(self) -> bool:
        wanted = self.steps[-1].wanted
        return bool(wanted) and wanted[-1].first & 15 == CLOSE


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, reserved: int = 0) -> bytes:
    """A client's; masked with zeros, so that its payload can be read."""
    first = fin << 7 | reserved << 4 | opcode
    if len(payload) < 126:
        head = struct.pack("!BB", first, 128 | len(payload))
    elif len(payload) < 1 << 16:
        head = struct.pack("!BBH", first, 128 | 126, len(payload))
    else:
        head = struct.pack("!BBQ", first, 128 | 127, len(payload))
    return head + bytes(4) + payload


def closing(code: int, reason: bytes = b"") -> bytes:
    """The payload of a close frame."""
    return struct.pack("!H", code) + reason


def said(opcode: int, payload: bytes = b"") -> Frame:
    """What a server is wanted to say in one frame."""
    return Frame(128 | opcode, payload)


def ends(code: int) -> tuple[Frame, ...]:
    """The server closes; the reason is its own business."""
    return (said(CLOSE, closing(code)),)


class FrameClient:
    """A connection that speaks WebSocket byte by byte. `frames` is what came, reasons included."""

    def __init__(self, sock: socket.socket):
        self.sock = sock
        self.frames: list[Frame] = []
        self._data = b""

    def open(self, path: bytes, behind: bytes = b"") -> None:
        """The handshake, with what is sent in one piece with it."""
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.sendall(HANDSHAKE % path + behind)
        head = self._until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head

    def converse(self, case: Case, *, behind: bool = False, bytewise: bool = False) -> list[Frame]:
        """Have a whole conversation on /echo; what the server said."""
        self.open(b"/echo", case.steps[0].sent if behind else b"")
        for number, step in enumerate(case.steps):
            if number or not behind:
                self._send(step.sent, bytewise)
            for wanted in step.wanted:
                self._expect(case, wanted)
        if not case.ended_by_server:
            self.sock.sendall(frame(CLOSE, closing(1000)))
            self._expect(case, said(CLOSE, closing(1000)))
        rest = self._data + b"".join(iter(lambda: self.sock.recv(1 << 16), b""))
        assert rest == b"", f"{case.name}: after the end: {rest[:200]!r}"
        return self.frames

    def _send(self, data: bytes, bytewise: bool) -> None:
        for piece in (data[at : at + 1] for at in range(len(data))) if bytewise else (data,):
            self.sock.sendall(piece)

    def _expect(self, case: Case, wanted: Frame) -> None:
        came = self.frame()
        known = came._replace(payload=came.payload[:2]) if wanted.first & 15 == CLOSE else came
        assert known == wanted, f"{case.name}: {str(came)[:200]}, not {str(wanted)[:200]}"

    def frame(self) -> Frame:
        """The next one."""
        first, size = self._take(2)
        assert size < 128, "a server must not mask"
        if size == 126:
            (size,) = struct.unpack("!H", self._take(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self._take(8))
        came = Frame(first, self._take(size))
        self.frames.append(came)
        return came

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._data:
            self._more()
        found, _, self._data = self._data.partition(mark)
        return found

    def _take(self, size: int) -> bytes:
        parts = [self._data]
        have = len(self._data)
        while have < size:
            self._data = b""
            self._more()
            parts.append(self._data)
            have += len(self._data)
        whole = b"".join(parts)
        self._data = whole[size:]
        return whole[:size]

    def _more(self) -> None:
        data = self.sock.recv(1 << 18)
        assert data, f"the server has ended, after {self.frames!r:.200} and {self._data!r:.200}"
        self._data += data


# The cases, in the groups of the Autobahn test suite.


def cases() -> Iterator[Case]:
    yield from _framing()
    yield from _pings()
    yield from _reserved_bits()
    yield from _opcodes()
    yield from _fragments()
    yield from _utf8()
    yield from _closes()
    yield from _limits()


def _case(name: str, *steps: tuple[bytes, tuple[Frame, ...]]) -> Case:
    return Case(name, tuple(Step(*step) for step in steps))


def _message(opcode: int, payload: bytes) -> tuple[bytes, tuple[Frame, ...]]:
    """A message in one frame, and its echo."""
    return frame(opcode, payload), (said(opcode, payload),)


def _framing() -> Iterator[Case]:
    for size in (0, 1, 125, 126, 127, 128, 65535, 65536):
        yield _case(f"1-text-{size}", _message(TEXT, b"*" * size))
        yield _case(f"1-binary-{size}", _message(BINARY, b"\xfe" * size))


def _pings() -> Iterator[Case]:
    for name, payload in (("empty", b""), ("text", b"Hello"), ("binary", b"\0\xff\xfe\xfd"), ("long", b"\xfe" * 125)):
        yield _case(f"2-ping-{name}", (frame(PING, payload), (said(PONG, payload),)))
    yield _case("2-ping-too-long", (frame(PING, b"\xfe" * 126), ends(1002)))
    yield _case("2-pong-unasked", (frame(PONG) + frame(PONG, b"more"), ()), _message(TEXT, b"after"))
    yield _case("2-pong-and-ping", (frame(PONG, b"a") + frame(PING, b"b"), (said(PONG, b"b"),)))
    ten = [b"payload-%d" % n for n in range(10)]
    yield _case("2-ten-pings", (b"".join(frame(PING, p) for p in ten), tuple(said(PONG, p) for p in ten)))


def _reserved_bits() -> Iterator[Case]:
    for bits in range(1, 8):
        opcode = (TEXT, BINARY, PING, CLOSE)[bits % 4]
        yield _case(f"3-reserved-{bits}", _message(TEXT, b"before"), (frame(opcode, b"Hi", reserved=bits), ends(1002)))


def _opcodes() -> Iterator[Case]:
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield _case(f"4-opcode-{opcode}", _message(TEXT, b"before"), (frame(opcode, b"unknown"), ends(1002)))


def _fragments() -> Iterator[Case]:
    begin, end = frame(TEXT, b"one ", fin=False), frame(CONTINUATION, b"two")
    both = (said(TEXT, b"one two"),)
    yield _case("5-two", (begin + end, both))
    yield _case("5-two-apart", (begin, ()), (end, both))
    yield _case("5-ping-between", (begin + frame(PING, b"?"), (said(PONG, b"?"),)), (end, both))
    yield _case("5-empty-ones", (begin + frame(CONTINUATION, fin=False) * 3 + end, both))
    yield _case("5-all-empty", (frame(TEXT, fin=False) + frame(CONTINUATION), (said(TEXT),)))
    yield _case("5-many", (frame(BINARY, b"a", fin=False) + frame(CONTINUATION, b"b", fin=False) * 200
                           + frame(CONTINUATION, b"c"), (said(BINARY, b"a" + b"b" * 200 + b"c"),)))  # fmt: skip
    yield _case("5-ping-in-pieces", (frame(PING, b"a", fin=False), ends(1002)))
    yield _case("5-pong-in-pieces", (frame(PONG, b"a", fin=False), ends(1002)))
    yield _case("5-end-without-beginning", (end, ends(1002)))
    yield _case("5-middle-without-beginning", (frame(CONTINUATION, b"x", fin=False), ends(1002)))
    yield _case("5-beginning-twice", (begin + begin, ends(1002)))
    yield _case("5-message-amid-another", (begin + frame(TEXT, b"x"), ends(1002)))
    yield _case("5-end-twice", (begin + end, both), (end, ends(1002)))


def _utf8() -> Iterator[Case]:
    greek = "κόσμε, und 𝄞".encode()
    yield _case("6-valid", _message(TEXT, greek))
    pieces = b"".join(frame(CONTINUATION, greek[at : at + 1], fin=False) for at in range(1, len(greek)))
    whole = frame(TEXT, greek[:1], fin=False) + pieces + frame(CONTINUATION)
    yield _case("6-valid-byte-by-byte", (whole, (said(TEXT, greek),)))
    for name, bad in (("cut-off", greek[:3]), ("overlong", b"\xc0\xaf"), ("surrogate", b"\xed\xa0\x80"),
                      ("beyond", b"\xf4\x90\x80\x80"), ("lonely", b"ab\x80c"), ("never", b"a\xffb")):  # fmt: skip
        yield _case(f"6-invalid-{name}", (frame(TEXT, bad), ends(1007)))
        yield _case(f"6-binary-{name}", _message(BINARY, bad))
    yield _case("6-invalid-in-pieces", (frame(TEXT, greek[:3], fin=False) + frame(CONTINUATION, b"x"), ends(1007)))


def _closes() -> Iterator[Case]:
    yield _case("7-message-first", _message(TEXT, b"hello"), (frame(CLOSE, closing(1000)), ends(1000)))
    yield _case("7-without-a-code", (frame(CLOSE), (said(CLOSE),)))
    yield _case("7-half-a-code", (frame(CLOSE, b"\x03"), ends(1002)))
    yield _case("7-amid-a-message", (frame(TEXT, b"one", fin=False) + frame(CLOSE, closing(1000)), ends(1002)))
    for name, more in (("message", frame(TEXT, b"late")), ("ping", frame(PING)), ("close", frame(CLOSE))):
        yield _case(f"7-{name}-after-it", (frame(CLOSE, closing(1000)) + more, ends(1000)))
    yield _case("7-reason", (frame(CLOSE, closing(1000, "schön".encode())), ends(1000)))
    yield _case("7-longest-reason", (frame(CLOSE, closing(1000, b"*" * 123)), ends(1000)))
    yield _case("7-reason-too-long", (frame(CLOSE, closing(1000, b"*" * 124)), ends(1002)))
    yield _case("7-reason-not-utf8", (frame(CLOSE, closing(1000, b"\xff\xfe")), ends(1007)))
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
        yield _case(f"7-code-{code}", (frame(CLOSE, closing(code)), ends(code)))
    for code in (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535):
        yield _case(f"7-no-code-{code}", (frame(CLOSE, closing(code)), ends(1002)))


def _limits() -> Iterator[Case]:
    for size in (1 << 18, 1 << 20):
        yield _case(f"9-text-{size}", _message(TEXT, b"*" * size))
    yield _case("9-binary", _message(BINARY, b"\xfe" * (1 << 22)))
    for piece in (1 << 10, 1 << 14, 1 << 18):
        count = (1 << 20) // piece
        middle = frame(CONTINUATION, b"*" * piece, fin=False) * (count - 2)
        whole = frame(BINARY, b"*" * piece, fin=False) + middle + frame(CONTINUATION, b"*" * piece)
        yield _case(f"9-in-pieces-of-{piece}", (whole, (said(BINARY, b"*" * (1 << 20)),)))
    many = [b"%d" % n for n in range(500)]
    yield _case("9-many-messages", (b"".join(frame(TEXT, m) for m in many), tuple(said(TEXT, m) for m in many)))
