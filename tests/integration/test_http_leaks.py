"""Thousands of marked requests over a handful of backend connections, mixed with aborts at every phase.

No response, and no part of one, reaches a client that did not ask for it: neither where every head is a new one,
nor where all are the same, and most exchanges go the plain way (gproxy/http/plain.py).
"""

import contextlib
import os
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest

from tests.support.ends import TIMEOUT, reset
from tests.support.http_marks import AFTERWARDS, BEFORE, MIDWAY, SLOW, Ask, Late, MarkedOrigin, marks
from tests.support.http_wire import NotHttp, Response, Wire, read_response
from tests.support.proxy import Gproxy

pytestmark = pytest.mark.xdist_group("load")

CONFIG = """
log: {access: off}
listeners: [{name: web, mode: http, bind: "127.0.0.1:0", upstream: app}]
upstreams:
  app:
    health_check: {type: none}
    passive_health: {connect_failures: 0}
    pool: {size: 2}
    backends:
      - {name: b1, address: "${B1}", max_connections: 4}
      - {name: b2, address: "${B2}", max_connections: 4}
"""
# Without a limit: a limited backend is never used the plain way.
PLAIN_CONFIG = """
log: {access: off}
listeners: [{name: web, mode: http, bind: "127.0.0.1:0", upstream: app}]
upstreams:
  app:
    health_check: {type: none}
    passive_health: {connect_failures: 0}
    pool: POOL
    backends: [{name: b1, address: "${B1}"}, {name: b2, address: "${B2}"}]
"""
REQUESTS = 3000
CLIENTS = 20
SEED = int(os.environ.get("GPROXY_TEST_SEED") or random.randrange(1 << 32))

SIZES = [0, 1, 60, 60, 500, 500, 4000, 4000, 20_000, 70_000]
PLAIN_SIZES = [60, 60, 500, 500, 4000, 4000, 20_000, 70_000]
SMALL = 4000  # bytes: it is sent in one piece with what follows it
BIG = 400_000  # more than the buffers between an origin and a client hold
FAULTS = [act.encode() for act in (*BEFORE, *MIDWAY, *AFTERWARDS)]


