"""Laws of heads and bodies that hold for any bytes: a message is refused, or h11 reads in it what gproxy does.

Each takes what may come over a socket, and says whether it was `refused`, `accepted`, or is `unfinished`. A broken
law is an AssertionError; so is any exception but Malformed. h11 shares nothing with gproxy and forgives more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import h11

from gproxy.core.http.bodies import ChunkedReader
from gproxy.core.http.client_lines import client_lines
from gproxy.core.http.forward import (
    ForwardOptions,
    RequestBlock,
    ResponseBlock,
    request_bytes,
    resolve_target,
)
from gproxy.core.http.heads import check_request_line, check_unfinished_request, check_unfinished_response
from gproxy.core.http.messages import Body, Framing, HeadLimits, Malformed
from tests.support.http_wire import Wire, read_request_head, request_framing

LIMITS = HeadLimits()
OPTIONS = ForwardOptions()
_OWN_ADDRESS = b"192.0.2.2:80"
_ANY_SIZE = 1 << 22  # bytes that h11 may hold
_HOP_BY_HOP = {
    b"connection", b"http2-settings", b"keep-alive", b"proxy-authenticate", b"proxy-connection", b"te", b"upgrade",
}  # fmt: skip
_REWRITTEN = {b"content-length", b"transfer-encoding", b"host", b"via", b"x-request-id", b"date", b"expect"}
_NEVER_NAMED_AWAY = {b"authorization", b"cookie", b"x-real-ip"}

Lines = list[tuple[bytes, bytes]]


class Read(NamedTuple):
    """A head as h11 reads it: the start is method and target, or status and reason."""

    start: tuple[bytes, bytes]
    fields: Lines
    bodiless: bool  # nothing follows it

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.fields if key == name]

    def end_to_end(self) -> Lines:
        """Without what ends at a hop, or what gproxy writes itself."""
        named = {
            token.strip(b" \t").lower().replace(b"_", b"-")
            for value in self.values(b"connection")
            for token in value.split(b",")
        }
        gone = _HOP_BY_HOP | _REWRITTEN | (named - _NEVER_NAMED_AWAY)
        plain = [(name, value, name.replace(b"_", b"-")) for name, value in self.fields]
        return sorted(
            (name, value)
            for name, value, key in plain
            if key not in gone and key != b"forwarded" and not key.startswith(b"x-forwarded-")
        )


def _refused(error: Malformed, well: bool) -> str:
    assert well, error
    return "refused"


# --- requests ---------------------------------------------------------------------------


def request_law(data: bytes) -> str:
    """`data` is all that a client has sent."""
    head, found, _ = data.partition(b"\r\n\r\n")
    try:
        if not found:
            check_unfinished_request(data, LIMITS)
            return "unfinished"
        method, target, block, forwarded = _forward(head + found)
    except Malformed as error:
        return _refused(error, 400 <= error.status <= 505)
    ours, theirs = read_request(forwarded), read_request(head + found)
    assert ours.start == (method, target)
    assert theirs.start[0] == method
    assert theirs.start[1] == target or not theirs.start[1].startswith(b"/")
    assert ours.end_to_end() == theirs.end_to_end()
    assert ours.values(b"host") == [block.host]
    _check_framing(block.framing, ours)
    _check_framing(block.framing, theirs)
    _check_strictly(forwarded, block)
    return "accepted"


def _forward(head: bytes) -> tuple[bytes, bytes, RequestBlock, bytes]:
    """As an http session does it: method and target, the block, and the head for the backend."""
    parts = head.split(b" ", 2)
    if len(parts) < 3:
        raise Malformed(400, "the request line has too few parts")
    method, target, rest = parts
    block = RequestBlock(rest, LIMITS, OPTIONS)
    check_request_line(method, target, LIMITS)
    target, block = resolve_target(method, target, block)
    if block.host is None:
        block = block.with_host(_OWN_ADDRESS)
    lines = client_lines(block, OPTIONS, "192.0.2.1", "", False)
    return method, target, block, request_bytes(block, method, target, lines, b"id")


def read_request(data: bytes) -> Read:
    """One request head by h11."""
    server = h11.Connection(h11.SERVER, _ANY_SIZE)
    server.receive_data(data)
    request = server.next_event()
    assert isinstance(request, h11.Request), request
    return Read((bytes(request.method), bytes(request.target)), _lines(request.headers), _is_over(server.next_event()))


def _lines(headers: Iterable[tuple[bytes, bytes]]) -> Lines:
    return [(bytes(name), bytes(value)) for name, value in headers]


def _is_over(event: object) -> bool:
    return isinstance(event, h11.EndOfMessage)


def _check_framing(framing: Framing, read: Read) -> None:
    """The fields that h11 sees say the same. (It makes them the only ones of their kind, or refuses.)"""
    lengths, codings = read.values(b"content-length"), read.values(b"transfer-encoding")
    if framing.body is Body.CHUNKED:
        assert (lengths, [coding.lower() for coding in codings]) == ([], [b"chunked"])
    elif framing.body is Body.LENGTH:
        assert ([int(length) for length in lengths], codings) == ([framing.length], [])
    else:
        assert (lengths, codings) == ([], [])
        assert read.bodiless


def _check_strictly(forwarded: bytes, block: RequestBlock) -> None:
    """A reader that forgives nothing takes it, too."""
    if block.framing.length >= 10**18:
        return  # the reader takes no more digits
    wire = Wire(_Replay(forwarded))  # type: ignore[arg-type]
    head = read_request_head(wire)
    assert head is not None
    body, length = request_framing(head)
    assert (body.value, length) == (block.framing.body.value, block.framing.length)
    assert wire.at_end()


class _Replay:
    """A socket over which some bytes come, and the end."""

    def __init__(self, data: bytes):
        self._parts = [data]

    def recv(self, _size: int) -> bytes:
        return self._parts.pop() if self._parts else b""


# --- responses --------------------------------------------------------------------------


def response_law(data: bytes) -> str:
    """`data` is what a backend has sent."""
    head, found, _ = data.partition(b"\r\n\r\n")
    try:
        if not found:
            check_unfinished_response(data, LIMITS)
            return "unfinished"
        block = ResponseBlock(head + found, LIMITS, OPTIONS)
    except Malformed as error:
        return _refused(error, error.status == 502)
    bodiless = block.status < 200 or block.status in (204, 304)
    theirs = _read_response(_FRAMING_LINE.sub(b"", head + found) if bodiless else head + found)
    ours = _read_response(block.start_and_fields + b"\r\n")
    assert ours.start == (b"%d" % block.status, theirs.start[1])
    assert ours.end_to_end() == theirs.end_to_end()
    if block.framing.body is not Body.UNTIL_CLOSE and not block.switching:
        _check_response_framing(block.framing, block.status, ours)
    return "accepted"


# Where there is no body, gproxy reads over what says how long it is; h11 does not.
_FRAMING_LINE = re.compile(rb"(?im)^(?:content-length|transfer-encoding):.*\n")


def _read_response(head: bytes) -> Read:
    client = h11.Connection(h11.CLIENT, _ANY_SIZE)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "a"), ("Upgrade", "x"), ("Connection", "u")]))
    client.send(h11.EndOfMessage())
    client.receive_data(head)
    response = client.next_event()
    assert isinstance(response, h11.Response | h11.InformationalResponse), response
    return Read((b"%d" % response.status_code, bytes(response.reason)), _lines(response.headers), False)


def _check_response_framing(framing: Framing, status: int, read: Read) -> None:
    lengths, codings = read.values(b"content-length"), read.values(b"transfer-encoding")
    if framing.body is Body.CHUNKED:
        assert (lengths, codings) == ([], [b"chunked"])
    elif framing.body is Body.LENGTH:
        assert (lengths, codings) == ([b"%d" % framing.length], [])
    elif status != 304:  # that one may tell the length of what it has not
        assert (lengths, codings) == ([], [])


# --- chunked bodies ---------------------------------------------------------------------

# White space before an extension is good (RFC 9112 section 7.1.1), and trailers that say what only a head can say
# are dropped, not read.
_NOT_FOR_H11 = re.compile(
    r"illegal chunk header: bytearray\(b['\"][0-9A-Fa-f]{1,15}(?: |\\t)+;"
    r"|Only Transfer-Encoding: chunked|multiple Transfer-Encoding|bad Content-Length|conflicting Content-Length"
)
_POST = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunked_law(data: bytes) -> str:
    """The first bytes say into what pieces the others are cut, as far as a zero."""
    cuts, _, body = data.partition(b"\0")
    return check_chunked(pieces(body, cuts))


def check_chunked(parts: Iterable[bytes]) -> str:
    """Any pieces of a chunked body, and what follows it."""
    reader = ChunkedReader(LIMITS)
    decoded, used, whole = b"", 0, b""
    for part in parts:
        whole += part
        try:
            found, consumed = reader.feed(part) if not reader.done else ([], 0)
        except Malformed as error:
            return _refused(error, error.status == 400)
        decoded += b"".join(found)
        used += consumed
    try:
        theirs, trailers, left = decode_chunked(whole, reader.done)
    except h11.RemoteProtocolError as error:
        return _accepted_for(error)
    if not reader.done:
        assert theirs == decoded
        return "unfinished"
    assert (theirs, left) == (decoded, whole[used:])
    ours = [(name.lower(), value) for name, value in reader.trailers.lines] if reader.trailers else []
    assert trailers == ours
    return "accepted"


def _accepted_for(error: h11.RemoteProtocolError) -> str:
    assert _NOT_FOR_H11.match(str(error)), error
    return "accepted"


def decode_chunked(data: bytes, ended: bool) -> tuple[bytes, Lines, bytes]:
    """By h11: the body, its trailers, what follows. It has to take what gproxy takes."""
    server = h11.Connection(h11.SERVER, _ANY_SIZE)
    server.receive_data(_POST + data)
    assert isinstance(server.next_event(), h11.Request)
    body = b""
    while isinstance(event := server.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage) is ended, event
    trailers = _lines(event.headers) if isinstance(event, h11.EndOfMessage) else []
    return body, trailers, server.trailing_data[0]


def pieces(data: bytes, sizes: bytes) -> list[bytes]:
    """Cut into such sizes, and the rest."""
    parts, at = [], 0
    for size in sizes:
        parts.append(data[at : at + size])
        at += size
    return [part for part in (*parts, data[at:]) if part]
