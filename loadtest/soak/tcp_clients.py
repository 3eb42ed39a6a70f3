"""Clients of tcp: requests of lines, as soak/origin.py answers them."""

from __future__ import annotations

import socket
from collections.abc import Callable

from soak.clients import Client
from soak.stage import Stage, Told
from tests.support.ends import reset
from tests.support.http_marks import upload_of
from tests.support.http_wire import Wire

SMALL = (0, 1, 100, 1500)  # bytes: an answer of one piece, that never pauses
LARGE = (200_000, 1_000_000, 2_000_000)


class TcpClient(Client):
    """`shared`: its connections to the backend may be lent again, so no answer may pause midway."""

    def __init__(self, stage: Stage, listener: str, number: int, *, shared: bool):
        super().__init__(stage, listener, number)
        self._shared = shared
        self._open: list[Wire] = []

    def moves(self) -> dict[Callable[[], None], int]:
        good: dict[Callable[[], None], int] = {self.talk: 30, self.idle: 1}
        bad: dict[Callable[[], None], int] = {self.abort: 10, self.vanish: 2}
        if not self._shared:
            good |= {self.bulk: 3, self.half_close: 6}
            bad |= {self.fault: 3, self.slow_reader: 1}
        return good | bad if self.stage.rough else good

    # Moves.

    def talk(self) -> None:
        """Some requests on one connection."""
        wire = self._wire()
        for _ in range(self.rng.randint(1, 5)):
            self._exchange(wire, self.rng.choice(SMALL), self.rng.choice(SMALL))
            if not self._open:
                return  # the answer was somebody else's
        self.drop()

    def bulk(self) -> None:
        wire = self._wire()
        self._exchange(wire, self.rng.choice(LARGE), self.rng.choice(LARGE))
        self.drop()

    def half_close(self) -> None:
        wire = self._wire()
        mark, down = self._ask(wire, self.rng.choice(SMALL), self.rng.choice([*SMALL, *LARGE]))
        wire.sock.shutdown(socket.SHUT_WR)
        self._answer(wire, mark, down)
        if not wire.at_end():
            self.violate(f"{mark.decode()}: bytes behind the answer")
        self.drop()

    def idle(self) -> None:
        self._wire()
        self.stage.over.wait(min(self.stage.left, self.rng.uniform(0.2, 1)))
        self.drop()

    def abort(self) -> None:
        """Goes away after a part of a request, or before its answer, with FIN or RST."""
        wire = self._wire()
        mark = self.new_mark(b"TCP")
        up = self.rng.choice(SMALL)
        data = b"%s %d %d \r\n" % (mark, up, self.rng.choice(SMALL)) + upload_of(mark, up)
        end = self.rng.randint(0, len(data))
        wire.sock.sendall(data[:end])
        if end < len(data):
            self.tell(mark, Told.INCOMPLETE)
        self._leave()

    def vanish(self) -> None:
        """Goes away between two requests."""
        wire = self._wire()
        self._exchange(wire, 10, 10)
        self._leave()

    def fault(self) -> None:
        """The origin breaks off."""
        wire = self._wire()
        mark, down = self._ask(wire, 100, 5000, self.rng.choice([b"close", b"reset"]))
        self.tell(mark, Told.FAILED)
        answer = b"%s %d\r\n" % (mark, down) + upload_of(mark, down)
        if not answer.startswith(wire.rest()):
            self.violate(f"{mark.decode()}: somebody else's bytes")
        self.drop()

    def slow_reader(self) -> None:
        sock = self.connect(buffer=64_000)
        wire = Wire(sock, size=64_000)
        self._open.append(wire)
        mark, down = self._ask(wire, 0, max(LARGE))
        for _ in range(10):
            if not wire.more():
                break
            self.stage.over.wait(self.rng.random() * 0.1)
        self._answer(wire, mark, down)
        self.drop()

    # What they are made of.

    def _wire(self) -> Wire:
        self.drop()
        self._open.append(Wire(self.connect()))
        return self._open[-1]

    def _exchange(self, wire: Wire, up: int, down: int) -> None:
        self._answer(wire, *self._ask(wire, up, down, self.rng.choice([b""] * 9 + [b"slow"])))

    def _ask(self, wire: Wire, up: int, down: int, act: bytes = b"") -> tuple[bytes, int]:
        mark = self.new_mark(b"TCP")
        wire.sock.sendall(b"%s %d %d %s\r\n" % (mark, up, down, act) + upload_of(mark, up))
        return mark, down

    def _answer(self, wire: Wire, mark: bytes, down: int) -> None:
        line = wire.line()
        if line != b"%s %d" % (mark, down):
            self.violate(f"{mark.decode()} was answered {line!r}")
            self.drop()
            return
        if wire.exactly(down) != upload_of(mark, down):
            self.violate(f"{mark.decode()}: somebody else's bytes")
        self.tell(mark, Told.GOOD)
        self.traffic.good["tcp"] += 1
        self.counts["answered"] += 1

    def _leave(self) -> None:
        for wire in self._open:
            if self.rng.random() < 0.5:
                reset(wire.sock)
        self.drop()

    def drop(self) -> None:
        for wire in self._open:
            wire.sock.close()
        self._open.clear()
