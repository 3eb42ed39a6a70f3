"""An origin that fails as it is told to, and keeps a ledger of what it executed.

A request's id is its target. What is to go wrong with it goes wrong once, wherever it arrives first.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import threading
from collections import Counter

from tests.support.ends import reset
from tests.support.http_origin import HttpOrigin, respond
from tests.support.http_wire import RequestHead, Wire, read_body, read_request_head, request_framing

UNREAD = ("unread",)  # it goes away while the request waits to be read
UNEXECUTED = ("read-close", "read-reset")
EXECUTED = ("executed-close", "executed-reset")
BEGUN = ("head-close", "head-reset", "body-close", "body-reset")  # a part of the response was sent
BEFORE_RESPONSE = (*UNREAD, *UNEXECUTED, *EXECUTED)

IDLE = ("close", "reset", "close-later")  # how a connection ends between two requests
LATER = 0.002  # seconds


class Ledger:
    """Of several origins."""

    def __init__(self, seed: int):
        self.idle_rate = 0.0  # the share of responses after which the connection ends unannounced
        self.executed: Counter[bytes] = Counter()
        self._faults: dict[bytes, str] = {}
        self._troubled: set[bytes] = set()  # went wrong once, and was not answered since
        self._random = random.Random(f"{seed} origins")
        self._lock = threading.Lock()

    def plan(self, target: bytes, fault: str) -> None:
        self._faults[target] = fault

    def fault(self, target: bytes, kinds: tuple[str, ...]) -> str:
        """What goes wrong now, if it is one of these; never again after that."""
        with self._lock:
            if self._faults.get(target) not in kinds:
                return ""
            self._troubled.add(target)
            return self._faults.pop(target)

    def execute(self, target: bytes) -> None:
        with self._lock:
            self.executed[target] += 1

    def answered(self, target: bytes) -> str:
        """How its connection ends, if it does: never while somebody tries for a second time, who may not fail twice."""
        with self._lock:
            self._troubled.discard(target)
            if self._troubled or self._random.random() >= self.idle_rate:
                return ""
            return self._random.choice(IDLE)


class LedgerOrigin(HttpOrigin):
    """Answers with the digest of the request's body."""

    def __init__(self, name: str, ledger: Ledger):
        super().__init__(name)
        self._ledger = ledger

    def converse(self, connection: socket.socket) -> None:
        wire = Wire(connection)
        while self._wants_it(connection) and (head := read_request_head(wire)) and self._exchange(wire, head):
            pass

    def _wants_it(self, connection: socket.socket) -> bool:
        """Look at the next request without reading it."""
        start = connection.recv(1000, socket.MSG_PEEK).split(b" ", 2)
        return not (len(start) == 3 and self._ledger.fault(start[1], UNREAD))  # closing makes it a RST

    def _exchange(self, wire: Wire, head: RequestHead) -> bool:
        """Whether the connection goes on."""
        ledger, target = self._ledger, head.target
        body = bytearray()
        read_body(wire, request_framing(head), body)
        if fault := ledger.fault(target, UNEXECUTED):
            return _end(wire.sock, fault)
        ledger.execute(target)
        if fault := ledger.fault(target, EXECUTED):
            return _end(wire.sock, fault)
        response = respond(head.method, hashlib.sha256(body).hexdigest().encode())
        if fault := ledger.fault(target, BEGUN):
            wire.sock.sendall(response[: 20 if fault.startswith("head") else -10])
            return _end(wire.sock, fault)
        end = ledger.answered(target)
        wire.sock.sendall(response)
        if end == "close-later":
            _wait(wire.sock, LATER)
        return not end or _end(wire.sock, end)


def _end(connection: socket.socket, how: str) -> bool:
    """FIN or RST. Never whether the connection goes on: it does not."""
    if how.endswith("reset"):
        reset(connection)
    return False


def _wait(connection: socket.socket, seconds: float) -> None:
    """For a request, which stays unread then, or the time."""
    connection.settimeout(seconds)
    with contextlib.suppress(TimeoutError):
        connection.recv(1, socket.MSG_PEEK)
    connection.settimeout(None)
