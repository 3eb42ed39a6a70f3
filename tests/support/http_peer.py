"""Both ends of an http exchange as a test plays them: what they say, and what they hear.

client = proxy.connect()
client.send(get("/"))
server = played.accept()
assert read_head(server).target == b"/"
server.send(ok(b"hello"))
assert read_response(client).body == b"hello"
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from gproxy.net.splice import PIPES
from tests.support.embedded import EmbeddedHttp
from tests.support.loopback import TIMEOUT, Peer, descriptors
from tests.support.poll import eventually


class Head(NamedTuple):
    """A start line, and the field lines as they came."""

    start: bytes
    lines: list[tuple[bytes, bytes]]

    def all(self, name: str) -> list[bytes]:
        return [value for its_name, value in self.lines if its_name.lower() == name.lower().encode()]

    def get(self, name: str) -> bytes | None:
        """The value of a field that stands once at the most."""
        values = self.all(name)
        assert len(values) < 2, (name, values)
        return values[0] if values else None

    @property
    def size(self) -> int:
        """In bytes, with its blank line."""
        return len(self.start) + 4 + sum(len(name) + len(value) + 4 for name, value in self.lines)

    @property
    def target(self) -> bytes:
        return self.start.split(b" ")[1]

    @property
    def status(self) -> int:
        return int(self.start.split(b" ")[1])


class Message(NamedTuple):
    head: Head
    body: bytes
    trailers: list[tuple[bytes, bytes]]

    @property
    def status(self) -> int:
        return self.head.status

    def get(self, name: str) -> bytes | None:
        return self.head.get(name)


def request(method: str, target: str = "/", *lines: str, body: bytes = b"", minor: int = 1) -> bytes:
    """A request; with its Host unless the lines have one, and no other field but those."""
    host = () if any(line.lower().startswith("host:") for line in lines) else ("Host: app.example",)
    return "\r\n".join([f"{method} {target} HTTP/1.{minor}", *host, *lines, "", ""]).encode() + body


def get(target: str = "/", *lines: str, minor: int = 1) -> bytes:
    return request("GET", target, *lines, minor=minor)


def post(body: bytes, target: str = "/", *lines: str) -> bytes:
    return request("POST", target, f"Content-Length: {len(body)}", *lines, body=body)


def response(start: str, *lines: str, body: bytes = b"", minor: int = 1) -> bytes:
    return "\r\n".join([f"HTTP/1.{minor} {start}", *lines, "", ""]).encode() + body


def ok(body: bytes = b"ok", *lines: str, minor: int = 1) -> bytes:
    return response("200 OK", f"Content-Length: {len(body)}", *lines, body=body, minor=minor)


def read_line(peer: Peer) -> bytes:
    """One line without its CRLF."""
    line = b""
    while not line.endswith(b"\r\n"):
        more = peer.receive(1)
        assert more, f"ended within a line: {line!r}"
        line += more
    return line[:-2]


def read_lines(peer: Peer) -> list[tuple[bytes, bytes]]:
    """Field lines up to the blank one."""
    found = []
    while line := read_line(peer):
        name, colon, value = line.partition(b": ")
        assert colon, f"not a field: {line!r}"
        found.append((name, value))
    return found


def read_head(peer: Peer) -> Head:
    """A head and not a byte more."""
    return Head(read_line(peer), read_lines(peer))


def read_message(peer: Peer, head: Head, *, ends: bool) -> Message:
    """The body behind a head; up to the connection's end, if the message has one and says nothing of its length."""
    body = b""
    if head.get("Transfer-Encoding") == b"chunked":
        while size := int(read_line(peer), 16):
            body += peer.receive(size)
            assert read_line(peer) == b""
        return Message(head, body, read_lines(peer))
    length = head.get("Content-Length")
    if length is not None:
        body = peer.receive(int(length))
        assert len(body) == int(length)
    elif ends:
        body = peer.rest()[0]
    return Message(head, body, [])


def read_request(peer: Peer) -> Message:
    return read_message(peer, read_head(peer), ends=False)


def read_response(peer: Peer, method: str = "GET") -> Message:
    """A response, or what an interim one has of it: its head."""
    head = read_head(peer)
    if method == "HEAD" or head.status < 200 or head.status in (204, 304):
        return Message(head, b"", [])
    return read_message(peer, head, ends=True)


def serve(client: Peer, server: Peer, body: bytes = b"ok", target: str = "/") -> Message:
    """One GET there and back on an open connection; what the client got."""
    client.send(get(target))
    assert read_head(server).target == target.encode()
    server.send(ok(body))
    message = read_response(client)
    assert message.body == body
    return message


def idle(proxy: EmbeddedHttp) -> int:
    """Pooled connections that nobody uses."""
    return sum(backend.pool.idle for backend in proxy.backends)


def borrowed(proxy: EmbeddedHttp) -> int:
    return sum(backend.active for backend in proxy.backends)


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """No socket and no pipe more than there were; those that are kept for the next ones apart."""
    _close_free_pipes()
    before = descriptors()
    yield

    def after() -> Any:
        _close_free_pipes()
        return descriptors() <= before

    eventually(after, TIMEOUT, "every descriptor is closed")


def _close_free_pipes() -> None:
    while PIPES._free:
        PIPES._made -= 1
        PIPES._free.pop().close()
