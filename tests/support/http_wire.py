"""HTTP/1.1 as it comes over a socket, read by the book: for the origins and the raw clients of tests.

This reader shares nothing with gproxy's. It takes what a strict sender may send and nothing
else, not even what RFC 9112 lets a recipient forgive: whatever a second reader could take
for something else raises NotHttp.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"(%s) (/[\x21-\x7e]*|\*) HTTP/1\.([01])" % _TOKEN)
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*)?")
_FIELD = re.compile(rb"(%s):[ \t]*((?:[\x21-\x7e\x80-\xff]+(?:[ \t]+[\x21-\x7e\x80-\xff]+)*)?)[ \t]*" % _TOKEN)
_HOST = re.compile(rb"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")
_LINE_LIMIT = 100_000  # bytes: beyond gproxy's own limits, so that it is gproxy's that are seen


class NotHttp(Exception):
    """A byte that no strict sender sends."""


class Cut(Exception):
    """The peer ended, or reset, in the midst of a message."""


class Fields(dict[bytes, list[bytes]]):
    """Values by lower-case name, in order."""

    def one(self, name: bytes) -> bytes | None:
        """The value of a field that must not be repeated."""
        values = self.get(name, [])
        if len(values) > 1:
            raise NotHttp(f"{name!r} stands {len(values)} times: {values!r}")
        return values[0] if values else None


class RequestHead(NamedTuple):
    method: bytes
    target: bytes
    minor: int
    fields: Fields


class Body(Enum):
    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    UNTIL_CLOSE = "until close"


@dataclass
class Response:
    """`whole` is False where the connection ended before the response did."""

    status: int
    minor: int
    fields: Fields
    body: bytearray = field(default_factory=bytearray)
    whole: bool = False
    interim: list[int] = field(default_factory=list)

    @property
    def closes(self) -> bool:
        """Whether it says that nothing follows it."""
        return b"close" in b",".join(self.fields.get(b"connection", [])).lower()


class Wire:
    """A socket and what came over it and was not read yet. `size`: of one read, for peers that read little."""

    def __init__(self, sock: socket.socket, size: int = 1 << 16):
        self.sock = sock
        self._size = size
        self._data = bytearray()
        self._ended = False

    def more(self) -> bool:
        """Wait for further bytes; False at the end, which a RST is too."""
        if self._ended:
            return False
        try:
            data = self.sock.recv(self._size)
        except (ConnectionResetError, BrokenPipeError):
            data = b""
        self._data += data
        self._ended = not data
        return not self._ended

    def at_end(self) -> bool:
        """Whether nothing comes any more; waits for either."""
        return not self._data and not self.more()

    def rest(self) -> bytes:
        """All up to the end."""
        while self.more():
            pass
        return self.up_to(len(self._data))

    def line(self) -> bytes:
        """One line without its CRLF."""
        looked = 0
        while (end := self._data.find(b"\n", looked)) < 0:
            looked = len(self._data)
            if looked > _LINE_LIMIT:
                raise NotHttp(f"a line longer than {_LINE_LIMIT}")
            self._need()
        line = self.up_to(end + 1)
        if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
            raise NotHttp(f"a bare CR or LF: {line!r}")
        return line[:-2]

    def exactly(self, size: int) -> bytes:
        while len(self._data) < size:
            self._need()
        return self.up_to(size)

    def some(self, most: int) -> bytes:
        """At least one byte, at most so many."""
        if not self._data:
            self._need()
        return self.up_to(most)

    def up_to(self, size: int) -> bytes:
        """Of what has come."""
        data = bytes(self._data[:size])
        del self._data[:size]
        return data

    def _need(self) -> None:
        if not self.more():
            raise Cut(f"after {bytes(self._data[-200:])!r}")


def read_request_head(wire: Wire) -> RequestHead | None:
    """None where the client ends between two requests."""
    if wire.at_end():
        return None
    line = wire.line()
    found = _REQUEST_LINE.fullmatch(line)
    if not found:
        raise NotHttp(f"not a request line: {line!r}")
    head = RequestHead(found[1], found[2], int(found[3]), read_fields(wire))
    host = head.fields.one(b"host")
    if host is None or not _HOST.fullmatch(host):
        raise NotHttp(f"Host is {host!r} in {line!r}")
    request_framing(head)  # raises
    return head


def read_fields(wire: Wire) -> Fields:
    """Field lines and the empty line after them."""
    fields = Fields()
    while line := wire.line():
        found = _FIELD.fullmatch(line)
        if not found:
            raise NotHttp(f"not a field: {line!r}")
        fields.setdefault(found[1].lower(), []).append(found[2])
    return fields


def request_framing(head: RequestHead) -> tuple[Body, int]:
    body, length = _framing(head.fields, head.minor)
    return (Body.NONE, 0) if body is Body.UNTIL_CLOSE else (body, length)


def _framing(fields: Fields, minor: int) -> tuple[Body, int]:
    coding, length = fields.one(b"transfer-encoding"), fields.one(b"content-length")
    if coding is not None:
        if length is not None or minor == 0 or coding.lower() != b"chunked":
            raise NotHttp(f"Transfer-Encoding {coding!r}, Content-Length {length!r}, HTTP/1.{minor}")
        return Body.CHUNKED, 0
    if length is None:
        return Body.UNTIL_CLOSE, 0
    if not _LENGTH.fullmatch(length):
        raise NotHttp(f"Content-Length is {length!r}")
    return Body.LENGTH, int(length)


def read_body(wire: Wire, framing: tuple[Body, int], into: bytearray) -> None:
    """Add the decoded body to `into` as it comes."""
    kind, length = framing
    if kind is Body.LENGTH:
        _read_length(wire, length, into)
    elif kind is Body.CHUNKED:
        _read_chunked(wire, into)
    elif kind is Body.UNTIL_CLOSE:
        while not wire.at_end():
            into += wire.some(1 << 16)


def _read_length(wire: Wire, length: int, into: bytearray) -> None:
    while length:
        piece = wire.some(length)
        into += piece
        length -= len(piece)


def _read_chunked(wire: Wire, into: bytearray) -> None:
    while True:
        line = wire.line()
        if not _CHUNK_SIZE.fullmatch(line):
            raise NotHttp(f"not a chunk size: {line!r}")
        size = int(line, 16)
        if not size:
            read_fields(wire)  # the trailers
            return
        _read_length(wire, size, into)
        if end := wire.line():
            raise NotHttp(f"after the data of a chunk: {end!r}")


def read_response(wire: Wire, method: bytes = b"GET") -> Response | None:
    """The final response, however much of it comes. None where the server ends before its first byte."""
    interim: list[int] = []
    if wire.at_end():
        return None
    try:
        while (response := _read_response_head(wire)).status in (100, 102, 103):
            interim.append(response.status)
    except Cut:
        return Response(0, 1, Fields(), interim=interim)
    response.interim = interim
    try:
        read_body(wire, _response_framing(response, method), response.body)
        response.whole = True
    except Cut:
        pass
    return response


def _read_response_head(wire: Wire) -> Response:
    line = wire.line()
    found = _STATUS_LINE.fullmatch(line)
    if not found:
        raise NotHttp(f"not a status line: {line!r}")
    return Response(int(found[2]), int(found[1]), read_fields(wire))


def _response_framing(response: Response, method: bytes) -> tuple[Body, int]:
    framing = _framing(response.fields, response.minor)
    bodiless = method == b"HEAD" or response.status in (101, 204, 304)
    return (Body.NONE, 0) if bodiless else framing
