"""An origin whose responses name their request in every line, and the clients' side of that.

A request has a mark of its own in X-Mark, or in its target where the heads are to be constant: then nothing else in
a head tells one request or one response of a size from another, so that gproxy has read it before.
It asks in its target's query for the response:

    size=N                 bytes of the body
    as=length|chunks|end   how its end is told
    act=...                what goes wrong, or goes on, meanwhile: see MarkedOrigin
    mark=...               with constant heads
"""

from __future__ import annotations

import re
import socket
import threading
import time
from typing import NamedTuple

from tests.support.ends import reset
from tests.support.http_origin import DATE, TIMEOUT, HttpOrigin
from tests.support.http_wire import RequestHead, Response, Wire, read_body, read_request_head, request_framing

_QUERY = re.compile(rb"size=(\d+)&as=([a-z]+)&act=([a-z-]*)(?:&mark=(.+))?")
_IN_BODY = re.compile(rb"mark (\S+) ")
SLOW = 0.005  # seconds: long enough for a client to go away meanwhile
CHUNK = 5000  # bytes

# What the origin does to the connection in the place of what it was asked for, or after it.
BEFORE = ("close-before", "reset-before")  # nothing of a response is sent
MIDWAY = ("close-in-head", "reset-in-head", "close-in-body", "reset-in-body")
AFTERWARDS = ("close-after", "reset-after")  # without announcing it


class Ask(NamedTuple):
    """One request, and what its response must be."""

    mark: bytes
    method: bytes = b"GET"
    size: int = 0
    framed: bytes = b"length"
    act: bytes = b""
    body: bytes = b""
    chunked: bool = False
    constant: bool = False  # the heads

    @property
    def target(self) -> bytes:
        query = b"size=%d&as=%s&act=%s" % (self.size, self.framed, self.act)
        return b"/asked?" + query + (b"&mark=" + self.mark if self.constant else b"")

    @property
    def head(self) -> bytes:
        lines = [self.method + b" " + self.target + b" HTTP/1.1", b"Host: origin"]
        if not self.constant:
            lines.append(b"X-Mark: " + self.mark)
        if self.chunked:
            lines.append(b"Transfer-Encoding: chunked")
        elif self.body:
            lines.append(b"Content-Length: %d" % len(self.body))
        return b"\r\n".join([*lines, b"", b""])

    @property
    def sent_body(self) -> bytes:
        return chunks(self.body) if self.chunked else self.body

    @property
    def faulty(self) -> bool:
        """Whether the origin breaks off this very exchange, or may."""
        return self.act.decode() in (*BEFORE, *MIDWAY, "reset-after")

    def objection(self, response: Response) -> str:
        """Why this can't be a response to it, or be a part of one; empty where it can."""
        owes = response.status == 408 and self.act == b"early"  # the rest of its body, while its backend stood still
        if response.status >= 500 or owes:
            return "" if b"mark" not in response.body else f"{response.status} with somebody's mark"
        if response.status == 0 and not response.fields and not response.body:
            return ""  # half a head
        told = response.fields.get(b"x-mark")
        if response.status != 200 or told != (None if self.constant else [self.mark]):
            return f"{response.status} for {told}"
        expected = b"" if self.method == b"HEAD" else marked(self.mark, self.method, self.body, self.size)
        if response.whole and response.body != expected:
            return f"a body of {len(response.body)} bytes: {bytes(response.body[:100])!r}"
        return "" if expected.startswith(bytes(response.body)) else "somebody else's body"


def marks(data: bytes) -> set[bytes]:
    """Those that stand in a part of a body."""
    return set(_IN_BODY.findall(data))


