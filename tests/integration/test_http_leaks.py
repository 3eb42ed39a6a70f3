"""Thousands of marked requests over a handful of backend connections, mixed with aborts at every phase.

No response, and no part of one, reaches a client that did not ask for it: neither where every head is a new one,
nor where all are the same, and most exchanges go the plain way (gproxy/http/plain.py).
"""

import contextlib
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest

from tests.support.ends import TIMEOUT
from tests.support.http_marks import SLOW, Ask, Late, MarkedOrigin
from tests.support.http_moves import MarkedClient
from tests.support.http_wire import Wire, read_response
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

PLAIN_SIZES = [60, 60, 500, 500, 4000, 4000, 20_000, 70_000]
SMALL = 4000  # bytes: it is sent in one piece with what follows it


class Client(MarkedClient):
    def __init__(self, proxy: Gproxy, name: str, requests: int):
        connect = partial(proxy.connect, "web", TIMEOUT)
        super().__init__(connect, name, requests, random.Random(f"{SEED} {name}"))
        self._proxy = proxy


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