class Client(threading.Thread):
    """Asks and goes away, as its own random numbers tell it."""

    def __init__(self, proxy: Gproxy, name: str, requests: int):
        super().__init__(name=name)
        self.outcomes: Counter[str] = Counter()
        self.leaks: list[str] = []
        self.failures: list[str] = []
        self._proxy = proxy
        self._requests = requests
        self._random = random.Random(f"{SEED} {name}")
        self._wire: Wire | None = None
        self._asked = 0

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
        head = self._ask().head
        self._send(head[: self._random.randrange(1, len(head))])

    def after_head(self) -> None:
        self._send(self._upload().head)

    def in_body(self) -> None:
        ask = self._upload()
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
        ask = self._upload(act=b"early", size=100, framed=framed)._replace(body=b"", chunked=False)
        head = ask.head.replace(b"\r\n\r\n", b"\r\nContent-Length: 50000\r\n\r\n")
        wire = self._send(head + bytes(1000))
        if wire is not None:
            self._judge(ask, read_response(wire, ask.method))

    # What they are made of.

    def _ask(self, **more) -> Ask:
        self._asked += 1
        choose = self._random.choice
        chosen = {
            "size": choose(SIZES),
            "framed": choose([b"length", b"length", b"chunks", b"chunks", b"end"]),
            "act": choose([b""] * 8 + [b"slow", b"trickle"]),
        }
        return Ask(b"%s-%d" % (self.name.encode(), self._asked), **(chosen | more))

    def _upload(self, **more) -> Ask:
        size = self._random.choice([1, 100, 5000, 60_000])
        body = b"%s-%d " % (self.name.encode(), self._asked)
        body = (body * (size // len(body) + 1))[:size]
        return self._ask(method=b"POST", body=body, chunked=self._random.random() < 0.5, **more)

    def _connection(self) -> Wire:
        if self._wire is None or self._random.random() < 0.1:
            self._drop()
            sock = self._proxy.connect("web", TIMEOUT)
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

    def _drop(self, close=socket.socket.close) -> None:
        if self._wire is not None:
            close(self._wire.sock)
            self._wire = None


class Turns:
    """Many may be at work together, or one alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._together = 0
        self._alone = 0  # who is, or waits to be

    @contextlib.contextmanager
    def together(self):
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._together += 1
        try:
            yield
        finally:
            with self._changed:
                self._together -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def alone(self):
        with self._changed:
            self._alone += 1
            self._changed.wait_for(lambda: not self._together)
            try:
                yield
            finally:
                self._alone -= 1
                self._changed.notify_all()


class PlainClient(Client):
    """Its requests differ in their targets and bodies alone, and so do the responses."""

    def __init__(self, turns: Turns, late: dict[bytes, Late], proxy: Gproxy, name: str, requests: int):
        super().__init__(proxy, name, requests)
        self._turns = turns
        self._late = late

    def choose_move(self) -> Callable[[], None]:
        moves = [self.get, self.post, self.pipeline, self.abort, self.fault, self.surplus, self.late]
        return self._random.choices(moves, [60, 10, 5, 15, 3, 3, 1])[0]

    def make(self, move: Callable[[], None]) -> None:
        with self._turns.alone() if move == self.late else self._turns.together():
            move()

    def surplus(self) -> None:
        """The origin sends a response more with the one it was asked for."""
        ask = self._ask(act=b"surplus", size=self._random.choice([60, SMALL]), framed=b"length")
        self._exchange(ask)

    def late(self) -> None:
        """The origin sends a response more when its connection is idle again: while nobody asks for anything, or in
        the midst of several requests, which gproxy comes to know together with it.
        """
        victims = [Wire(self._proxy.connect("web", TIMEOUT)) for _ in range(6)]
        with contextlib.ExitStack() as stack:
            for wire in victims:
                stack.enter_context(wire.sock)
                self._ask_over(wire)
            ask = self._ask(act=b"late", size=self._random.choice([60, SMALL]), framed=b"length")
            late = self._late[ask.mark] = Late()
            self._exchange(ask)
            asks = [self._ask(act=b"", size=60, framed=b"length") for _ in victims]
            time.sleep(self._random.random() * SLOW)
            at_once = self._random.random() < 0.7
            with self._proxy.stopped() if at_once else contextlib.nullcontext():
                before = len(victims) // 2 if at_once else 0
                for wire, other in zip(victims[:before], asks[:before], strict=True):
                    wire.sock.sendall(other.head)
                late.go.set()
                assert late.said.wait(TIMEOUT)
                for wire, other in zip(victims[before:], asks[before:], strict=True):
                    wire.sock.sendall(other.head)
            for wire, other in zip(victims, asks, strict=True):
                self._judge(other, read_response(wire))

    def _ask_over(self, wire: Wire) -> None:
        ask = self._ask(act=b"", size=60, framed=b"length")
        wire.sock.sendall(ask.head)
        self._judge(ask, read_response(wire))

    def _ask(self, **more) -> Ask:
        framed = self._random.choice([b"length"] * 8 + [b"chunks", b"end"])
        chosen = {"size": self._random.choice(PLAIN_SIZES), "framed": framed, "constant": True}
        return super()._ask(**(chosen | more))


MakeClient = Callable[[Gproxy, str, int], Client]


def warmed_up(proxy: Gproxy, make: MakeClient) -> Client:
    """So many good requests that the retries' budget is not the smallest."""
    client = make(proxy, "first", 0)
    for _ in range(60):
        client.get()
    client.run()
    return client


def run(proxy: Gproxy, make: MakeClient, clients: int, requests: int) -> list[Client]:
    threads = [make(proxy, f"c{number}", requests // clients) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return threads


def check(proxy: Gproxy, make: MakeClient) -> None:
    """No leak, and no failure that an origin did not cause."""
    clients = [warmed_up(proxy, make), *run(proxy, make, CLIENTS, REQUESTS)]
    outcomes = sum((client.outcomes for client in clients), Counter())
    leaks = [leak for client in clients for leak in client.leaks]
    assert not leaks, "\n".join(leaks[:20])
    failures = [failure for client in clients for failure in client.failures]
    assert not failures, "\n".join(failures[:20])
    assert outcomes["good"] > REQUESTS / 2
    assert "Traceback" not in proxy.log()


def test_no_response_reaches_another_client(tmp_path):
    print(f"GPROXY_TEST_SEED={SEED}")
    with MarkedOrigin("b1") as b1, MarkedOrigin("b2") as b2:
        with Gproxy(tmp_path, CONFIG, environ={"B1": b1.address, "B2": b2.address}) as proxy:
            check(proxy, Client)
        assert b1.connections + b2.connections < REQUESTS * 3 / 4  # they were shared


@pytest.mark.parametrize("pool", ["{size: 2}", "{size: 2, preconnect: 1}"])
def test_no_response_reaches_another_client_where_all_heads_are_alike(tmp_path, pool):
    print(f"GPROXY_TEST_SEED={SEED}")
    late: dict[bytes, Late] = {}
    make = partial(PlainClient, Turns(), late)
    with MarkedOrigin("b1", late) as b1, MarkedOrigin("b2", late) as b2:
        config = PLAIN_CONFIG.replace("POOL", pool)
        with Gproxy(tmp_path, config, environ={"B1": b1.address, "B2": b2.address}) as proxy:
            check(proxy, make)
        assert b1.connections + b2.connections < REQUESTS * 3 / 4  # they were shared