def marked(mark: bytes, method: bytes, body: bytes, size: int) -> bytes:
    """A body of that size for a request with that mark and body."""
    line = b"mark %s %s %d %s\n" % (mark, method, len(body), body[-20:])
    return (line * (size // len(line) + 1))[:size]


def upload_of(mark: bytes, size: int) -> bytes:
    """A request's body of that size, which says in every part whose it is."""
    return ((mark + b" ") * (size // (len(mark) + 1) + 1))[:size]


def chunks(data: bytes) -> bytes:
    pieces = [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


class Late:
    """Bytes that follow a response once `go` is set; `said` is set when they are sent."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.said = threading.Event()


class MarkedOrigin(HttpOrigin):
    """Acts: those above, `slow` before the response, `trickle` in it, `early`: it answers before it reads the body.

    `surplus`: a second response comes with the first. `late`: it comes when it is told to.
    """

    def __init__(self, name: str, late: dict[bytes, Late] | None = None, port: int = 0):
        """`late` by marks."""
        super().__init__(name, port)
        self._late = {} if late is None else late

    def converse(self, connection: socket.socket) -> None:
        wire = Wire(connection)
        while (head := read_request_head(wire)) and self.exchange(wire, head):
            pass

    def execute(self, request: Request, body: bytes | None) -> None:
        """For subclasses: the request has come, with its whole body; None where that is not waited for."""

    def exchange(self, wire: Wire, head: RequestHead) -> bool:
        """Whether the connection goes on."""
        request = parse_request(head)
        body = bytearray()
        if request.act == "early":
            self.execute(request, None)
            wire.sock.sendall(_response(request, marked(request.mark, head.method, b"", request.size)))
            read_body(wire, request_framing(head), body)
            return request.framed != b"end"
        if head.fields.get(b"expect"):
            wire.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        read_body(wire, request_framing(head), body)
        self.execute(request, bytes(body))
        return self.answer(wire, request, bytes(body))

    def answer(self, wire: Wire, request: Request, body: bytes) -> bool:
        """Whether the connection goes on."""
        if request.act == "slow":
            time.sleep(SLOW)
        response = _response(request, marked(request.mark, request.method, body, request.size))
        _send(wire.sock, response * 2 if request.act == "surplus" else response, request.act)
        if request.act == "late":
            late = self._late[request.mark]
            late.go.wait(TIMEOUT)
            try:
                wire.sock.sendall(response)
            finally:
                late.said.set()
        return request.framed != b"end" and request.act not in (*BEFORE, *MIDWAY, *AFTERWARDS)


class Request(NamedTuple):
    """An Ask as its origin reads it."""

    mark: bytes
    method: bytes
    size: int
    framed: bytes
    act: str
    constant: bool


def parse_request(head: RequestHead) -> Request:
    found = _QUERY.search(head.target)
    assert found, head.target
    constant = found[4] is not None
    mark = found[4] if constant else head.fields[b"x-mark"][0]
    return Request(mark, head.method, int(found[1]), found[2], found[3].decode(), constant)


def _response(request: Request, body: bytes) -> bytes:
    framing = {b"length": b"Content-Length: %d" % len(body), b"chunks": b"Transfer-Encoding: chunked"}
    own = b"Date: " + DATE if request.constant else b"X-Mark: " + request.mark
    lines = [b"HTTP/1.1 200 OK", own, framing.get(request.framed, b"Connection: close"), b"", b""]
    head = b"\r\n".join(lines)
    if request.method == b"HEAD":
        return head
    return head + (chunks(body) if request.framed == b"chunks" else body)


def _send(connection: socket.socket, response: bytes, act: str) -> None:
    """All of it, or as much as the act wants."""
    head = response.index(b"\r\n\r\n") + 4
    ends = {**dict.fromkeys(BEFORE, 0), "close-in-head": head // 2, "reset-in-head": head // 2}
    end = ends.get(act, head + (len(response) - head) // 2 if act in MIDWAY else len(response))
    if act == "trickle":
        for at in range(0, end, end // 4 + 1):
            connection.sendall(response[at : min(end, at + end // 4 + 1)])
            time.sleep(SLOW / 4)
    else:
        connection.sendall(response[:end])
    if act.startswith("reset"):
        reset(connection)
