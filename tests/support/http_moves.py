"""A client that makes marked requests, good ones and broken ones, as its own random numbers tell it.

It judges each response by its mark: `leaks` are responses, or parts of them, that are somebody else's; `failures` are
those that nobody but the proxy can have caused.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.support.ends import reset
from tests.support.http_marks import AFTERWARDS, BEFORE, MIDWAY, Ask, marks, upload_of
from tests.support.http_wire import NotHttp, Response, Wire, read_response

SIZES = [0, 1, 60, 60, 500, 500, 4000, 4000, 20_000, 70_000]
BIG = 400_000  # more than the buffers between an origin and a client hold
FAULTS = [act.encode() for act in (*BEFORE, *MIDWAY, *AFTERWARDS)]


class Moves:
    """What such a client does; whoever has a name can do it."""

    name: str

    def __init__(self, connect: Callable[[], socket.socket], rng: random.Random):
        """`connect` makes a connection to the proxy, with a timeout."""
        self.outcomes: Counter[str] = Counter()
        self.leaks: list[str] = []
        self.failures: list[str] = []
        self._connect = connect
        self._random = rng
        self._wire: Wire | None = None
        self._asked = 0

    def incomplete(self, ask: Ask) -> None:
        """Not the whole of this one will be sent."""

    # Moves.

    def get(self) -> None:
        self._exchange(self._ask(method=self._random.choice([b"GET"] * 4 + [b"HEAD"])))

    def post(self) -> None:
        self._exchange(self._upload())

    def pipeline(self) -> None:
        asks = [self._ask() for _ in range(self._random.randint(2, 4))]
        wire = self._connection()
        with contextlib.suppress(ConnectionError):
            wire.sock.sendall(b"".join(ask.head for ask in asks))
        for ask in asks:
            if self._wire is wire:  # it is still open
                self._judge(ask, read_response(wire, ask.method))

    def fault(self) -> None:
        """The origin breaks off."""
        act = self._random.choice(FAULTS)
        framed = self._random.choice([b"length", b"chunks"])
        self._exchange(self._random.choice([self._ask, self._upload])(act=act, framed=framed))

    def abort(self) -> None:
        """The client goes away, with FIN or RST."""
        phases = [self.in_head, self.after_head, self.in_body, self.before_response, self.in_response, self.in_upload]
        self._random.choice(phases)()
        self._drop(self._random.choice([reset, socket.socket.close]))

    def in_head(self) -> None:
        ask = self._ask()
        self.incomplete(ask)
        head = ask.head
        self._send(head[: self._random.randrange(1, len(head))])

    def after_head(self) -> None:
        ask = self._upload()
        self.incomplete(ask)
        self._send(ask.head)

    def in_body(self) -> None:
        ask = self._upload()
        self.incomplete(ask)
        self._send(ask.head + ask.sent_body[: len(ask.sent_body) // 2])

    def before_response(self) -> None:
        asks = [self._ask(act=b"slow") for _ in range(self._random.choice([1, 1, 1, 3]))]
        self._send(b"".join(ask.head for ask in asks))

    def in_response(self) -> None:
        ask = self._ask(size=BIG, framed=self._random.choice([b"length", b"chunks"]))
        wire = self._send(ask.head)
        if wire is not None:
            part = wire.some(100_000) if wire.more() else b""
            strange = b"X-Mark: " in part and b"X-Mark: %s\r\n" % ask.mark not in part
            if strange or marks(part) - {ask.mark}:
                self.leaks.append(f"{ask}: {part[:200]!r}")

    def in_upload(self) -> None:
        """It has its response already."""
        framed = self._random.choice([b"length", b"chunks"])
        ask = self._upload(act=b"early", size=100, framed=framed, chunked=False)._replace(body=b"")
        head = ask.head.replace(b"\r\n\r\n", b"\r\nContent-Length: 50000\r\n\r\n")
        wire = self._send(head + bytes(1000))
        if wire is not None:
            self._judge(ask, read_response(wire, ask.method))

    # What they are made of.

    def _ask(self, **more: Any) -> Ask:
        self._asked += 1
        choose = self._random.choice
        chosen: dict[str, Any] = {
            "size": choose(SIZES),
            "framed": choose([b"length", b"length", b"chunks", b"chunks", b"end"]),
            "act": choose([b""] * 8 + [b"slow", b"trickle"]),
        }
        return Ask(b"%s-%d" % (self.name.encode(), self._asked), **(chosen | more))

    def _upload(self, **more: Any) -> Ask:
        size = self._random.choice([1, 100, 5000, 60_000])
        ask = self._ask(**{"method": b"POST", "chunked": self._random.random() < 0.5} | more)
        return ask._replace(body=upload_of(ask.mark, size))

    def _connection(self) -> Wire:
        if self._wire is None or self._random.random() < 0.1:
            self._drop()
            sock = self._connect()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._wire = Wire(sock, size=self._random.choice([100, 1 << 16, 1 << 16]))
        return self._wire

    def _send(self, data: bytes) -> Wire | None:
        wire = self._connection()
        try:
            wire.sock.sendall(data)
        except ConnectionError:
            return None
        return wire

    def _exchange(self, ask: Ask) -> None:
        wire = self._connection()
        with contextlib.suppress(ConnectionError):  # an answer may have come before
            wire.sock.sendall(ask.head)
            wire.sock.sendall(ask.sent_body)
        self._judge(ask, read_response(wire, ask.method))

    def _judge(self, ask: Ask, response: Response | None) -> None:
        if response is None or not response.whole or response.closes:
            self._drop()
        if response is not None and (objection := ask.objection(response)):
            self.leaks.append(f"{ask}: {objection}")
        good = response is not None and response.whole and response.status == 200
        self.outcomes["good" if good else "bad"] += 1
        if not good and not ask.faulty and ask.method != b"POST":  # a POST may meet a connection that just ended
            self.failures.append(f"{ask}: {response and response.status}")

    def _drop(self, close: Callable[[socket.socket], None] = socket.socket.close) -> None:
        if self._wire is not None:
            close(self._wire.sock)
            self._wire = None


class MarkedClient(Moves, threading.Thread):
    """Asks and goes away, so many times."""

    def __init__(self, connect: Callable[[], socket.socket], name: str, requests: int, rng: random.Random):
        """Its marks begin with the name."""
        threading.Thread.__init__(self, name=name, daemon=True)
        Moves.__init__(self, connect, rng)
        self._requests = requests

    def run(self) -> None:
        while self._asked < self._requests and not self.leaks and len(self.failures) < 3:
            move = self.choose_move()
            try:
                self.make(move)
            except (NotHttp, TimeoutError) as error:
                self.failures.append(f"{move.__name__}, {self.name}-{self._asked}: {error!r}")
                self._drop()
        self._drop()

    def choose_move(self) -> Callable[[], None]:
        moves = [self.get, self.post, self.pipeline, self.abort, self.fault]
        return self._random.choices(moves, [40, 20, 10, 20, 4])[0]

    def make(self, move: Callable[[], None]) -> None:
        move()
