"""Clients of http: those of tests/support/http_moves.py, with more moves, and a book of what they asked."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any

from soak.clients import Client
from soak.origin import LIES, lie_number
from soak.stage import Stage, Told
from tests.support.ends import reset
from tests.support.http_marks import Ask, upload_of
from tests.support.http_moves import Moves
from tests.support.http_wire import Response, Wire, read_response

LARGE = (300_000, 1_000_000, 3_000_000)  # bytes
SLOW_STEP = 64_000  # bytes that a slow reader takes at a time
PLAIN_SIZES = [60, 60, 500, 500, 4000, 4000, 20_000, 70_000]
UPGRADE = b"\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
PUT_AND_DELETE = (b"PUT", b"DELETE")


class HttpClient(Client, Moves):
    """`constant`: its heads, and those of its responses, are all alike but for the target."""

    def __init__(self, stage: Stage, listener: str, number: int, *, constant: bool):
        Client.__init__(self, stage, listener, number)
        Moves.__init__(self, self.connect, self.rng)
        self.leaks = self.violations
        self._constant = constant

    def moves(self) -> dict[Callable[[], None], int]:
        good: dict[Callable[[], None], int] = {
            self.get: 40, self.post: 20, self.pipeline: 8, self.put: 8, self.one_each: 8, self.download: 3,
            self.upload: 3, self.half_close: 3, self.upgrade: 3, self.idle: 1,
        }  # fmt: skip
        bad: dict[Callable[[], None], int] = {
            self.abort: 20, self.fault: 6, self.lie: 4, self.surplus: 2, self.slow_reader: 2, self.expect: 2,
        }  # fmt: skip
        return good | bad if self.stage.rough else good

    # Moves.

    def put(self) -> None:
        method = self._random.choice(PUT_AND_DELETE)
        self._exchange(self._upload(method=method) if method == b"PUT" else self._ask(method=method))

    def one_each(self) -> None:
        """A connection for one request, which the client or the server closes."""
        self._drop()
        ask = self._ask()
        self._say_and_judge(ask, b"\r\nConnection: close\r\n\r\n" if self._random.random() < 0.5 else b"\r\n\r\n")
        self._drop()

    def download(self) -> None:
        self._exchange(self._ask(size=self._random.choice(LARGE), act=b""))

    def upload(self) -> None:
        ask = self._upload(act=b"")
        self._exchange(ask._replace(body=upload_of(ask.mark, self._random.choice(LARGE))))

    def half_close(self) -> None:
        """Nothing more will come from the client, but it wants its response."""
        ask = self._random.choice([self._ask, self._upload])()
        wire = self._send(ask.head + ask.sent_body)
        if wire is not None:
            self._count_framing(ask)
            with contextlib.suppress(OSError):
                wire.sock.shutdown(socket.SHUT_WR)
            self._judge(ask, read_response(wire, ask.method))
            self._drop()

    def upgrade(self) -> None:
        """An echo in a tunnel."""
        self._drop()
        ask = self._ask(act=b"upgrade", method=b"GET")
        wire = self._send(ask.head.replace(b"\r\n\r\n", UPGRADE))
        response = None if wire is None else read_response(wire)
        if wire is None or response is None or response.status != 101:
            if response is not None and response.status < 500:
                self.violate(f"{ask}: {response.status} for an upgrade")
            self._note(ask, None)
            self._drop()
            return
        if response.fields.get(b"x-mark") != [ask.mark]:
            self.violate(f"{ask}: {response.fields}")
        self._note(ask, response)
        self._talk_in_tunnel(wire, ask)
        self._drop(reset if self.stage.rough and self._random.random() < 0.3 else socket.socket.close)

    def idle(self) -> None:
        self.stage.over.wait(min(self.stage.left, self._random.uniform(0.5, 2)))

    def lie(self) -> None:
        """The origin answers garbage, or too much, or too little."""
        number = self._random.randrange(len(LIES))
        lie = LIES[number]
        ask = self._ask(act=b"lie", size=number, method=lie.method)
        told = lie.numbered(lie_number(ask.mark))
        wire = self._send(ask.head)
        response = None if wire is None else read_response(wire, ask.method)
        if response is not None and response.whole and response.status < 500 and response.body not in told.bodies:
            self.violate(f"{ask}, {lie.name}: {response.status} with {bytes(response.body[:100])!r}")
        self.tell(ask.mark, Told.FAILED)
        if response is None or not response.whole or response.closes:
            self._drop()

    def surplus(self) -> None:
        """The origin sends a response more with the one it was asked for."""
        self._exchange(self._ask(act=b"surplus", size=60, framed=b"length"))

    def slow_reader(self) -> None:
        """Takes a large response a bit at a time."""
        self._drop()
        ask = self._ask(size=max(LARGE), act=b"")
        self._wire = Wire(self.connect(buffer=SLOW_STEP), size=SLOW_STEP)
        self._wire.sock.sendall(ask.head)
        got = 0
        while self.stage.left and got < ask.size // 2 and self._wire.more():
            got += SLOW_STEP
            self.stage.over.wait(self._random.random() * 0.05)
        self._judge(ask, read_response(self._wire, ask.method))

    def expect(self) -> None:
        """Asks whether the body is wanted, and sends it whatever is said."""
        ask = self._upload(act=b"")
        if ask.body:
            self._say_and_judge(ask, b"\r\nExpect: 100-continue\r\n\r\n")

    # What they are made of.

    def _ask(self, **more: Any) -> Ask:
        mark = self.new_mark(more.get("method", b"GET"))
        choose = self._random.choice
        framings = [b"length"] * 8 + [b"chunks", b"end"] if self._constant else [b"length", b"chunks", b"end"]
        acts = [b""] * 8 + [b"slow", b"trickle"]
        chosen: dict[str, Any] = {
            "size": choose(PLAIN_SIZES if self._constant else [0, 1, *PLAIN_SIZES]),
            "framed": choose(framings),
            "act": choose(acts),
            "constant": self._constant and more.get("act") != b"upgrade",
        }
        return Ask(mark, **(chosen | more))

    def incomplete(self, ask: Ask) -> None:
        self.tell(ask.mark, Told.INCOMPLETE)

    def _exchange(self, ask: Ask) -> None:
        self._say_and_judge(ask, b"\r\n\r\n")

    def _say_and_judge(self, ask: Ask, end: bytes) -> None:
        wire = self._connection()
        with contextlib.suppress(ConnectionError):  # an answer may have come before
            wire.sock.sendall(ask.head.replace(b"\r\n\r\n", end))
            wire.sock.sendall(ask.sent_body)
        self._count_framing(ask)
        self._judge(ask, read_response(wire, ask.method))

    def _count_framing(self, ask: Ask) -> None:
        self.traffic.framing += len(ask.sent_body) - len(ask.body)

    def _judge(self, ask: Ask, response: Response | None) -> None:
        if response is None or not response.whole or response.closes:
            self._drop()
        if response is not None and self.stage.rough and ask.framed == b"end":
            response.whole = False  # where a backend is killed, the end comes early, and looks like the end
        late = response is not None and response.status == 408 and ask.act == b"early"  # half a body, and no answer
        if response is not None and not late and (objection := ask.objection(response)):
            self.violate(f"{ask._replace(body=b'')}: {objection}")
        self._note(ask, response)

    def _note(self, ask: Ask, response: Response | None) -> None:
        good = response is not None and (response.status == 101 or (response.whole and response.status == 200))
        self.tell(ask.mark, Told.GOOD if good else Told.FAILED)
        if good and response is not None:
            self.traffic.good[f"{response.status // 100}xx"] += 1
        else:
            self.failed(f"{ask._replace(body=b'')}: {response and response.status}")
        self.counts["answered" if good else "not answered"] += 1

    def _talk_in_tunnel(self, wire: Wire, ask: Ask) -> None:
        for _ in range(self._random.randint(1, 5)):
            data = upload_of(ask.mark, self._random.choice([1, 1000, 100_000]))
            wire.sock.sendall(data)
            back = wire.exactly(len(data))
            if back != data:
                self.violate(f"{ask}: a tunnel's echo of {len(data)} bytes is another")
        if self._random.random() < 0.5:
            wire.sock.shutdown(socket.SHUT_WR)
            if rest := wire.rest():
                self.violate(f"{ask}: {len(rest)} bytes at a tunnel's end")

    def drop(self) -> None:
        self._drop()
