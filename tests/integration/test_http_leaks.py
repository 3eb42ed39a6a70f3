"""Thousands of marked requests over a handful of backend connections, mixed with aborts at every phase.

No response, and no part of one, reaches a client that did not ask for it.
"""

import contextlib
import os
import random
import socket
import threading
from collections import Counter

import pytest

from tests.support.ends import TIMEOUT, reset
from tests.support.http_marks import AFTERWARDS, BEFORE, MIDWAY, Ask, MarkedOrigin
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
REQUESTS = 3000
CLIENTS = 20
SEED = int(os.environ.get("GPROXY_TEST_SEED") or random.randrange(1 << 32))

SIZES = [0, 1, 60, 60, 500, 500, 4000, 4000, 20_000, 70_000]
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
        moves = [self.get, self.post, self.pipeline, self.abort, self.fault]
        while self._asked < self._requests and not self.leaks and len(self.failures) < 3:
            move = self._random.choices(moves, [40, 20, 10, 20, 4])[0]
            try:
                move()
            except (NotHttp, TimeoutError) as error:
                self.failures.append(f"{move.__name__}, {self.name}-{self._asked}: {error!r}")
                self._drop()
        self._drop()

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
            if b"X-Mark: " in part and b"X-Mark: %s\r\n" % ask.mark not in part:
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


def warmed_up(proxy: Gproxy) -> Client:
    """So many good requests that the retries' budget is not the smallest."""
    client = Client(proxy, "first", 0)
    for _ in range(60):
        client.get()
    client.run()
    return client


def run(proxy: Gproxy, clients: int, requests: int) -> list[Client]:
    threads = [Client(proxy, f"c{number}", requests // clients) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return threads


def test_no_response_reaches_another_client(tmp_path):
    print(f"GPROXY_TEST_SEED={SEED}")
    with MarkedOrigin("b1") as b1, MarkedOrigin("b2") as b2:
        with Gproxy(tmp_path, CONFIG, environ={"B1": b1.address, "B2": b2.address}) as proxy:
            clients = [warmed_up(proxy), *run(proxy, CLIENTS, REQUESTS)]
            outcomes = sum((client.outcomes for client in clients), Counter())
            leaks = [leak for client in clients for leak in client.leaks]
            assert not leaks, "\n".join(leaks[:20])
            failures = [failure for client in clients for failure in client.failures]
            assert not failures, "\n".join(failures[:20])
            assert outcomes["good"] > REQUESTS / 2
            assert "Traceback" not in proxy.log()
        assert b1.connections + b2.connections < REQUESTS / 2  # they were shared
