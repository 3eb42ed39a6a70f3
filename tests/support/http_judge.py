"""An origin that writes down the exact bytes it gets, and what became of an odd request on its way through a proxy.

`judge(port, origin, cases)` sends every case to the proxy on that port, many at a time, and tells for each
what the origin read: nothing (it was refused), or requests, each with its meaning.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from tests.support.http_mutations import Mutation
from tests.support.http_origin import TIMEOUT, HttpOrigin, respond
from tests.support.http_wire import (
    Fields,
    NotHttp,
    RequestHead,
    Wire,
    read_body,
    read_request_head,
    request_framing,
)

AT_ONCE = 24  # clients
_NUMBER = re.compile(rb"(?:mark|smuggled)-([0-9]{4})")
# What proxies write themselves, each its own way.
_OF_PROXIES = {
    b"host", b"content-length", b"transfer-encoding", b"via", b"x-request-id", b"connection", b"keep-alive",
    b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-mark",
}  # fmt: skip


class Meaning(NamedTuple):
    """A request as the origin read it. `odd`: why a strict reader would not take it, with its first bytes then."""

    method: bytes
    target: bytes
    host: bytes
    body: bytes
    fields: tuple[bytes, ...]  # end to end, sorted, as `name: value` with the name in lower case
    odd: str = ""


class JudgingOrigin(HttpOrigin):
    """One request on each connection, then FIN. What was not whole does not count."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._lock = threading.Lock()
        self._meanings: dict[bytes, list[Meaning]] = {}

    def of(self, number: int) -> tuple[Meaning, ...]:
        """What was read of a case, in order."""
        with self._lock:
            return tuple(self._meanings.get(b"%04d" % number, ()))

    def converse(self, connection: socket.socket) -> None:
        wire = _Recorder(connection)
        head = None
        try:
            head = read_request_head(wire)
            meaning = self._read(wire, head) if head is not None else None
        except NotHttp as error:
            meaning = Meaning(b"", b"", b"", b"", (), f"{error}"[:200])
        if meaning is not None:
            self._note(bytes(wire.raw), meaning)
            with contextlib.suppress(OSError):
                connection.sendall(respond(head.method if head else b"GET", b"taken", b"Connection: close"))
                connection.shutdown(socket.SHUT_WR)
                wire.rest()

    def _read(self, wire: Wire, head: RequestHead) -> Meaning:
        if b"expect" in head.fields:
            wire.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = bytearray()
        read_body(wire, request_framing(head), body)
        [host] = head.fields[b"host"]
        return Meaning(head.method, head.target, host, bytes(body), _end_to_end(head.fields))

    def _note(self, raw: bytes, meaning: Meaning) -> None:
        if found := _NUMBER.search(raw):
            with self._lock:
                self._meanings.setdefault(found[1], []).append(meaning)


class _Recorder(Wire):
    """Keeps all bytes that came."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.raw = bytearray()

    def more(self) -> bool:
        before = len(self._data)
        more = super().more()
        self.raw += self._data[before:]
        return more


def _end_to_end(fields: Fields) -> tuple[bytes, ...]:
    lines = [(name, value) for name, values in fields.items() if name not in _OF_PROXIES for value in values]
    return tuple(sorted(b"%s: %s" % line for line in lines))


def judge(port: int, origin: JudgingOrigin, cases: Sequence[Mutation]) -> list[tuple[Meaning, ...]]:
    """What the origin read of each case; () where it was refused."""
    numbered = [case.numbered(number) for number, case in enumerate(cases)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda case: _ask(port, case.raw), numbered))
    return [_unnumbered(origin.of(number), number) for number in range(len(cases))]


def _ask(port: int, raw: bytes) -> None:
    """Send it, then FIN, so that nobody waits for more of it; until the proxy has closed."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as client, contextlib.suppress(ConnectionError):
        client.sendall(raw)
        with contextlib.suppress(OSError):  # it is reset already
            client.shutdown(socket.SHUT_WR)
        Wire(client).rest()


def _unnumbered(meanings: Iterable[Meaning], number: int) -> tuple[Meaning, ...]:
    """So that two runs, and two cases, can be compared."""
    digits = b"%04d" % number
    return tuple(
        meaning._replace(
            target=meaning.target.replace(digits, b"NNNN"),
            body=meaning.body.replace(digits, b"NNNN"),
            odd=meaning.odd.replace(digits.decode(), "NNNN"),
        )
        for meaning in meanings
    )
